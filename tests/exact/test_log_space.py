"""The fallback to log space, for couplings and fields of hundreds that oppose each other."""

import pytest
import torch
from _support.brute_force import expectations, random_couplings

from qattn import IsingBatch, exact
from qattn.exact.dense import enumeration
from qattn.exact.dense.autograd import solve
from qattn.exact.dense.layout import cut


def competing(n=6, lengths=None):
    """Two spins in fields of 450 against a coupling of -500, the others random: beyond float64.

    The states of the largest weight are far from the maxima of u and v. A query of fewer than four
    spins holds only one of the two, so a product holds it.
    """
    torch.manual_seed(n)
    J = random_couplings(2, n, 0.8, dtype=torch.float64)
    J[:, 0, 3] = J[:, 3, 0] = -500.0
    h = torch.randn(2, 5, n, dtype=torch.float64)
    h[..., [0, 3]] = 450.0
    return IsingBatch(h, J, lengths)


LENGTHS = [None, torch.tensor([5, 4, 6, 3, 0]), torch.tensor([[4, 6, 6, 1, 5], [6, 4, 2, 0, 6]])]


def uses_log_space(batch):
    lay = cut(batch.lengths, batch.num_groups, batch.num_queries, batch.num_spins)
    order = slice(None) if lay.order is None else lay.order
    return solve(batch.h[:, order], batch.J, lay).scale == 0


@pytest.mark.parametrize("chunk", [None, 300])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_moments_and_gradients_equal_brute_force(lengths, chunk, monkeypatch):
    batch = competing(lengths=lengths)
    assert uses_log_space(batch).sum() >= 5
    if chunk is not None:
        monkeypatch.setattr(enumeration, "CHUNK_ELEMENTS", chunk)
    expected = expectations(batch, batch.h, batch.J)
    torch.testing.assert_close(exact.log_partition(batch), expected.log_Z)
    torch.testing.assert_close(exact.mean_spins(batch), expected.mean)
    torch.testing.assert_close(exact.pair_correlations(batch), expected.pairs)
    to_log_Z, to_mean = torch.randn_like(expected.log_Z), torch.randn_like(expected.mean)
    grads = []
    for engine in (True, False):
        h, upper = batch.h.clone().requires_grad_(), batch.J.triu(1).requires_grad_()
        J = upper.triu(1) + upper.triu(1).mT
        if engine:
            same = IsingBatch(h, J, lengths)
            log_Z, mean = exact.log_partition(same), exact.mean_spins(same)
        else:
            log_Z, mean, _ = expectations(batch, h, J)
        loss = (log_Z * to_log_Z).sum() + (mean * to_mean).sum()
        grads.append(torch.autograd.grad(loss, (h, upper)))
    for engine, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(engine, wanted)


@pytest.mark.parametrize("chunk", [enumeration.CHUNK_ELEMENTS, 300])
def test_reads_follow_the_distribution(chunk, monkeypatch):
    # 5 sigma for 54 means; spins 1 and 2 are free to be either, so an error of a chunk shows.
    monkeypatch.setattr(enumeration, "CHUNK_ELEMENTS", chunk)
    batch = competing(lengths=torch.tensor([5, 4, 6, 3, 6]))
    num_reads = 4000
    mean = exact.sample(batch, num_reads, seed=0).mean_spins(torch.float64)
    expected = expectations(batch, batch.h, batch.J).mean
    sigma = ((1 - expected**2).clamp_min(0) / num_reads).sqrt()
    assert ((mean - expected).abs() <= 5 * sigma + 1e-9).all()


def test_enumeration_in_chunks_is_the_same(monkeypatch):
    batch = competing(8)
    sizes = []
    log_weights = enumeration.log_weights

    def counted(models):
        chunks = list(log_weights(models))
        sizes.append(len(chunks))
        return chunks

    monkeypatch.setattr(enumeration, "log_weights", counted)
    whole = exact.mean_spins(batch), exact.sample(batch, 50, seed=1).spins
    assert set(sizes) == {1}
    monkeypatch.setattr(enumeration, "CHUNK_ELEMENTS", 300)
    torch.testing.assert_close(exact.mean_spins(batch), whole[0])
    assert (exact.sample(batch, 50, seed=1).spins == whole[1]).all()
    assert max(sizes) > 4
