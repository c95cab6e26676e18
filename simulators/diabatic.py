r"""Diabatic annealing of many problems at once, in PyTorch, on CPU or CUDA."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from qattn.simulators.choose_splitting import LEAST_TOLERANCE, choose_splitting
from qattn.simulators.quantum_annealing import SimulatedAnnealer
from qattn.simulators.schedules import AnnealSchedule
from qattn.simulators.statevector import chunk_size, evolve


class DiabaticBackend(SimulatedAnnealer):
    r"""Reads of |ψ(T)|² after the Schrödinger evolution of a batch, thousands of problems at once.

    .. math::
        i\,\psi' = 2\pi\Big(-\frac{A(t)}{2}\sum_j\sigma^x_j
            + \frac{B(t)}{2}\big(\sum_j h_j\sigma^z_j
            + \sum_{j<k} J_{jk}\sigma^z_j\sigma^z_k\big)\Big)\psi, \qquad \psi(0) = |{+}\dots{+}⟩,

    with h and J in D-Wave's signs; A, B in GHz, times in ns. States are complex64 for a float32
    batch and complex128 for a float64 one; the cost per problem is 2^n numbers times a number of
    kicks that :func:`~qattn.simulators.choose_splitting.choose_splitting` finds for the tolerance.

    Args:
        schedule: See :class:`~qattn.simulators.quantum_annealing.SimulatedAnnealer`.
        annealing_time: Duration in ns.
        tolerance: Bound on the total variation between the computed and the exact distribution
            of every problem (the integrator's error; that of first-order theory comes on top).
        **options: ``sheet``, ``field_encoding``, ``betas``, ``calibration`` and
            ``warn_divergence``, as there.

    Raises:
        ValueError: An argument has another value, or a schedule file is of the wrong form.
    """

    name: ClassVar[str] = "diabatic"
    description: ClassVar[str] = "diabatic quantum annealing, batched state vectors, to ~20 spins"

    def __init__(
        self,
        schedule: AnnealSchedule | str | Path | None = None,
        annealing_time: float | None = None,
        *,
        tolerance: float = 1e-3,
        **options: Any,
    ) -> None:
        if not 0 < tolerance < 1:
            raise ValueError(f"Argument `tolerance` must be between 0 and 1, but is {tolerance}.")
        super().__init__(schedule, annealing_time, **options)
        self.tolerance = tolerance

    def _solver(
        self, h: Float[Tensor, "problems n"], J: Float[Tensor, "problems n n"]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        if self.tolerance < LEAST_TOLERANCE[h.dtype]:
            raise ValueError(
                f"Argument `tolerance` must be at least {LEAST_TOLERANCE[h.dtype]:g} for a batch "
                f"of {h.dtype}, but is {self.tolerance:g}: use a float64 batch."
            )
        chunk_size(h.shape[1], h.element_size(), h.device)  # refuse what is too large at once
        splitting = choose_splitting(h, J, self.schedule, self.tolerance)
        return partial(evolve, splitting=splitting)
