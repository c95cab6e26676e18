r"""Diabatic annealing of many problems at once, in PyTorch, on CPU or CUDA."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from qattn.backends.options import option
from qattn.simulators.quantum_annealing import QuantumAnnealingSimulator
from qattn.simulators.statevector.choose_splitting import LEAST_TOLERANCE, choose_splitting
from qattn.simulators.statevector.evolve import chunk_size, evolve


class DiabaticBackend(QuantumAnnealingSimulator):
    r"""Reads of |ψ(T)|² after the Schrödinger evolution of a batch, thousands of problems at once.

    .. math::
        i\,\psi' = 2\pi\Big(-\frac{A(t)}{2}\sum_j\sigma^x_j
            + \frac{B(t)}{2}\big(\sum_j h_j\sigma^z_j
            + \sum_{j<k} J_{jk}\sigma^z_j\sigma^z_k\big)\Big)\psi, \qquad \psi(0) = |{+}\dots{+}⟩,

    with h and J in D-Wave's signs; A, B in GHz, times in ns. States are complex64 for a float32
    batch and complex128 for a float64 one; the cost per problem is 2^n numbers times a number of
    kicks that :func:`~qattn.simulators.statevector.choose_splitting.choose_splitting` finds for the
    tolerance.

    Raises:
        ValueError: An argument has another value, or a schedule file is of the wrong form.
    """

    name: ClassVar[str] = "diabatic"
    description: ClassVar[str] = "diabatic quantum annealing, batched state vectors, to ~20 spins"

    @dataclass(frozen=True, kw_only=True)
    class Options(QuantumAnnealingSimulator.Options):
        """The anneal, how a batch is programmed, and the integrator's error."""

        tolerance: float = option(
            1e-3,
            "Bound on the integrator's error of every problem, in total variation; that of "
            "first-order theory comes on top.",
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            if not 0 < self.tolerance < 1:
                raise ValueError(
                    f"Argument `tolerance` must be between 0 and 1, but is {self.tolerance}."
                )

    options: Options

    def _solver(
        self, h: Float[Tensor, "problems n"], J: Float[Tensor, "problems n n"]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        tolerance = self.options.tolerance
        if tolerance < LEAST_TOLERANCE[h.dtype]:
            raise ValueError(
                f"Argument `tolerance` must be at least {LEAST_TOLERANCE[h.dtype]:g} for a batch "
                f"of {h.dtype}, but is {tolerance:g}: use a float64 batch."
            )
        chunk_size(h.shape[1], h.element_size(), h.device)  # refuse what is too large at once
        splitting = choose_splitting(h, J, self.schedule, tolerance)
        return partial(evolve, splitting=splitting)
