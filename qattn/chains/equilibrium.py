r"""Whether reads are in equilibrium: two groups of chains that started far apart must agree.

Of R reads half come from chains that started with all spins up, half from chains that started with
all spins down. In equilibrium the means of the groups, m⁺ and m⁻, differ by nothing but noise:

.. math::
    z^2 = \frac{\sum_j (m^+_j - m^-_j)^2}{\sum_j (1 - m_j^2)\,(1/R^+ + 1/R^-)}, \qquad
    \langle z^2 \rangle = 1,

with m the mean of all reads. Its excess over 1 is the squared error that the start has left in
⟨s⟩, in units of the noise of the reads themselves: the noise that matters. Spins move together, so
z² has ν = (tr C)²/tr C² degrees of freedom, with C their covariance (Satterthwaite), and ν z² is
distributed about like χ² with ν.

What it cannot see is a trap that both groups share, as frustrated couplings have them, and a
distribution that is wrong however long the chains are. :attr:`Equilibrium.temperature` looks for
the second with the reads alone: given the other spins, s_j has the mean tanh b_j, so that

.. math::
    \Big\langle \sum_j b_j (s_j - \tanh b_j) \Big\rangle = 0, \qquad
    b_j = h_j + \sum_k J_{jk} s_k,

for reads at the right temperature, positive for colder ones. Chains that are stuck in one of two
valleys pass that, and fail the first.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn.chains.neighbours import sweepable
from qattn.chains.sweeps import chunks
from qattn.couplings import Couplings
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

TOLERANCE = 0.1
"""Excess of the mean z² over 1 that counts as equilibrium: 5% of the noise, as one adds squares."""

LEVEL = 0.01
"""How often the worst query of a batch may fail by chance."""

SIGMAS = 2.0
"""Standard errors that the mean z² of a small batch may lie above 1."""

COLDNESS_SIGMAS = 5.0
"""Standard errors that :attr:`Equilibrium.temperature` may be off."""


class EquilibriumWarning(UserWarning):
    """Reads are not known to be in equilibrium."""


def warn_of(problems: list[tuple[int, int]], circumstances: str) -> None:
    """Give an :class:`EquilibriumWarning` that names problems, and says what to do."""
    shown = ", ".join(map(str, problems[:5]))
    more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
    warnings.warn(
        f"Not known to be in equilibrium: reads of (group, query) {shown}{more}, {circumstances}",
        EquilibriumWarning,
        stacklevel=5,
    )


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """What two groups of reads say about equilibrium.

    Attributes:
        z2: z² of each query; 0 where the reads do not vary.
        dof: Degrees of freedom of each.
        noise: What (m⁺ - m⁻)² is expected to sum to, for each query.
        temperature: Σ_j b_j (s_j - tanh b_j), over the batch, in standard errors: positive if the
            reads are colder than the target.
    """

    z2: Float[Tensor, "groups queries"]
    dof: Float[Tensor, "groups queries"]
    noise: Float[Tensor, "groups queries"]
    temperature: float

    @property
    def mean(self) -> float:
        """z² of all queries together: all squared differences over their expectation."""
        total = self.noise.sum()
        return float((self.z2 * self.noise).sum() / total) if float(total) > 0 else 0.0

    @property
    def mean_error(self) -> float:
        """Standard deviation of :attr:`mean` in equilibrium."""
        total = float(self.noise.sum())
        variance = (2 * self.noise.square() / self.dof).sum()
        return float(variance.sqrt()) / total if total > 0 else 0.0

    @property
    def p_values(self) -> Float[Tensor, "groups queries"]:
        """How often a query in equilibrium has as large a z²."""
        p: Tensor = torch.special.gammaincc(self.dof / 2, self.dof * self.z2 / 2)
        return p

    @property
    def suspects(self) -> list[tuple[int, int]]:
        """(group, query) of those that fail by themselves, the worst first."""
        p = self.p_values.flatten()
        (failing,) = (p < LEVEL / len(p)).nonzero(as_tuple=True)
        worst = failing[self.z2.flatten()[failing].argsort(descending=True)].tolist()
        return [divmod(number, self.z2.shape[1]) for number in worst]

    @property
    def groups_agree(self) -> bool:
        """Whether the two groups of reads agree, on average and in each query."""
        allowed = 1 + max(TOLERANCE, SIGMAS * self.mean_error)
        return self.mean <= allowed and not self.suspects

    @property
    def passed(self) -> bool:
        """Whether the groups agree and the temperature is right."""
        return self.groups_agree and abs(self.temperature) <= COLDNESS_SIGMAS

    def summary(self) -> dict[str, Any]:
        """The mean z², the largest one, and whose it is, for the `info` of reads."""
        worst = int(self.z2.argmax())
        return {
            "z2": self.mean,
            "worst_z2": float(self.z2.flatten()[worst]),
            "worst_query": divmod(worst, self.z2.shape[1]),
        }

    def __getitem__(self, chosen: Bool[Tensor, "groups queries"]) -> "Equilibrium":
        """Some of the queries, as one group; the temperature is that of all."""
        z2, dof, noise = (x[chosen].unsqueeze(0) for x in (self.z2, self.dof, self.noise))
        return Equilibrium(z2, dof, noise, self.temperature)

    def __str__(self) -> str:
        """The statistic in a line."""
        line = f"mean z² {self.mean:.3g} ± {self.mean_error:.2g}, 1 in equilibrium"
        if suspects := self.suspects:
            line += f"; {len(suspects)} too large by themselves, up to {float(self.z2.max()):.3g}"
        if abs(self.temperature) > COLDNESS_SIGMAS:
            side = "colder" if self.temperature > 0 else "hotter"
            line += f"; reads are {side} than the target by {abs(self.temperature):.1f} sigma"
        return line


@torch.no_grad()
def equilibrium(
    samples: SpinSamples, batch: IsingBatch, first: Bool[Tensor, " reads"] | None = None
) -> Equilibrium:
    r"""Compare two groups of reads of a batch: see :mod:`qattn.chains.equilibrium`.

    Reads of ``gibbs`` and of ``neal`` with ``num_sweeps="auto"`` alternate between chains that
    started up and down, so that the default takes them apart. Reads that could not choose their
    start (a QPU's, a journal's) are merely two groups of reads: then z² says whether they drifted
    (take the first half against the second) or are correlated, and the temperature whether they
    are too cold or too hot; a part of the states that none of them ever reached stays unseen.

    Args:
        samples: Independent reads, without weights: weighted ones have lost their order.
        batch: The models.
        first: Which reads are the first group; None means every second one.

    Raises:
        ValueError: The reads have weights, are not reads of `batch`, or a group has fewer than 2.

    >>> from qattn import exact
    >>> from qattn.problems import synthetic
    >>> batch = synthetic(num_problems=40, num_spins=6)
    >>> reads = exact.sample(batch, 200, seed=0)
    >>> equilibrium(reads, batch).passed
    True
    >>> frozen = SpinSamples(reads.spins.clone())
    >>> frozen.spins[:, :, ::2, 3], frozen.spins[:, :, 1::2, 3] = 1, -1  # one spin keeps its start
    >>> equilibrium(frozen, batch).passed
    False
    """
    if samples.weights is not None:
        raise ValueError("Argument `samples` must not have weights, but has: their order is lost.")
    G, Q, R, n = samples.spins.shape
    if (G, Q, n) != tuple(batch.h.shape):
        raise ValueError(
            f"Argument `samples` must be reads of (groups, queries, spins) = "
            f"{tuple(batch.h.shape)} like `batch`, but are of {(G, Q, n)}."
        )
    if first is None:
        first = torch.arange(R) % 2 == 0
    counts = int(first.sum()), int((~first).sum())
    if min(counts) < 2 or len(first) != R:
        raise ValueError(
            f"Argument `first` must divide {R} reads into two groups of at least 2, but makes "
            f"groups of {counts[0]} and {counts[1]}."
        )
    models = sweepable(batch)
    h, J = models.h.float(), models.J.to(torch.float32)
    inverse = 1 / counts[0] + 1 / counts[1]
    # The difference of the groups' means as a sum over the reads.
    contrast = torch.where(first, 1 / counts[0], -1 / counts[1]).to(h)
    squares, noise, dof = torch.zeros(3, G, Q, dtype=torch.float64)
    coldness, variance = 0.0, 0.0
    for g, q in chunks(G, Q, R * n):
        s = samples.spins[g, q].float()
        m = s.mean(2)
        # Σ_j of the squared differences, and of what they are in equilibrium.
        squares[g, q] = (contrast @ s).square().sum(-1).double().cpu()
        present = (s[:, :, 0] != 0).float()
        trace = ((present - m.square()) * (R / (R - 1))).sum(-1)
        noise[g, q] = (trace * inverse).double().cpu()
        # tr C², without what the noise of R reads adds to it.
        centred = s - m.unsqueeze(2)
        # C, or the smaller matrix of the reads' products, whose squares sum to the same.
        C = (centred.mT @ centred if n < R else centred @ centred.mT) / (R - 1)
        of_squares = C.square().sum((2, 3)) - trace.square() / R
        dof[g, q] = (trace.square() / of_squares.clamp_min(1e-30)).clamp(1, n).double().cpu()
        b = h[g, q].unsqueeze(2) + _product(J[g], s)
        pull = (b * (s - b.tanh() * s.abs())).sum(-1)
        coldness += float(pull.mean(2).sum())
        variance += float((pull.var(2) / R).sum())
    z2 = torch.where(noise > 0, squares / noise.clamp_min(1e-30), 0.0)
    return Equilibrium(z2, dof, noise, coldness / variance**0.5 if variance > 0 else 0.0)


def _product(J: Tensor | Couplings, s: Float[Tensor, "g q reads n"]) -> Tensor:
    """Σ_k J_jk s_k of every read."""
    if isinstance(J, Tensor):
        return s @ J.unsqueeze(1)
    return J.matvec(s.flatten(1, 2).mT).mT.view_as(s)


class Doubling:
    """When chains from opposite starts have been swept enough: doubled until they agree, then once.

    ::

        rule = Doubling(max_sweeps)
        while sweeps := rule.next_sweeps:
            chains.sweep(sweeps)
            rule.record(equilibrium(reads, batch))

    The batch mean alone stopped too early in a few of 100 batches; as many sweeps again as were
    needed make up for it. Where the excess of z² decays so slowly that `max_sweeps` will not do,
    the end comes early: the slowest mode decays last, so that what is extrapolated from two
    statistics is too short rather than too long.

    Attributes:
        max_sweeps: Sweeps by which the groups must agree.
        confirm: Whether as many sweeps again are needed; else what `record` is told of `progress`.
        next_sweeps: Sweeps to do now; 0 at the end.
        sweeps: Sweeps that were done.
        passed: Whether the chains agreed, and still did after what else was needed.
    """

    FIRST = 5
    """Sweeps before the first test."""

    JUDGED = 160
    """Sweeps from which on the decay of z² is extrapolated."""

    def __init__(self, max_sweeps: int, *, first: int = FIRST, confirm: bool = True) -> None:
        self.max_sweeps = max_sweeps
        self.confirm = confirm
        self.next_sweeps = min(first, max_sweeps)
        self.sweeps = 0
        self.passed = False
        self._agreed = False
        self._excess = float("inf")

    def record(self, test: Equilibrium, *, progress: float = 1.0) -> None:
        """Take note of the test after `next_sweeps` more sweeps.

        Args:
            test: The test of all chains.
            progress: How much of what else is asked of the chains is done; 1 is all.
        """
        before, self._excess = self._excess, test.mean - 1
        self.sweeps += self.next_sweeps
        first_time = self.confirm and not self._agreed
        self._agreed = test.groups_agree
        self.passed = self._agreed and not first_time and progress >= 1
        late = self.sweeps >= self.max_sweeps and not (self._agreed and first_time)
        if self.passed or late or self._is_hopeless(before):
            self.next_sweeps = 0
        elif self._agreed:
            # As many again; then what is missing, at the pace so far.
            missing = 1.0 if first_time else 1 / max(progress, 0.5) - 1
            self.next_sweeps = math.ceil(self.sweeps * missing)
        else:
            self.next_sweeps = min(self.sweeps, self.max_sweeps - self.sweeps)

    def _is_hopeless(self, before: float) -> bool:
        """Whether the excess, which was `before` at half of the sweeps, will last too long."""
        if self.sweeps < self.JUDGED or self._excess < 1:
            return False
        if self._excess >= before:
            return True
        rate = math.log(before / self._excess) / (self.sweeps / 2)
        return self.sweeps + math.log(self._excess / TOLERANCE) / rate > self.max_sweeps
