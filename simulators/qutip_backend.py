r"""Diabatic annealing with QuTiP: one problem at a time, and optionally an open system."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from qattn.backends.options import option
from qattn.simulators.quantum_annealing import QuantumAnnealingSimulator

MAX_SPINS = 16
"""Largest problem, ghost spin included, of a closed system (2^n amplitudes)."""

MAX_SPINS_OPEN = 7
"""Largest problem, ghost spin included, with dephasing or relaxation (4^n entries)."""

SOLVER_OPTIONS = {"atol": 1e-8, "rtol": 1e-6, "nsteps": 1_000_000}
"""Defaults of QuTiP's solver options here."""


class QutipBackend(QuantumAnnealingSimulator):
    r"""Reads of the final state of QuTiP's ``sesolve``, or ``mesolve`` with decoherence.

    .. math::
        \rho' = -i[H, \rho] + \sum_j \Gamma_\varphi (\sigma^z_j \rho \sigma^z_j - \rho)
               + \sum_j \Gamma_1 \big(\sigma^-_j \rho \sigma^+_j
               - \tfrac12\{\sigma^+_j\sigma^-_j, \rho\}\big)

    with H of :class:`~qattn.simulators.diabatic.DiabaticBackend` (2π · GHz, times in ns) and the
    last two sums only where a rate is positive. σ⁻ takes a spin to s = -1, in the computational
    basis throughout the anneal. Operators are built once per number of spins.

    Raises:
        ValueError: An argument has another value, or a schedule file is of the wrong form.
    """

    name: ClassVar[str] = "qutip"
    description: ClassVar[str] = "diabatic quantum annealing with QuTiP, to 16 spins, open systems"
    requires: ClassVar[dict[str, str]] = {"qutip": "qutip>=5"}

    @dataclass(frozen=True, kw_only=True)
    class Options(QuantumAnnealingSimulator.Options):
        """The anneal, how a batch is programmed, and the open system."""

        dephasing_rate: float = option(0.0, "Γ_φ of each spin in 1/ns.")
        relaxation_rate: float = option(0.0, "Γ_1 of each spin in 1/ns.")
        solver_options: dict[str, Any] | None = option(
            None, "``options`` of QuTiP's solver, over SOLVER_OPTIONS.", python_only=True
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            for name in ("dephasing_rate", "relaxation_rate"):
                rate = getattr(self, name)
                if not 0 <= rate < float("inf"):
                    raise ValueError(f"Argument `{name}` must not be negative, but is {rate}.")

    options: Options

    @property
    def rates(self) -> tuple[float, float]:
        """(Γ_φ, Γ_1) in 1/ns."""
        return self.options.dephasing_rate, self.options.relaxation_rate

    def _solver(
        self, h: Float[Tensor, "problems n"], J: Float[Tensor, "problems n n"]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        n, is_open = h.shape[1], any(self.rates)
        max_spins = MAX_SPINS_OPEN if is_open else MAX_SPINS
        if n > max_spins:
            raise ValueError(
                f"Backend 'qutip' holds at most {max_spins} spins{' with decoherence' * is_open}, "
                f"ghost spin included, but the problem has {n}: use the backend 'diabatic' or "
                f"'neal'."
            )
        return self._anneal

    def _anneal(
        self, h: Float[Tensor, "problems n"], J: Float[Tensor, "problems n n"]
    ) -> Float[Tensor, "problems states"]:
        n = h.shape[1]
        operators = _operators(n)
        upper = np.triu_indices(n, 1)
        coefficients = np.concatenate(
            [h.cpu().double().numpy(), J.cpu().double().numpy()[:, upper[0], upper[1]]], 1
        )
        probabilities = np.empty((len(h), 1 << n))
        for i, row in enumerate(coefficients):
            probabilities[i] = self._solve(operators, row @ operators.diagonals)
        return torch.from_numpy(probabilities).to(h.device, h.dtype)

    def _solve(self, operators: "_Operators", energy: NDArray[np.float64]) -> NDArray[np.float64]:
        import qutip

        times = self.schedule.times
        A, B = self.schedule.at(times)
        problem = qutip.qdiags(energy, 0, dims=operators.transverse.dims, dtype="dia")
        hamiltonian = qutip.QobjEvo(
            [
                [operators.transverse, qutip.coefficient(-np.pi * A, tlist=times, order=1)],
                [problem, qutip.coefficient(np.pi * B, tlist=times, order=1)],
            ]
        )
        span = [0.0, self.schedule.annealing_time]
        options = SOLVER_OPTIONS | {"progress_bar": ""} | (self.options.solver_options or {})
        options |= {"store_final_state": True}
        if not any(self.rates):
            result = qutip.sesolve(hamiltonian, operators.start, span, options=options)
            weights = np.abs(result.final_state.full().ravel()) ** 2
        else:
            losses = [
                np.sqrt(rate) * operator
                for rate, kind in zip(self.rates, operators.losses, strict=True)
                for operator in kind
                if rate > 0
            ]
            start = qutip.ket2dm(operators.start)
            result = qutip.mesolve(hamiltonian, start, span, c_ops=losses, options=options)
            weights = np.clip(result.final_state.diag().real, 0, None)
        normalised: NDArray[np.float64] = weights / weights.sum()
        return normalised


class _Operators(NamedTuple):
    """Operators of n spins; spin j is bit j of a basis state's number, up where it is set."""

    transverse: Any
    start: Any
    diagonals: NDArray[np.float64]
    losses: tuple[list[Any], list[Any]]


@lru_cache(maxsize=32)
def _operators(n: int) -> _Operators:
    try:
        import qutip
    except ImportError as error:
        raise ImportError("Backend 'qutip' needs QuTiP: pip install 'qutip>=5'") from error

    def on(j: int, operator: Any) -> Any:
        # Spin n - 1 is the first factor, so that spin 0 is the lowest bit. Bit 0 is spin down,
        # where QuTiP's basis(2, 0) is up: hence the minus of σz and σ+ for σ-.
        factors = [qutip.qeye(2)] * n
        factors[n - 1 - j] = operator
        return qutip.tensor(factors).to("csr")

    spins = [on(j, -qutip.sigmaz()) for j in range(n)]
    z = np.array([spin.diag().real for spin in spins])
    upper = np.triu_indices(n, 1)
    plus = (qutip.basis(2, 0) + qutip.basis(2, 1)).unit()
    return _Operators(
        transverse=sum(on(j, qutip.sigmax()) for j in range(n)).to("csr"),
        start=qutip.tensor([plus] * n),
        diagonals=np.concatenate([z, z[upper[0]] * z[upper[1]]]),
        losses=(spins, [on(j, qutip.sigmap()) for j in range(n)])
        if n <= MAX_SPINS_OPEN
        else ([], []),
    )
