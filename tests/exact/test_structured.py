"""Every exact engine for couplings with a structure, against enumeration of all states."""

import pytest
import torch
from _support.structures import STRUCTURES, enumerated, structured_batch

from qattn import IsingBatch, exact, kernels
from qattn.couplings import Banded, Couplings

TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-5}
EVERY = pytest.mark.parametrize("name", STRUCTURES)


def leaves(batch):
    return batch.h.clone().requires_grad_(), batch.J.values.clone().requires_grad_()


def with_leaves(batch, h, values):
    return IsingBatch(h, batch.J.with_values(values), batch.lengths, batch.beta)


@EVERY
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("compiled", [True, False])
def test_moments_of_random_lengths(name, n, dtype, compiled):
    batch = structured_batch(name, n, seed=n, dtype=dtype)
    log_Z, up, pairs = enumerated(batch, batch.h, batch.J.values)
    with kernels.disabled() if not compiled else torch.no_grad():
        found = exact.log_partition(batch), exact.occupations(batch), exact.pair_correlations(batch)
    for value, wanted in zip(found, (log_Z, up, pairs), strict=True):
        scale = max(1.0, float(wanted.abs().max()))
        assert (value - wanted).abs().max() <= TOLERANCE[dtype] * scale
    relative = (found[1] / up - 1)[up > 0].abs().max()
    assert relative <= 10 * TOLERANCE[dtype]


@pytest.mark.slow
@EVERY
def test_sixteen_spins(name):
    batch = structured_batch(name, 16, seed=1)
    log_Z, up, _ = enumerated(batch, batch.h, batch.J.values)
    assert (exact.log_partition(batch) - log_Z).abs().max() <= 1e-10
    assert (exact.occupations(batch) - up).abs().max() <= 1e-10


@EVERY
@pytest.mark.parametrize("what", ["log Z", "occupations", "normalised"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_gradients(name, what, dtype, tolerance):
    batch = structured_batch(name, 7, seed=3, dtype=dtype)
    weights = torch.randn(2, 4, 7, dtype=torch.float64)

    def loss(log_Z, up):
        if what == "log Z":
            return (log_Z * weights[..., 0]).sum()
        if what == "normalised":
            total = up.sum(-1, keepdim=True)
            up = up / total.masked_fill(total == 0, torch.inf)
        return (up.double() * weights).sum()

    h, values = leaves(batch)
    models = with_leaves(batch, h, values)
    normalize = what == "normalised"
    if what == "log Z":
        found = (exact.log_partition(models).double() * weights[..., 0]).sum()
    else:
        found = (exact.occupations(models, normalize=normalize).double() * weights).sum()
    grads = torch.autograd.grad(found, (h, values))
    h, values = leaves(batch)
    log_Z, up, _ = enumerated(batch, h, values)
    unused = {"allow_unused": True, "materialize_grads": True}  # the values of a band of width 0
    wanted = torch.autograd.grad(loss(log_Z, up), (h, values), **unused)
    for grad, right in zip(grads, wanted, strict=True):
        if grad.ndim == 4:  # the diagonal of a block stands for nothing
            right = right * (1 - torch.eye(grad.shape[-1]))
        torch.testing.assert_close(grad, right, rtol=tolerance, atol=tolerance)


@EVERY
def test_gradcheck(name):
    batch = structured_batch(name, 4, seed=5)

    def moments(h, values):
        if values.ndim == 4:  # symmetric, with zero diagonal
            values = values.triu(1) + values.triu(1).mT
        J = batch.J.with_values(values)
        models = IsingBatch(h, J, batch.lengths, batch.beta, validate=False)
        return exact.occupations(models), exact.log_partition(models)

    assert torch.autograd.gradcheck(moments, leaves(batch))


@EVERY
def test_members_of_a_vmap_are_groups(name):
    batch = structured_batch(name, 6, seed=7)
    h = torch.stack([batch.h, 0.5 * batch.h])
    values = torch.stack([batch.J.values, 0.3 * batch.J.values])

    def one(h, values):
        models = IsingBatch(
            h, batch.J.with_values(values), batch.lengths, batch.beta, validate=False
        )
        return exact.occupations(models, normalize=True)

    found = torch.func.vmap(one)(h, values)
    wanted = torch.stack([one(*member) for member in zip(h, values, strict=True)])
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@EVERY
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gradients_of_members_whose_groups_differ_in_lengths(name, dtype):
    batch = structured_batch(name, 6, seed=7, dtype=dtype)
    lengths = torch.stack([batch.lengths, batch.lengths.flip(0)])
    h = torch.stack([batch.h, 0.5 * batch.h])

    def loss(h):
        models = IsingBatch(h, batch.J, lengths, batch.beta, validate=False)
        return exact.occupations(models, normalize=True).square().sum()

    found = torch.func.vmap(torch.func.grad(loss))(h)
    wanted = torch.stack([torch.func.grad(loss)(member) for member in h])
    x = h[0].clone().requires_grad_()
    loss(x).backward()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[0], x.grad, rtol=1e-5, atol=1e-6)


@EVERY
def test_autocast_lowers_no_precision(name):
    batch = structured_batch(name, 6, seed=7, dtype=torch.float32)
    spins = exact.sample(batch, 3, seed=0).spins

    def results():
        quadratic = () if name == "potential" else batch.dense().scaled()
        return exact.pair_correlations(batch), exact.log_prob(batch, spins), *quadratic

    wanted = results()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, results(), wanted))


