r"""Diabatic annealing with QuTiP: one problem at a time, and optionally an open system."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from qattn.simulators.quantum_annealing import SimulatedAnnealer
from qattn.simulators.schedules import AnnealSchedule

MAX_SPINS = 16
"""Largest problem, ghost spin included, of a closed system (2^n amplitudes)."""

MAX_SPINS_OPEN = 7
"""Largest problem, ghost spin included, with dephasing or relaxation (4^n entries)."""

SOLVER_OPTIONS = {"atol": 1e-8, "rtol": 1e-6, "nsteps": 1_000_000}
"""Defaults of QuTiP's solver options here."""


class QutipBackend(SimulatedAnnealer):
    r"""Reads of the final state of QuTiP's ``sesolve``, or ``mesolve`` with decoherence.

    .. math::
        \rho' = -i[H, \rho] + \sum_j \Gamma_\varphi (\sigma^z_j \rho \sigma^z_j - \rho)
               + \sum_j \Gamma_1 \big(\sigma^-_j \rho \sigma^+_j
               - \tfrac12\{\sigma^+_j\sigma^-_j, \rho\}\big)

    with H of :class:`~qattn.simulators.diabatic.DiabaticBackend` (2π · GHz, times in ns) and the
    last two sums only where a rate is positive. σ⁻ takes a spin to s = -1, in the computational
    basis throughout the anneal. Operators are built once per number of spins.

    Args:
        schedule: See :class:`~qattn.simulators.quantum_annealing.SimulatedAnnealer`.
        annealing_time: Duration in ns.
        dephasing_rate: Γ_φ per spin, 1/ns.
        relaxation_rate: Γ_1 per spin, 1/ns.
        solver_options: ``options`` of QuTiP's solver, over :data:`SOLVER_OPTIONS`.
        **options: ``sheet``, ``field_encoding``, ``betas``, ``calibration`` and
            ``warn_divergence``, as there.

    Raises:
        ValueError: An argument has another value, or a schedule file is of the wrong form.
    """

    name: ClassVar[str] = "qutip"
    description: ClassVar[str] = "diabatic quantum annealing with QuTiP, to 16 spins, open systems"
    requires: ClassVar[dict[str, str]] = {"qutip": "qutip>=5"}

    def __init__(
        self,
        schedule: AnnealSchedule | str | Path | None = None,
        annealing_time: float | None = None,
        *,
        dephasing_rate: float = 0.0,
        relaxation_rate: float = 0.0,
        solver_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        for argument, rate in (
            ("dephasing_rate", dephasing_rate),
            ("relaxation_rate", relaxation_rate),
        ):
            if not 0 <= rate < float("inf"):
                raise ValueError(f"Argument `{argument}` must not be negative, but is {rate}.")
        super().__init__(schedule, annealing_time, **options)
        self.rates = (dephasing_rate, relaxation_rate)
        self.solver_options = SOLVER_OPTIONS | {"progress_bar": ""} | (solver_options or {})

    def _solver(
        self, h: Float[Tensor, "problems n"], J: Float[Tensor, "problems n n"]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        n, is_open = h.shape[1], any(self.rates)
        most = MAX_SPINS_OPEN if is_open else MAX_SPINS
        if n > most:
            raise ValueError(
                f"Backend 'qutip' holds at most {most} spins{' with decoherence' * is_open}, ghost "
                f"spin included, but the problem has {n}: use the backend 'diabatic' or 'neal'."
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
        found = np.empty((len(h), 1 << n))
        for i, row in enumerate(coefficients):
            found[i] = self._solve(operators, row @ operators.diagonals)
        return torch.from_numpy(found).to(h.device, h.dtype)

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
        options = self.solver_options | {"store_final_state": True}
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
