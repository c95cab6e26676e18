"""Tree decomposition against enumeration, a transfer matrix and D-Wave's library."""

import math

import dimod
import pytest
import torch
from _support.peak_memory import PeakMemory
from dwave.samplers import TreeDecompositionSampler
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn import IsingBatch, exact
from qattn.exact import elimination, memory, tree
from qattn.ising.states import states
from qattn.testing import deviation_from_exact


def coupled(n, edges, *, groups=1, queries=1, field=1.0, scale=1.0, seed=0, **options):
    """Gaussian fields, and couplings on some pairs."""
    generator = torch.Generator().manual_seed(seed)
    h = field * torch.randn(groups, queries, n, generator=generator, dtype=torch.float64)
    J = torch.zeros(groups, n, n, dtype=torch.float64)
    for j, k in edges:
        J[:, j, k] = J[:, k, j] = scale * torch.randn(groups, generator=generator).double()
    return IsingBatch(h, J, **options)


def lattice(rows, columns, periodic=False):
    """Pairs of neighbours of a square lattice, its sites numbered row by row."""
    pairs = set()
    for r in range(rows):
        for c in range(columns):
            for down, right in ((1, 0), (0, 1)):
                if periodic or (r + down < rows and c + right < columns):
                    other = (r + down) % rows * columns + (c + right) % columns
                    pairs.add((r * columns + c, other))
    return sorted(pairs)


def sparse(n, probability, seed):
    chosen = torch.rand(n, n, generator=torch.Generator().manual_seed(seed)) < probability
    return [(j, k) for j in range(n) for k in range(j) if chosen[j, k]]