@EVERY
def test_a_query_that_is_not_finite_keeps_to_itself(name):
    batch = structured_batch(name, 6, seed=8, dtype=torch.float32)
    h = batch.h.clone()
    h[0, -1, 0] = torch.nan
    models = IsingBatch(h, batch.J, batch.lengths, batch.beta, validate=False)
    found, wanted = exact.occupations(models), exact.occupations(batch)
    assert found[0, -1].isnan().any()
    h[0, -1, 0] = torch.inf
    assert exact.occupations(models)[0, -1].isnan().any()
    assert exact.log_partition(models).isnan().nonzero().tolist() == [[0, 3]]
    found[0, -1] = wanted[0, -1]
    assert torch.equal(found.isnan(), torch.zeros_like(found, dtype=torch.bool))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)


@EVERY
@pytest.mark.parametrize("seed", [0, 1])
def test_independent_reads(name, seed):
    # 5 sigma with Bonferroni over 4 queries, 7 spins and 21 pairs of 2 groups; control: β = 1.
    reads, sigmas = 20_000, 6.2
    batch = structured_batch(name, 7, seed=seed)
    samples = exact.sample(batch, reads, seed=seed)
    assert bool((samples.spins == 0).eq(~batch.active.unsqueeze(2)).all())
    again = exact.sample(batch, reads, seed=seed)
    assert torch.equal(samples.spins, again.spins)
    for models, fits in ((batch, True), (IsingBatch(3 * batch.h, batch.J, batch.lengths), False)):
        pairs = exact.pair_correlations(models)
        mean = 2 * exact.occupations(models) - models.active.double()
        worst = 0.0
        for found, wanted in (
            (samples.mean_spins(torch.float64), mean),
            (samples.pair_correlations(torch.float64), pairs),
        ):
            error = ((1 - wanted**2).clamp_min(1e-12) / reads).sqrt()
            worst = max(worst, float(((found - wanted).abs() / (error + 1 / reads)).max()))
        assert (worst < sigmas) == fits


@EVERY
def test_log_probabilities_sum_to_one(name):
    batch = structured_batch(name, 5, seed=9)
    states = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 5)
    full = IsingBatch(batch.h, batch.J, beta=0.7)
    log_p = exact.log_prob(full, states.expand(2, 4, -1, -1))
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(2, 4, dtype=torch.float64))


def test_small_weights_keep_their_digits():
    scores = torch.linspace(-40, -30, 12)
    batch = IsingBatch(scores.expand(1, 1, 12) / 2, Banded(torch.zeros(1, 12, 3)))
    torch.testing.assert_close(exact.occupations(batch)[0, 0], scores.sigmoid(), rtol=1e-5, atol=0)
    far = IsingBatch(batch.h - 60, batch.J)
    weights = exact.occupations(far, normalize=True)[0, 0]
    torch.testing.assert_close(weights, scores.softmax(0), rtol=1e-5, atol=0)


