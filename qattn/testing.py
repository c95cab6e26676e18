"""A conformance suite that every backend passes, for anyone who writes one.

Subclass it in a test module that pytest collects::

    from qattn.testing import BackendConformance

    class TestMyBackend(BackendConformance):
        tolerance = 0.02

        def make_backend(self):
            return MyBackend(num_sweeps=50)
"""

from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from qattn import exact
from qattn.backends import Backend
from qattn.couplings import Banded, Block, Cardinality, LowRank
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

FALSE_ALARM = 2 * NormalDist().cdf(-5.0)
"""Chance that a right sampler fails a test: five standard errors, two-sided."""


class Deviation(NamedTuple):
    """Largest distance of an estimate from its exact value beyond the allowed bias.

    Attributes:
        sigmas: The distance, in standard errors of the same number of independent reads.
        bound: The largest that is allowed, with Bonferroni's correction.
    """

    sigmas: float
    bound: float


def deviation_from_exact(
    samples: SpinSamples, batch: IsingBatch, tolerance: float = 0.0
) -> Deviation:
    r"""Distance of ⟨s_j⟩ and ⟨s_j s_k⟩ of reads from the exact moments, in standard errors.

    .. math:: \max \frac{|\hat m - m| - \text{tolerance}}{\sqrt{(1 - m^2) / N}}

    over all spins and pairs, with N the number of reads (the weights' sum). The bound is the
    two-sided five sigma of a single value, corrected for the number of values.
    """
    N = samples.counts()[..., None, None]
    active = batch.active.expand(batch.h.shape)
    h, J = batch.scaled_structure()
    double = IsingBatch(h.detach().double(), J.detach().to(torch.float64), batch.lengths)
    estimated = samples.pair_correlations(torch.float64)
    expected = exact.pair_correlations(double)
    # The diagonal of the correlations is 1 always: put the mean spins there.
    estimated = estimated.diagonal_scatter(samples.mean_spins(torch.float64), dim1=-2, dim2=-1)
    expected = expected.diagonal_scatter(exact.mean_spins(double), dim1=-2, dim2=-1)
    chosen = (active.unsqueeze(-1) & active.unsqueeze(-2)).tril()
    excess = ((estimated - expected).abs() - tolerance).clamp_min(0.0)
    errors = ((1 - expected**2) / N).clamp_min(1e-12).sqrt()
    sigmas = (excess / errors)[chosen]
    bound = -NormalDist().inv_cdf(FALSE_ALARM / 2 / max(1, len(sigmas)))
    return Deviation(float(sigmas.max()), bound)


