r"""Mean-field moments of Ising models: ⟨s⟩ in polynomial time, with an estimate of its error.

Deterministic approximations for couplings that are dense and weak, at any number of spins: fixed
points of equations for the means m (``qattn/mean_field/methods.py``), whose derivatives are those
of the fixed point. The error of every solution is estimated, by a step towards equations that are
better (``error_estimate.py``), and what cannot be trusted says so: see :class:`Solution`.

For independent couplings of standard deviation c/√n the methods are good up to about c = ½, and at
c = 2 none is.
"""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.exact.structured import Lengths
from qattn.ising.batch import IsingBatch
from qattn.mean_field.gradient import Call, MeanField, Report
from qattn.mean_field.methods import EQUATIONS
from qattn.mean_field.solver import Settings

__all__ = [
    "METHODS",
    "NotConvergedWarning",
    "Report",
    "Solution",
    "check_method",
    "mean_spins",
    "mean_spins_and_report",
    "solve",
    "warn_if_failed",
]

METHODS = tuple(EQUATIONS)
"""Names of the methods."""

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Largest change of a ⟨s⟩ in a step of a solution."""


class NotConvergedWarning(UserWarning):
    """Some queries have no mean-field solution that can be trusted."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Mean-field solutions of all queries of a batch.

    Attributes:
        mean: ⟨s⟩, 0 at absent spins; differentiable once in h, J and β.
        error: Estimated rms error of ⟨s⟩ over the spins of a query; NaN where none was asked for.
        converged: Whether the solution can be trusted: it is within the tolerance; stable, a
            minimum of the free energy; no other solution counts beside it; and two orders of the
            estimate of its error agree. Gradients of a query that is not stable are those of spins
            without couplings.
        residual: Largest change of a ⟨s⟩ in one more step.
        iterations: Steps that were taken.
    """

    mean: Float[Tensor, "groups queries spins"]
    error: Float[Tensor, "groups queries"]
    converged: Bool[Tensor, "groups queries"]
    residual: Float[Tensor, "groups queries"]
    iterations: Int[Tensor, "groups queries"]


def solve(
    batch: IsingBatch,
    method: str = "tap",
    *,
    tolerance: float | None = None,
    max_iterations: int = 200,
    num_estimates: int | None = None,
) -> Solution:
    r"""Solve a method's equations for every query, and estimate the error of every solution.

    Naive mean field is m = tanh β(h + J m); the others, and their sources, are in
    ``qattn/mean_field/methods.py``. Structures of J are taken as matrices.

    Args:
        batch: The models.
        method: "mean-field", "tap", "adaptive-tap" or "bethe". An iteration of the first two takes
            n² operations a query, of Bethe n² logarithms, of adaptive TAP n³.
        tolerance: Largest change of a ⟨s⟩ in a step of a solution; None means 1e-5 in float32 and
            1e-10 in float64.
        max_iterations: Steps after which a query is given up.
        num_estimates: Queries of each group whose error is estimated, evenly spaced; None for all.
            An estimate takes about as long as ten gradients.

    Raises:
        ValueError: There is no such method, a number is not positive, or the interaction is that
            of no matrix.

    Two spins coupled ferromagnetically in weak fields, whose exact means are 0.1198 and 0.0987:

    >>> J = torch.tensor([[[0.0, 0.3], [0.3, 0.0]]])
    >>> solution = solve(IsingBatch(torch.tensor([[[0.1, 0.07]]]), J), "tap")
    >>> solution.mean
    tensor([[[0.1179, 0.0965]]])
    >>> round(float(solution.error), 4), bool(solution.converged)
    (0.0021, True)
    """
    return _solve(batch, method, tolerance, max_iterations, num_estimates)[0]


def mean_spins(batch: IsingBatch, method: str = "tap") -> Float[Tensor, "groups queries spins"]:
    """⟨s⟩ of :func:`solve`, differentiable once in h, J and β.

    Warns:
        NotConvergedWarning: Some solutions cannot be trusted.

    >>> mean_spins(IsingBatch(torch.full((1, 1, 3), 0.5), torch.zeros(1, 3, 3)))
    tensor([[[0.4621, 0.4621, 0.4621]]])
    """
    mean, report = mean_spins_and_report(batch, method)
    warn_if_failed(report, method)
    return mean


def mean_spins_and_report(
    batch: IsingBatch, method: str, num_estimates: int | None = None
) -> tuple[Float[Tensor, "groups queries spins"], Report]:
    """⟨s⟩ and what was found, over all members of a vmap; warns of nothing."""
    solution, report = _solve(batch, method, None, 200, num_estimates)
    return solution.mean, report


def warn_if_failed(report: Report, method: str) -> str:
    """Warn if some queries have no solution to be trusted; the method if so, else ""."""
    if report.num_failed:
        warnings.warn(
            f"{report.num_failed} of {report.num_queries} queries have no {method} solution that "
            f"can be trusted (largest residual {report.worst_residual:.1e}; estimated rms error of "
            f"the mean spins {report.error:.1e}): their couplings are too strong for it. Take a "
            f"sampling backend, or an exact one, or a smaller beta.",
            NotConvergedWarning,
            stacklevel=3,
        )
    return method if report.num_failed else ""


def _solve(
    batch: IsingBatch,
    method: str,
    tolerance: float | None,
    max_iterations: int,
    num_estimates: int | None,
) -> tuple[Solution, Report]:
    check_method(method)
    for name, number in (
        ("tolerance", tolerance),
        ("max_iterations", max_iterations),
        ("num_estimates", num_estimates),
    ):
        if number is not None and not number > 0:
            raise ValueError(f"Argument `{name}` must be positive, but is {number}.")
    h, J = batch.scaled()
    tolerance = TOLERANCES[h.dtype] if tolerance is None else tolerance
    settings = Settings(method, tolerance, max_iterations, num_estimates)
    call = Call(Lengths(batch.lengths, h), settings)
    mean, _, error, converged, _, residual, iterations = MeanField.apply(h, J, call)  # type: ignore[no-untyped-call]
    return Solution(mean, error, converged, residual, iterations), call.reports[-1]


def check_method(method: str) -> None:
    """Raise a ValueError unless there is a method of that name."""
    if method not in METHODS:
        names = ", ".join(repr(name) for name in METHODS)
        raise ValueError(f"Argument `method` must be one of {names}, but is {method!r}.")