@EVERY
def test_normalised_weights_below_the_range_of_float32(name):
    batch = structured_batch(name, 5, seed=2, dtype=torch.float32)
    h, values = batch.h - 60, torch.zeros_like(batch.J.values)  # potentials, too, are free
    models = IsingBatch(h, batch.J.with_values(values), batch.lengths)
    weights = exact.occupations(models, normalize=True)
    wanted = (2 * h).masked_fill(~batch.active, -torch.inf).softmax(-1).nan_to_num(0.0)
    torch.testing.assert_close(weights, wanted, rtol=2e-5, atol=1e-7)


@EVERY
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_queries_without_spins(name, dtype):
    batch = structured_batch(name, 4, seed=2, dtype=dtype)
    h, values = leaves(batch)
    none = torch.zeros(4, dtype=torch.int64)
    models = IsingBatch(h, batch.J.with_values(values), none)
    up = exact.occupations(models, normalize=True)
    grads = torch.autograd.grad(up.sum(), (h, values))
    assert not any(bool(x.any()) for x in (up, *grads, exact.sample(models, 3, seed=0).spins))
    assert not exact.error_bound(models).any()


@EVERY
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_whatever_the_default_device(name, dtype):
    batch = structured_batch(name, 6, seed=4, dtype=dtype)

    def results():
        h, values = leaves(batch)
        models = with_leaves(batch, h, values)
        up = exact.occupations(models)
        grads = torch.autograd.grad(up.sum() + exact.log_partition(models).sum(), (h, values))
        pairs, bound = exact.pair_correlations(models), exact.error_bound(models)
        return up, *grads, pairs, bound, exact.sample(models, 2, seed=0).spins

    wanted = results()
    with torch.device("meta"):
        found = results()
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_wide_band_is_enumerated_or_refused():
    torch.manual_seed(0)
    values = 0.2 * torch.randn(2, 12, 30, dtype=torch.float64)
    batch = IsingBatch(torch.randn(2, 2, 12, dtype=torch.float64), Banded(values))
    log_Z, up, pairs = enumerated(batch, batch.h, values)
    torch.testing.assert_close(exact.log_partition(batch), log_Z)
    torch.testing.assert_close(exact.occupations(batch), up)
    torch.testing.assert_close(exact.pair_correlations(batch), pairs)
    long = IsingBatch(torch.zeros(1, 1, 100), Banded(torch.zeros(1, 100, 30)))
    with pytest.raises(MemoryError, match=r"band of width 30 needs about .* smaller width"):
        exact.occupations(long)


def test_an_engine_says_what_has_none():
    class Strange(Couplings):
        kind = "strange"
        values = torch.zeros(1, 2)
        num_spins = 2

        def dense(self):
            return torch.zeros(1, 2, 2)

        def matvec(self, s):
            return torch.zeros_like(s)

        def leading(self, num_spins):
            return self

        def scaled(self, beta):
            return self

    with pytest.raises(ValueError, match=r"no exact engine for couplings of kind 'strange'.*dense"):
        exact.occupations(IsingBatch(torch.zeros(1, 1, 2), Strange()))


@EVERY
def test_sums_too_small_for_float32_are_divided_by(name):
    batch = structured_batch(name, 6, seed=5, dtype=torch.float32)
    h, values = (batch.h - 80).requires_grad_(), batch.J.values.requires_grad_()
    precise = h.detach().double().requires_grad_(), values.detach().double().requires_grad_()
    found = exact.occupations(with_leaves(batch, h, values), normalize=True)
    up = enumerated(batch, *precise)[1]
    total = up.sum(-1, keepdim=True)
    assert (total[batch.num_active > 0] < torch.finfo(torch.float32).tiny).any()
    wanted = up / total.masked_fill(total == 0, torch.inf)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    for value, other in zip((h, values), precise, strict=True):
        if value.numel():
            torch.testing.assert_close(value.grad.double(), other.grad, rtol=1e-3, atol=1e-4)