class BackendConformance:
    """The contract of a backend as tests, one a method.

    Attributes:
        tolerance: The backend's claim: largest bias of any ⟨s_j⟩ or ⟨s_j s_k⟩ on the suite's
            problems. 0 for a sampler that is exact to within its noise.
        num_reads: Reads per query of the statistical tests.
        field_scale: Standard deviation of their fields.
        coupling_scale: Standard deviation of their couplings, at 5 spins.
        seeded: Whether a seed fixes the reads (hardware cannot).
    """

    tolerance: float = 0.0
    num_reads: int = 2000
    field_scale: float = 0.5
    coupling_scale: float = 0.3
    seeded: bool = True

    def make_backend(self) -> Backend:
        """A new backend with the options under test."""
        raise NotImplementedError("Subclasses of BackendConformance must define make_backend().")

    def problems(self, lengths: Tensor | None = None, beta: float | Tensor = 1.0) -> IsingBatch:
        """Two groups of three queries of five spins, all different; the same at every call."""
        generator = torch.Generator().manual_seed(20)
        h = self.field_scale * torch.randn(2, 3, 5, generator=generator)
        J = self.coupling_scale * torch.randn(2, 5, 5, generator=generator).triu(1)
        return IsingBatch(h, J + J.mT, lengths, beta)

    def sample(self, batch: IsingBatch, num_reads: int, seed: int | None = 1) -> SpinSamples:
        """Reads of a new backend."""
        return self.make_backend().sample(batch, num_reads=num_reads, seed=seed)

    def test_shape_dtype_and_values(self) -> None:
        """Spins are int8 in {-1, +1}, one row per read or weights that sum to the reads."""
        single = self.problems()
        double = IsingBatch(single.h.double(), single.matrix.double())
        one_spin = IsingBatch(torch.full((1, 1, 1), 0.2), torch.zeros(1, 1, 1))
        for batch in (single, one_spin, double):
            samples = self.sample(batch, 7)
            spins, weights = samples.spins, samples.weights
            expected = (batch.num_groups, batch.num_queries, batch.num_spins)
            shape = (*spins.shape[:2], spins.shape[3])
            assert shape == expected, f"groups, queries, spins: {shape}, not {expected}"
            assert spins.dtype == torch.int8, f"spins are {spins.dtype}, not torch.int8"
            assert bool((spins.abs() == 1).all()), "a spin is neither -1 nor +1"
            assert spins.device == batch.h.device, f"spins are on {spins.device}"
            if weights is None:
                assert samples.num_reads == 7, f"{samples.num_reads} reads without weights, not 7"
            else:
                assert bool((weights >= 0).all()), "a weight is negative"
                assert bool((weights.sum(-1) == 7).all()), "weights do not sum to the reads"

    def test_absent_spins_are_zero(self) -> None:
        """Lengths are honoured, per query and per group, down to queries without spins."""
        for lengths in (torch.tensor([5, 0, 2]), torch.tensor([[1, 5, 3], [4, 2, 0]])):
            batch = self.problems(lengths)
            spins = self.sample(batch, 4).spins
            active = batch.active.unsqueeze(2).expand(spins.shape)
            assert bool((spins[~active] == 0).all()), "an absent spin is not 0"
            assert bool((spins[active] != 0).all()), "an active spin is 0"

    def test_batch_is_left_alone(self) -> None:
        """Sampling neither changes the batch nor takes part in autograd."""
        batch = self.problems()
        learnable = IsingBatch(
            batch.h.clone().requires_grad_(), batch.matrix.clone().requires_grad_()
        )
        samples = self.sample(learnable, 3)
        assert torch.equal(learnable.h, batch.h), "h was changed"
        assert torch.equal(learnable.matrix, batch.matrix), "J was changed"
        assert not samples.spins.requires_grad, "spins require a gradient"

    def test_seed_fixes_the_reads(self) -> None:
        """Equal seeds give equal reads, others other reads; None follows PyTorch's generator."""
        if not self.seeded:
            return
        batch = self.problems()
        first, again, other = (self.sample(batch, 50, seed).spins for seed in (3, 3, 4))
        assert torch.equal(first, again), "the same seed gave other reads"
        assert not torch.equal(first, other), "another seed gave the same reads"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            first, other = (self.sample(batch, 50, None).spins for _ in range(2))
            torch.manual_seed(5)
            again = self.sample(batch, 50, None).spins
        assert torch.equal(first, again), "torch.manual_seed does not repeat reads of seed None"
        assert not torch.equal(first, other), "seed None gave the same reads twice"

    def test_reads_below_one_are_rejected(self) -> None:
        """A ValueError that names `num_reads`."""
        for num_reads in (0, -1):
            self._refuses("num_reads", self.problems(), num_reads)

    def test_values_that_are_not_finite_are_rejected(self) -> None:
        """A ValueError that names `h` or `J`, where the batch itself was not checked."""
        for name in ("h", "J"):
            for value in (float("nan"), float("inf")):
                batch = self.problems()
                tensors = {"h": batch.h.clone(), "J": batch.matrix.clone()}
                tensors[name][1, 0, 2] = tensors[name][1, 2, 0] = value
                self._refuses(f"`{name}`", IsingBatch(**tensors, validate=False), 4)

    def test_moments_agree_with_exact(self) -> None:
        """⟨s⟩ and ⟨s s⟩ of every query are within `tolerance` and five standard errors."""
        self._agrees(self.problems())

    def test_moments_agree_with_exact_at_other_betas_and_lengths(self) -> None:
        """⟨s⟩ and ⟨s s⟩ agree too for a β per group and for queries of different lengths."""
        self._agrees(self.problems(torch.tensor([5, 1, 3]), torch.tensor([0.6, 1.2])))

    def test_moments_of_couplings_with_a_structure_agree_with_exact(self) -> None:
        """⟨s⟩ and ⟨s s⟩ of a band agree; blocks, products and potentials are understood too."""
        batch = self.problems()
        J, lengths = batch.matrix, torch.tensor([5, 1, 3])
        band = torch.zeros(2, 5, 2)
        for d in (1, 2):
            band[:, d:, d - 1] = J.diagonal(-d, 1, 2)
        self._agrees(IsingBatch(batch.h, Banded(band), lengths))
        others = (
            Block(J[:, None, :3, :3].expand(-1, 2, -1, -1), 5),
            LowRank(J[:, 0], sign=-1),
            Cardinality.competitive(J[:, 0, 1].abs(), 5),
        )
        for couplings in others:
            model = IsingBatch(batch.h, couplings, lengths)
            spins = self.sample(model, 4).spins
            assert spins.shape[3] == 5, f"{spins.shape[3]} spins of {couplings}, not 5"
            absent = ~model.active.unsqueeze(2).expand(spins.shape)
            assert bool((spins[absent] == 0).all()), "an absent spin is not 0"

    def test_queries_are_independent(self) -> None:
        """Read r of one query does not correlate with read r of another, in its group or not."""
        batch = self.problems()
        h, J = batch.h[:1, :1].expand(2, 3, 5), batch.matrix[:1].expand(2, 5, 5)
        samples = self.sample(IsingBatch(h, J), self.num_reads)
        if samples.weights is not None:
            return  # the order of aggregated reads means nothing
        s = samples.spins.double().flatten(0, 1)
        s = (s - s.mean(1, keepdim=True)) / s.std(1, keepdim=True)
        correlations = torch.einsum("prj,qrj->pqj", s, s) / samples.num_reads**0.5
        p, q = torch.triu_indices(len(s), len(s), 1)
        sigmas = float(correlations[p, q].abs().max())
        bound = -NormalDist().inv_cdf(FALSE_ALARM / 2 / (len(p) * 5))
        assert sigmas <= bound, f"reads of two queries correlate: {sigmas:.1f} sigma"

    def _refuses(self, name: str, batch: IsingBatch, num_reads: int) -> None:
        message = None
        try:
            self.sample(batch, num_reads)
        except ValueError as error:
            message = str(error)
        assert message is not None, f"num_reads = {num_reads} or a bad {name} was accepted"
        assert name in message, f"the error does not name {name}: {message}"

    def _agrees(self, batch: IsingBatch) -> None:
        samples = self.sample(batch, self.num_reads)
        sigmas, bound = deviation_from_exact(samples, batch, self.tolerance)
        assert sigmas <= bound, (
            f"moments are {sigmas:.1f} standard errors beyond the tolerance {self.tolerance} "
            f"from exact; {bound:.1f} are allowed for {self.num_reads} reads"
        )
