"""Gradients from reads: unbiased, honest about weights, and with the promised variance."""

import functools
import math

import pytest
import torch

from qattn import IsingBatch, SpinSamples, exact
from qattn.backends import Backend, ExactBackend
from qattn.estimators import (
    available_estimators,
    draw,
    expectation,
    hard_patterns,
    mean_spins,
    mean_spins_from,
    surrogate,
)
from qattn.ising.states import states

SAMPLING = ("callen", "moment", "score")
SIGMAS = 5.0


def random_model(groups, queries, spins, seed=0, fields=0.3, strength=1.0):
    generator = torch.Generator().manual_seed(seed)
    h = fields * torch.randn(groups, queries, spins, generator=generator, dtype=torch.float64)
    J = torch.randn(groups, spins, spins, generator=generator, dtype=torch.float64).triu(1)
    return h, (J + J.mT) * strength / math.sqrt(spins)


class Enumeration(Backend):
    """All states, each as often as it occurs among 1e12 reads."""

    def sample(self, batch, *, num_reads, seed=None):
        G, Q, n = batch.h.shape
        s = states(n, torch.int8, torch.device("cpu")).expand(G, Q, -1, -1)
        absent = ~batch.active.expand(G, Q, n).unsqueeze(2)
        weights = 1e12 * exact.log_prob(batch, s).exp() / 2.0 ** absent.sum(-1)
        return SpinSamples(s.masked_fill(absent, 0), weights)


def gradients(function, *parameters, weights):
    """Derivatives of (function(batch)·weights).sum() in h, J and, if given, β."""
    leaves = [p.clone().requires_grad_() for p in parameters]
    (weights * function(*leaves)).sum().backward()
    return [leaf.grad for leaf in leaves]


# Given all states with their probabilities, every estimator is exact


