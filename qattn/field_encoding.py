r"""How the fields of Ising models are programmed onto an annealer: the only place that knows.

An anneal samples, to first order, in the biases h, J that it is programmed with (D-Wave's signs),

.. math::
    P(s) \propto \exp\Big(-\beta_h \sum_j h_j s_j - \beta_J \sum_{j<k} J_{jk} s_j s_k\Big),

with different inverse temperatures for fields and couplings. A target
:math:`p(s) \propto \exp(\beta\sum_j h_j s_j + \beta\sum_{j<k} J_{jk} s_j s_k)` (the exponent's
signs, those of :class:`~qattn.IsingBatch`) is therefore programmed as :math:`-\beta h/\beta_h` and
:math:`-\beta J/\beta_J`: one scale for all problems of a call. The fields are programmed

- "direct": as fields. A QPU's fast anneal allows none, so this needs standard anneals;
- "ghost": as couplings to one more spin, number 0, so that
  :math:`\sum_j h_j s_j \to \sum_j h_j s_0 s_j`. Every term is a coupling, so fields see
  :math:`\beta_J` too; the distribution is symmetric under the flip of all spins, and a read of the
  target is :math:`s_0 s_j`;
- "ancilla": the same, with spin 0 held up by a flux bias, so that it acts as a field from the
  start of the anneal on, at :math:`\beta_h`. Reads are :math:`s_0 s_j` too, which changes nothing
  where spin 0 was held.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from qattn.ising.batch import IsingBatch, to_dimod_signs


class CannotSample(ValueError):  # noqa: N818 - it says what is wrong
    """An anneal whose effective inverse temperatures are not positive: it is not a sampler."""


@dataclass(frozen=True, eq=False)
class ProgrammedBatch:
    """The problems of a batch in an annealer's units and D-Wave's signs.

    Problem number g · queries + q is query q of group g.

    Attributes:
        h: Fields of each problem, shape (problems, m).
        J: Couplings of each group, symmetric, shape (groups, m, m).
        group: Group of each problem: the row of J that is its own, shape (problems,).
        sizes: Programmed spins of each problem, carrier included, shape (problems,); 0 for a
            problem without spins.
    """

    h: Float[Tensor, "problems m"]
    J: Float[Tensor, "groups m m"]
    group: NDArray[np.int64]
    sizes: NDArray[np.int64]


class FieldEncoding(StrEnum):
    """How fields are programmed; equal to its name as a plain string."""

    DIRECT = "direct"
    GHOST = "ghost"
    ANCILLA = "ancilla"

    @classmethod
    def parse(cls, name: str, known: "Iterable[FieldEncoding] | None" = None) -> "FieldEncoding":
        """The encoding of this name.

        Args:
            name: The value of an argument `field_encoding`.
            known: The encodings that the caller allows; None means all.

        Raises:
            ValueError: There is none of this name among them.
        """
        allowed = list(cls if known is None else known)
        if name not in allowed:
            *others, last = (repr(encoding.value) for encoding in allowed)
            raise ValueError(
                f"Argument `field_encoding` must be {', '.join(others)} or {last}, "
                f"but is {str(name)!r}."
            )
        return cls(name)

    @property
    def carrier(self) -> int:
        """Number of spins, 0 or 1, that are added to each problem to carry its fields."""
        return int(self is not FieldEncoding.DIRECT)

    @property
    def fast(self) -> bool:
        """Whether a QPU runs it as a fast anneal; a standard one otherwise."""
        return self is not FieldEncoding.DIRECT

    @property
    def sheet(self) -> str:
        """The sheet of a QPU's published schedule that its anneals follow."""
        return "fast" if self.fast else "standard"

    @property
    def flux_bias(self) -> bool:
        """Whether a flux bias holds the carrier up."""
        return self is FieldEncoding.ANCILLA

    def betas(self, theory: tuple[float, float], anneal: str) -> tuple[float, float]:
        r"""First-order theory's (β_h, β_J) as the encoded fields and the couplings see them.

        (β_J, β_J) where fields are programmed as couplings, nothing holding the carrier.

        Args:
            theory: (β_h, β_J) of fields and couplings
                (:func:`qattn.simulators.effective_beta.effective_betas`).
            anneal: The anneal in words, for the error.

        Raises:
            CannotSample: One of the two is not positive.
        """
        beta_h, beta_J = theory
        betas = (beta_J, beta_J) if self is FieldEncoding.GHOST else theory
        if min(betas) <= 0:
            raise CannotSample(
                f"{anneal} must have positive effective inverse temperatures, but has β_h = "
                f"{beta_h:.3g} and β_J = {beta_J:.3g}: use another annealing_time."
            )
        return betas

    def programmed_sizes(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Programmed spins of problems of these sizes; an empty problem needs no carrier."""
        return sizes + self.carrier * (sizes > 0)

    @torch.no_grad()
    def encode_batch(self, batch: IsingBatch, betas: tuple[float, float]) -> ProgrammedBatch:
        r"""The biases -βh/β_h and -βJ/β_J of a batch, its fields on the carrier if there is one.

        With a carrier, h is 0 and :math:`J_{0j} = -\beta h_j / \beta_h`.

        Args:
            batch: The models, in the exponent's signs.
            betas: (β_h, β_J) of the annealer, as the encoded fields and the couplings see them.
        """
        target_h, target_J = batch.scaled()
        scaled = IsingBatch(target_h / betas[0], target_J / betas[1], batch.lengths, validate=False)
        if self.carrier:
            scaled = scaled.with_ghost_spin()
        h, J = to_dimod_signs(scaled.h, scaled.matrix)
        sizes = self.programmed_sizes(batch.num_active.ravel())
        return ProgrammedBatch(h.flatten(0, 1), J, scaled.group_of_problem, sizes)

    def decode_spins(self, spins: Int[Tensor, "*reads m"]) -> Int[Tensor, "*reads n"]:
        r"""Reads :math:`s_0 s_j` of the target's spins from reads of the programmed ones."""
        return spins[..., 1:] * spins[..., :1] if self.carrier else spins

    def decode_probabilities(
        self, probabilities: Float[Tensor, "problems programmed_states"]
    ) -> Float[Tensor, "problems states"]:
        """Distribution of the target's spins from that of the programmed ones.

        State i has spin j up where bit j of i is set.
        """
        if not self.carrier:
            return probabilities
        # The carrier is the lowest bit: even states have it down, odd ones up. Where it is down
        # the target's spins are the complement, and state i of the complement is state -1 - i.
        down, up = probabilities.unflatten(1, (-1, 2)).unbind(2)
        folded: Tensor = up + down.flip(1)
        return folded


SIMULATED = tuple(encoding for encoding in FieldEncoding if not encoding.flux_bias)
"""The encodings of simulated anneals, which have no flux bias."""