GRAPHS = {
    "no pairs": (7, []),
    "one spin": (1, []),
    "tree": (12, [(v, (v - 1) // 2) for v in range(1, 12)]),
    "ring": (11, [(v, (v + 1) % 11) for v in range(11)]),
    "band": (12, [(j, k) for j in range(12) for k in range(max(0, j - 3), j)]),
    "lattice": (12, lattice(3, 4)),
    "torus": (12, lattice(3, 4, periodic=True)),
    "two parts": (11, [(j, k) for j in range(6) for k in range(j)] + [(8, 9), (9, 10)]),
    "complete": (9, [(j, k) for j in range(9) for k in range(j)]),
    "sparse": (13, sparse(13, 0.3, seed=4)),
}


def agrees_with_enumeration(batch, tolerance=1e-11):
    found = tree.moments(batch)
    assert found.mean.dtype == found.log_Z.dtype == batch.h.dtype
    pairs = exact.pair_correlations(batch)
    known = (batch.J != 0).unsqueeze(1) | torch.eye(batch.num_spins, dtype=torch.bool)
    torch.testing.assert_close(found.log_Z, exact.log_partition(batch), rtol=tolerance, atol=1e-12)
    torch.testing.assert_close(found.mean, exact.mean_spins(batch), rtol=0, atol=tolerance)
    torch.testing.assert_close(found.pairs, pairs * known, rtol=0, atol=tolerance)


@pytest.mark.parametrize("field", [0.0, 1.0])
@pytest.mark.parametrize("graph", GRAPHS)
def test_agrees_with_enumeration(graph, field):
    n, edges = GRAPHS[graph]
    agrees_with_enumeration(coupled(n, edges, groups=2, queries=3, field=field, beta=0.8))


@given(
    n=st.integers(1, 10),
    probability=st.floats(0, 1),
    scale=st.sampled_from([0.1, 1.0, 5.0, 100.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40)
def test_agrees_with_enumeration_on_any_graph(n, probability, scale, seed):
    lengths = torch.randint(0, n + 1, (3,), generator=torch.Generator().manual_seed(seed))
    batch = coupled(n, sparse(n, probability, seed), queries=3, scale=scale, seed=seed)
    agrees_with_enumeration(IsingBatch(batch.h, batch.J, lengths, 0.7), tolerance=1e-10)


def test_groups_may_differ_in_graph_beta_and_lengths():
    batch = coupled(8, GRAPHS["tree"][1][:7], groups=3, queries=2)
    J = batch.J.clone()
    J[1, 0, 7] = J[1, 7, 0] = 0.4
    lengths = torch.tensor([[8, 3], [5, 0], [1, 8]])
    agrees_with_enumeration(IsingBatch(batch.h, J, lengths, torch.tensor([1.0, 0.5, 0.0]).double()))
    single = IsingBatch(batch.h.float(), J.float(), lengths)
    agrees_with_enumeration(single, tolerance=2e-6)


def transfer_matrix_log_Z(h, J, length):
    """log Z of a torus: the trace of a product of 2^L x 2^L matrices, one a row, scaled."""
    S = states(length, torch.float64, torch.device("cpu"))
    product, log_scale = torch.eye(len(S), dtype=torch.float64), 0.0
    for r in range(length):
        row = torch.arange(r * length, (r + 1) * length)
        below = (row + length) % length**2
        within = S @ h[row] + sum(
            J[row[c], row[(c + 1) % length]] * S[:, c] * S[:, (c + 1) % length]
            for c in range(length)
        )
        exponent = within[:, None] + (S * J[row, below]) @ S.T
        product = product @ (exponent - exponent.max()).exp()
        log_scale += float(exponent.max()) + float(product.max().log())
        product /= product.max()
    return float(product.diagonal().sum().log()) + log_scale


@pytest.mark.parametrize("beta", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("kind", ["Gaussian", "±J", "±J in fields"])
def test_torus_agrees_with_its_transfer_matrix(kind, beta):
    batch = coupled(64, lattice(8, 8, periodic=True), field=float(kind == "±J in fields"), seed=5)
    J = batch.J if kind == "Gaussian" else batch.J.sign()
    batch = IsingBatch(batch.h, J, beta=beta)
    expected = transfer_matrix_log_Z(beta * batch.h[0, 0], beta * J[0], 8)
    log_Z = float(tree.moments(batch).log_Z)
    assert log_Z == pytest.approx(expected, rel=1e-12)
    wrong = batch.J.clone()
    wrong[0, 0, 1] = wrong[0, 1, 0] = -wrong[0, 0, 1]
    log_Z = float(tree.moments(IsingBatch(batch.h, wrong, beta=beta)).log_Z)
    assert log_Z != pytest.approx(expected, rel=1e-6)


def test_agrees_with_the_library():
    batch = coupled(100, lattice(10, 10), beta=3.0)
    bqm = dimod.BinaryQuadraticModel(
        batch.dimod_biases()[0][0],
        {(j, k): -float(batch.J[0, j, k]) for j, k in lattice(10, 10)},
        "SPIN",
    )
    order = list(elimination.elimination_of(batch.J[0] != 0).order)
    info = TreeDecompositionSampler().sample(bqm, elimination_order=order, beta=3.0, seed=1).info
    found = tree.moments(batch)
    assert float(found.log_Z) == pytest.approx(info["log_partition_function"], rel=1e-13)
    for v, p in info["variable_marginals"].items():
        assert float(found.mean[0, 0, v]) == pytest.approx(2 * p - 1, abs=1e-11)
    for (j, k), p in info["interaction_marginals"].items():
        expected = sum(s * t * weight for (s, t), weight in p.items())
        assert float(found.pairs[0, 0, j, k]) == pytest.approx(expected, abs=1e-11)


def test_strong_couplings_do_not_overflow():
    # Two parts that want opposite signs, e^1000 against e^1500: products of float64 would be 0.
    J = torch.zeros(1, 5, 5, dtype=torch.float64)
    J[0].diagonal(1).fill_(2000.0)
    h = torch.tensor([[[-500.0, 0, 0, 0, 750.0]]], dtype=torch.float64)
    found = tree.moments(IsingBatch(h, J + J.mT))
    assert float(found.log_Z) == pytest.approx(8250.0)
    assert found.mean.tolist() == [[[1.0] * 5]]


def test_gradients_agree_with_enumeration():
    beta = torch.tensor([0.7, 1.3], dtype=torch.float64)
    batch = coupled(12, GRAPHS["torus"][1], groups=2, queries=3, lengths=torch.tensor([12, 7, 1]))
    g = torch.randn(batch.h.shape, generator=torch.Generator().manual_seed(1)).double()
    gradients = []
    for mean_spins in (exact.mean_spins, lambda batch: tree.moments(batch).mean):
        inputs = [x.clone().requires_grad_() for x in (batch.h, batch.J, beta)]
        h, J, b = inputs
        model = IsingBatch(h, J, batch.lengths, b, validate=False)
        value = (mean_spins(model) * g).sum()
        gradients.append(torch.autograd.grad(value, inputs))
    (h, J, b), found = gradients
    # Derivatives in couplings of 0 are not known.
    expected = (h, J * (batch.J != 0), b)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_gradients_are_those_of_the_values():
    batch = coupled(6, [*GRAPHS["ring"][1][:5], (5, 0)], queries=2)
    known = batch.J != 0

    def values(h, J):
        J = (J + J.mT) / 2 * known
        return tree.moments(IsingBatch(h, J, torch.tensor([6, 4]), validate=False))

    inputs = batch.h.clone().requires_grad_(), batch.J.clone().requires_grad_()
    assert torch.autograd.gradcheck(values, inputs)


def test_reads_are_independent_and_exact():
    lengths = torch.tensor([12, 5, 9])
    batch = coupled(12, GRAPHS["torus"][1], groups=2, queries=3, lengths=lengths, beta=0.6)
    samples = tree.sample(batch, 20_000, seed=3)
    deviation = deviation_from_exact(samples, batch)
    assert deviation.sigmas < deviation.bound
    assert bool((samples.spins == 0).eq(~batch.active.unsqueeze(2)).all())
    torch.testing.assert_close(samples.info["log_Z"], exact.log_partition(batch))
    hotter = IsingBatch(batch.h, batch.J, lengths, 0.5)
    deviation = deviation_from_exact(samples, hotter)
    assert deviation.sigmas > deviation.bound
    # Neighbouring reads are independent: their overlap is Σ ⟨s⟩².
    s = samples.spins[:, 0].double()
    overlap = (s[:, :-1] * s[:, 1:]).sum(-1)
    expected = exact.mean_spins(batch)[:, 0].square().sum(-1)
    error = overlap.std(1) / math.sqrt(overlap.shape[1])
    assert bool(((overlap.mean(1) - expected).abs() < 5 * error).all())


def test_every_state_comes_as_often_as_it_should():
    batch = coupled(4, [*GRAPHS["ring"][1][:3], (3, 0)])
    spins = tree.sample(batch, 50_000, seed=1).spins[0, 0]
    number = ((spins > 0) * (1 << torch.arange(4))).sum(-1)
    S = states(4, torch.float64, torch.device("cpu"))
    p = exact.log_prob(batch, S[None, None])[0, 0].exp()
    z = (number.bincount(minlength=16) - 50_000 * p) / (50_000 * p * (1 - p)).sqrt()
    assert float(z.abs().max()) < 5


def test_seeds_fix_reads():
    batch = coupled(30, GRAPHS["tree"][1] + [(20, 21)])
    one, same, other = (tree.sample(batch, 50, seed=seed).spins for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    torch.manual_seed(4)
    unseeded = [tree.sample(batch, 50).spins for _ in range(2)]
    torch.manual_seed(4)
    assert torch.equal(tree.sample(batch, 50).spins, unseeded[0])
    assert not torch.equal(*unseeded)


def test_chunks_do_not_change_values(monkeypatch):
    batch = coupled(12, GRAPHS["lattice"][1], groups=2, queries=5)
    whole, reads = tree.moments(batch), tree.sample(batch, 100, seed=1)
    monkeypatch.setattr(tree, "CHUNK_ENTRIES", 1)
    for one, other in zip(tree.moments(batch), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-14)
    monkeypatch.setattr(tree, "CHUNK_READS", 7 * 12)
    samples = tree.sample(batch, 100, seed=1)
    assert samples.spins.shape == reads.spins.shape
    assert bool((samples.spins.abs() == 1).all())


WIDTHS = {
    "tree": (1, GRAPHS["tree"]),
    "no pairs": (0, GRAPHS["no pairs"]),
    "ring": (2, GRAPHS["ring"]),
    "band": (3, GRAPHS["band"]),
    "complete": (8, GRAPHS["complete"]),
    "lattice": (7, (60, lattice(6, 10))),
    "torus": (16, (64, lattice(8, 8, periodic=True))),
    "open 16 x 16": (21, (256, lattice(16, 16))),  # 2^22.7 numbers; row by row 2^24
    "open 20 x 20": (20, (400, lattice(20, 20))),  # row by row
}


@pytest.mark.parametrize("graph", WIDTHS)
def test_widths(graph):
    width, (n, edges) = WIDTHS[graph]
    batch = coupled(n, edges)
    found = elimination.elimination_of(batch.J[0] != 0)
    assert found.width <= width
    assert tree.treewidth(batch) == found.width
    assert sorted(found.order) == list(range(n))
    # Every edge is in the scope of the end that goes first.
    scopes = dict(zip(found.order, found.scopes, strict=True))
    assert all(j in scopes[k] or k in scopes[j] for j, k in edges)
    # A scope without its first spin is within that spin's scope.
    assert all(set(s[1:]) <= set(scopes[s[0]]) for s in found.scopes if s)


def test_zero_couplings_are_no_edges():
    assert tree.treewidth(coupled(40, [(j, k) for j in range(40) for k in range(j)], scale=0)) == 0
    hot = coupled(40, [(j, k) for j in range(40) for k in range(j)], beta=0.0)
    assert float(tree.moments(hot).log_Z) == pytest.approx(40 * math.log(2))


def test_what_is_too_wide_is_refused_with_its_width():
    complete = coupled(30, [(j, k) for j in range(30) for k in range(j)])
    with pytest.raises(
        ValueError, match=r"treewidth up to 25, .* 30 spins has treewidth at least 29"
    ):
        tree.moments(complete)
    torus = coupled(196, lattice(14, 14, periodic=True))
    with pytest.raises(ValueError, match=r"of its 196 spins has width (2[6-9]|3\d) .* backend"):
        tree.sample(torus, 10)


def test_what_does_not_fit_is_refused_with_its_bytes(monkeypatch):
    monkeypatch.setattr(memory, "MEMORY_LIMIT", 2**20)
    with pytest.raises(MemoryError, match=r"needs about 0\.0\d+ GiB, and the limit is 0\.000977"):
        tree.moments(coupled(64, lattice(8, 8, periodic=True)))
    # A backward pass keeps the tables of all problems.
    monkeypatch.setattr(memory, "MEMORY_LIMIT", 2**22)
    many = coupled(40, lattice(4, 10), queries=200)
    tree.moments(many)
    with pytest.raises(MemoryError, match="tree decomposition needs"):
        tree.moments(IsingBatch(many.h.requires_grad_(), many.J))


def test_arguments_are_checked():
    batch = coupled(3, [(0, 1)])
    with pytest.raises(ValueError, match="`num_reads` must be positive, but is 0"):
        tree.sample(batch, 0)
    broken = IsingBatch(batch.h * math.nan, batch.J, validate=False)
    with pytest.raises(ValueError, match="`h` must be finite"):
        tree.moments(broken)


@pytest.mark.parametrize("is_differentiated", [False, True])
@pytest.mark.parametrize("graph", ["torus", "open 16 x 16", "open 14 x 14, row by row"])
def test_the_memory_that_is_announced_suffices(graph, is_differentiated, monkeypatch):
    rows = {"torus": 8, "open 16 x 16": 16}.get(graph, 14)
    edges = lattice(rows, rows, periodic=graph == "torus")
    if graph.endswith("row by row"):
        monkeypatch.setattr(elimination, "TRIES", 0)
    elimination._best.cache_clear()
    batch = coupled(rows**2, edges)
    needs = []
    monkeypatch.setattr(tree, "_check_memory", needs.append)
    h = batch.h.requires_grad_(is_differentiated)
    with PeakMemory() as measured:
        mean = tree.moments(IsingBatch(h, batch.J)).mean
        if is_differentiated:
            mean.sum().backward()
    elimination._best.cache_clear()
    assert measured.peak < needs[0] < 4 * measured.peak