@pytest.mark.parametrize("estimator", SAMPLING)
@pytest.mark.parametrize("lengths", [None, [[4, 1, 0], [2, 5, 3]]])
def test_all_states_give_the_exact_gradient(estimator, lengths):
    h, J = random_model(2, 3, 5, fields=1.0, strength=2.0)
    beta = torch.tensor([0.7, 1.4], dtype=torch.float64)
    lengths = None if lengths is None else torch.tensor(lengths)
    weights = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def estimate(h, J, beta):
        batch = IsingBatch(h, J, lengths, beta)
        return mean_spins(batch, Enumeration(), num_reads=2, estimator=estimator)

    def reference(h, J, beta):
        return exact.mean_spins(IsingBatch(h, J, lengths, beta))

    torch.testing.assert_close(estimate(h, J, beta), reference(h, J, beta), atol=1e-9, rtol=0)
    estimates = gradients(estimate, h, J, beta, weights=weights)
    expected = gradients(reference, h, J, beta, weights=weights)
    for a, b in zip(estimates, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_callen_holds_for_strong_couplings(dtype):
    """Couplings of 40 that oppose fields of 30: nothing overflows, and the answer is exact."""
    h, J = (x.to(dtype) for x in random_model(1, 4, 4, fields=30.0, strength=80.0))
    weights = torch.ones(1, 4, 4, dtype=dtype)
    estimates, expected = (
        gradients(f, h, J, weights=weights)
        for f in (
            lambda h, J: mean_spins(IsingBatch(h, J), Enumeration(), estimator="callen"),
            lambda h, J: exact.mean_spins(IsingBatch(h, J)),
        )
    )
    for a, b in zip(estimates, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("strength", [10.0, 300.0])
def test_callen_holds_for_reads_that_the_model_forbids(strength):
    """All states equally often: in single precision their odds, e^-100 and less, vanish.

    At strength 10 double precision still holds them, so that the two formulas for a pair meet.
    """
    h, J = random_model(2, 3, 5, fields=strength, strength=strength * math.sqrt(5))
    s = states(5, torch.int8, h.device).expand(2, 3, -1, -1)
    weights = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    single, double = (
        gradients(
            lambda h, J: mean_spins_from(SpinSamples(s), IsingBatch(h, J), estimator="callen"),
            h.to(dtype),
            J.to(dtype),
            weights=weights.to(dtype),
        )
        for dtype in (torch.float32, torch.float64)
    )
    for a, b in zip(single, double, strict=True):
        torch.testing.assert_close(a.double(), b, atol=3e-5, rtol=0)


# Independent reads: unbiased


@functools.cache
def repeated_gradients(estimator, reads=5, repetitions=20_000, spins=8, seed=3):
    """Gradients of Σ g⟨s⟩ in h and J from `repetitions` independent sets of few reads."""
    h, J = random_model(1, 1, spins, fields=0.3, strength=1.0)
    g = torch.randn(spins, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    H = h.expand(repetitions, 1, spins)
    estimates = gradients(
        lambda H, J: mean_spins(
            IsingBatch(H, J, validate=False),
            ExactBackend(),
            num_reads=reads,
            estimator=estimator,
            seed=seed,
        ),
        H,
        J.expand(repetitions, spins, spins),
        weights=g,
    )
    return h, J, g, estimates


def largest_z(estimates, expected):
    """Largest deviation of the mean over repetitions, in its own standard errors, and the mean."""
    error = estimates.std(0) / math.sqrt(len(estimates))
    chosen = error > 1e-9  # the diagonal of J has no gradient but rounding
    return float(((estimates.mean(0) - expected).abs() / error)[chosen].max())


@pytest.mark.parametrize("estimator", SAMPLING)
def test_gradients_are_unbiased(estimator):
    """20,000 sets of 5 reads; 8 + 28 values at 5 sigma, two-sided: a false alarm in 50,000.

    With so few reads a missing factor reads/(reads - 1) is a bias of a quarter. Negative
    control: the exact gradient at a β that is 10% off.
    """
    h, J, g, estimates = repeated_gradients(estimator)
    for beta, right in ((1.0, True), (1.1, False)):
        expected = gradients(
            lambda h, J, beta=beta: exact.mean_spins(IsingBatch(beta * h, beta * J)),
            h,
            J,
            weights=g,
        )
        for values, reference in zip(estimates, expected, strict=True):
            assert (largest_z(values, reference[0]) < SIGMAS) is right
    torch.testing.assert_close(estimates[1], estimates[1].mT)
    assert estimates[1].diagonal(dim1=-2, dim2=-1).abs().max() < 1e-12


def test_dividing_by_the_number_of_reads_is_caught():
    """The negative control of the normalisation: the same reads with a divisor of 5, not 4."""
    h, J, g, estimates = repeated_gradients("moment")
    expected = gradients(lambda h, J: exact.mean_spins(IsingBatch(h, J)), h, J, weights=g)
    for values, reference in zip(estimates, expected, strict=True):
        assert largest_z(values * 4 / 5, reference[0]) > SIGMAS


def relative_variance(estimator, strength, problems=10, repetitions=400, reads=100):
    """Variance of the gradients in h and J, summed over entries, over that of `moment`."""
    totals = []
    g = torch.randn(10, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    for name in (estimator, "moment"):
        total = 0.0
        for problem in range(problems):
            h, J = random_model(1, 1, 10, seed=problem, fields=0.3, strength=strength)
            estimates = gradients(
                lambda h, J, name=name, seed=problem: mean_spins(
                    IsingBatch(h, J, validate=False),
                    ExactBackend(),
                    num_reads=reads,
                    estimator=name,
                    seed=seed,
                ),
                h.expand(repetitions, 1, 10),
                J.expand(repetitions, 10, 10),
                weights=g,
            )
            total += sum(float(x.var(0).sum()) for x in estimates)
        totals.append(total)
    return totals[0] / totals[1]


@pytest.mark.parametrize(("strength", "limit"), [(0.3, 0.1), (1.0, 0.4), (2.0, 0.7)])
def test_callen_has_less_variance_than_moment(strength, limit):
    # 400 repetitions of 10 problems: the ratio is known to a few per cent, and lies at a third
    # to two thirds of the limit. `score` is `moment` here: the control that the limit can fail.
    assert relative_variance("callen", strength) < limit
    assert relative_variance("score", strength, problems=2) == pytest.approx(1.0, rel=1e-6)


def test_callen_forward_has_less_variance():
    h, J = random_model(1, 1, 10, strength=0.5)
    batch = IsingBatch(h.expand(2000, 1, 10), J.expand(2000, 10, 10))
    variances = {}
    for name in ("callen", "moment"):
        means = mean_spins(batch, ExactBackend(), num_reads=20, estimator=name, seed=1)
        variances[name] = means.var(0).sum()
        z = (means.mean(0) - exact.mean_spins(batch)[0]) / (means.std(0) / math.sqrt(2000))
        assert z.abs().max() < SIGMAS
    assert variances["callen"] < 0.3 * variances["moment"]


# Weights


@pytest.mark.parametrize("estimator", SAMPLING)
def test_weights_count_as_repeated_reads(estimator):
    h, J = random_model(2, 2, 4)
    rows = exact.sample(IsingBatch(h, J), 6, seed=1).spins
    counts = torch.tensor([3, 1, 0, 2, 1, 1])
    repeated = SpinSamples(rows.repeat_interleave(counts, 2))
    weighted = SpinSamples(rows, counts.double().expand(2, 2, 6))
    results = [
        gradients(
            lambda h, J, s=samples: mean_spins_from(s, IsingBatch(h, J), estimator=estimator),
            h,
            J,
            weights=torch.arange(4.0, dtype=torch.float64),
        )
        for samples in (repeated, weighted, SpinSamples(rows))
    ]
    for a, b, unweighted in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
        assert (a - unweighted).abs().max() > 1e-3  # the control: dropped weights


# The score function, for what is not linear in the pattern


def test_expectation_of_a_nonlinear_function_is_unbiased():
    """Value and gradients in h, J, β and in the function's own parameters, at 5 sigma."""
    h, J = random_model(1, 1, 5, strength=1.0)
    repetitions, reads = 20_000, 4
    beta = torch.tensor(0.8, dtype=torch.float64)
    v = torch.randn(5, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def normalised(patterns, v):  # attention whose weights sum to one: not linear in s
        return patterns @ v / (0.5 + patterns.sum(-1, keepdim=True))

    def estimate(h, J, beta, v):
        batch = IsingBatch(h, J, beta=beta, validate=False)
        samples = draw(batch, ExactBackend(), num_reads=reads, seed=2)
        values = normalised(hard_patterns(samples, batch), v.unsqueeze(1))
        return expectation(values, batch, samples)

    def reference(h, J, beta, v):
        batch = IsingBatch(h, J, beta=beta)
        s = states(5, torch.float64, h.device).expand(1, 1, -1, -1)
        p = exact.log_prob(batch, s).exp()
        return (p.unsqueeze(-1) * normalised((1 + s) / 2, v)).sum(2)

    weights = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    many = [h, J, beta.reshape(1), v[None]]
    many = [x.expand(repetitions, *x.shape[1:]) for x in many]
    estimates = gradients(estimate, *many, weights=weights)
    for scale, right in ((1.0, True), (1.1, False)):
        expected = gradients(reference, h, J, scale * beta, v, weights=weights)
        zs = [
            largest_z(values, value.reshape(values.shape[1:]))
            for values, value in zip(estimates, expected, strict=True)
        ]
        assert (max(zs) < SIGMAS) is right


def test_surrogate_of_a_loss_of_two_queries_is_unbiased():
    """A loss that multiplies two queries' patterns; dropping the surrogate leaves no gradient."""
    h, J = random_model(1, 2, 3, strength=1.0, fields=0.6)
    repetitions, reads = 20_000, 4
    a = torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.0, -1.0]], dtype=torch.float64)

    def losses_of(s):
        return (a.unsqueeze(1) * s).sum(-1).sin().prod(-2)

    H, K = (x.expand(repetitions, *x.shape[1:]).clone().requires_grad_() for x in (h, J))
    batch = IsingBatch(H, K, validate=False)
    samples = draw(batch, ExactBackend(), num_reads=reads, seed=5)
    losses = losses_of(samples.spins.double())
    term = surrogate(losses.unsqueeze(1), batch, samples)
    assert float(term.detach()) == 0.0
    assert not losses.requires_grad
    term.backward()

    def reference(h, J):
        s = states(3, torch.float64, h.device)
        p = exact.log_prob(IsingBatch(h, J), s.expand(1, 2, -1, -1)).exp()[0]
        pairs = torch.stack(
            [s.unsqueeze(1).expand(8, 8, 3), s.unsqueeze(0).expand(8, 8, 3)], 0
        ).flatten(1, 2)
        value = (a.unsqueeze(1) * pairs).sum(-1).sin().prod(0)
        return (p[0].unsqueeze(1) * p[1].unsqueeze(0)).flatten() @ value

    for scale, right in ((1.0, True), (1.2, False)):
        expected = gradients(reference, scale * h, scale * J, weights=1.0)
        zs = [largest_z(x.grad, value[0]) for x, value in zip((H, K), expected, strict=True)]
        assert (max(zs) < SIGMAS) is right


def test_expectation_of_the_spins_is_moment():
    h, J = random_model(1, 2, 4)
    samples = exact.sample(IsingBatch(h, J), 10, seed=1)
    weights = torch.arange(4.0, dtype=torch.float64)
    first, second = (
        gradients(
            lambda h, J, e=estimator: mean_spins_from(samples, IsingBatch(h, J), estimator=e),
            h,
            J,
            weights=weights,
        )
        for estimator in ("score", "moment")
    )
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_hard_patterns_are_zero_at_absent_spins():
    h, J = random_model(1, 2, 3)
    batch = IsingBatch(h, J, torch.tensor([2, 3]))
    samples = exact.sample(batch, 4, seed=1)
    patterns = hard_patterns(samples, batch)
    assert patterns.dtype == h.dtype
    assert (patterns[0, 0, :, 2] == 0).all()
    assert torch.equal(2 * patterns[0, 1] - 1, samples.spins[0, 1].double())


# Operation


@pytest.mark.parametrize("estimator", SAMPLING)
@pytest.mark.parametrize("lengths", [None, [1, 3], [[1, 3], [3, 2]]])
def test_vmap_equals_a_loop(estimator, lengths):
    """With reads that hold no chance, gradients under vmap are those of a loop."""
    lengths = None if lengths is None else torch.tensor(lengths)
    h = torch.stack([random_model(2, 2, 3, seed=s)[0] for s in range(3)])
    J = random_model(2, 2, 3, seed=7)[1]

    def loss(h, J):
        batch = IsingBatch(h, J, lengths, validate=False)
        means = mean_spins(batch, Enumeration(), estimator=estimator)
        return means.square().sum()

    gradient = torch.func.grad(loss, argnums=(0, 1))
    estimates = torch.func.vmap(gradient, in_dims=(0, None))(h, J)
    expected = [torch.stack(x) for x in zip(*(gradient(one, J) for one in h), strict=True)]
    for a, b in zip(estimates, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


def test_members_of_a_vmap_have_their_own_reads():
    batch = torch.zeros(4, 1, 1, 6)

    def means(h):
        model = IsingBatch(h, torch.zeros(1, 6, 6), validate=False)
        return mean_spins(model, ExactBackend(), num_reads=9, estimator="moment")

    rows = torch.func.vmap(means)(batch).flatten(1)
    assert len({tuple(row.tolist()) for row in rows}) == 4


def test_exact_needs_no_backend():
    h, J = random_model(1, 2, 4)
    batch = IsingBatch(h, J)
    assert torch.equal(mean_spins(batch, estimator="exact"), exact.mean_spins(batch))


def test_seed_fixes_the_estimate():
    h, J = random_model(1, 2, 4)
    batch = IsingBatch(h, J)
    first, again, other = (
        mean_spins(batch, ExactBackend(), num_reads=7, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_chunks_do_not_matter(monkeypatch):
    h, J = random_model(2, 5, 4)
    samples = exact.sample(IsingBatch(h, J), 6, seed=1)
    weights = torch.ones(2, 5, 4, dtype=torch.float64)
    results = []
    for size in (1, 1 << 18):
        monkeypatch.setattr("qattn.estimators.reads.CHUNK_ELEMENTS", size)
        results.append(
            gradients(
                lambda h, J: mean_spins_from(samples, IsingBatch(h, J)), h, J, weights=weights
            )
        )
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


@pytest.mark.parametrize("estimator", SAMPLING)
def test_too_few_reads(estimator):
    h, J = random_model(1, 2, 3)
    batch = IsingBatch(h, J)
    with pytest.raises(ValueError, match=f"`num_reads` must be at least 2 .*'{estimator}'.* is 1"):
        mean_spins(batch, ExactBackend(), num_reads=1, estimator=estimator)
    samples = exact.sample(batch, 1, seed=1)
    with pytest.raises(ValueError, match="`samples` must have at least 2 reads"):
        mean_spins_from(samples, batch, estimator=estimator)
    weighted = SpinSamples(samples.spins, torch.ones(1, 2, 1))
    with pytest.raises(ValueError, match="`samples` must have at least 2 reads"):
        mean_spins_from(weighted, batch, estimator=estimator)


def test_bad_arguments():
    h, J = random_model(1, 2, 3)
    batch = IsingBatch(h, J)
    samples = exact.sample(batch, 4, seed=1)
    names = ", ".join(repr(name) for name in available_estimators())
    with pytest.raises(ValueError, match=f"`estimator` must be one of {names}, but is 'momnt'"):
        mean_spins(batch, ExactBackend(), estimator="momnt")
    with pytest.raises(ValueError, match="`backend` must be a Backend for the estimator 'callen'"):
        mean_spins(batch)
    with pytest.raises(ValueError, match=r"`values` must have shape \(1, 2, 4, '…'\)"):
        expectation(torch.zeros(1, 2, 5), batch, samples)
    with pytest.raises(ValueError, match=r"`losses` must broadcast to shape \(1, 2, 4\)"):
        surrogate(torch.zeros(3), batch, samples)
    with pytest.raises(ValueError, match="must have no weights"):
        surrogate(torch.zeros(4), batch, SpinSamples(samples.spins, torch.ones(1, 2, 4)))


def test_second_derivatives_are_refused():
    h, J = random_model(1, 1, 3)
    h.requires_grad_()
    means = mean_spins(IsingBatch(h, J), ExactBackend(), num_reads=5, seed=1)
    (first,) = torch.autograd.grad(means.square().sum(), h, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        first.sum().backward()
