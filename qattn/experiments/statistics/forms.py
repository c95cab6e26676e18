"""Forms of curves over lengths, and their least squares."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import optimize

Parameters = Float[ndarray, " parameters"]
Lengths = Float[ndarray, " lengths"]

EXPONENTS = (0.01, 10.0)
"""Range of the exponent b of a power law: towards 0 it becomes a logarithm."""


@dataclass(frozen=True)
class Form:
    """A function of the length with parameters to fit.

    Attributes:
        formula: How it is written.
        names: Its parameters.
        fit: Parameters of the least squares through values at lengths.
        at: The function of parameters and lengths.
    """

    formula: str
    names: tuple[str, ...]
    fit: Callable[[Lengths, Lengths], Parameters]
    at: Callable[[Parameters, Lengths], Lengths]


def _linear(basis: Lengths, y: Lengths) -> Parameters:
    """Offset and factor of the least squares y ≈ offset + factor × basis."""
    centred = basis - basis.mean()
    factor = (centred @ (y - y.mean())) / (centred @ centred)
    return np.array([y.mean() - factor * basis.mean(), factor])


def _misfits(logs_of_b: Float[ndarray, " grid"], T: Lengths, y: Lengths) -> Float[ndarray, " grid"]:
    """What c + a T^-b leaves of the squares at each b: S_yy - S_xy² / S_xx with x = T^-b."""
    x = T ** -np.exp(logs_of_b)[:, None]
    x, y = x - x.mean(1, keepdims=True), y - y.mean()
    left: Float[ndarray, " grid"] = y @ y - (x @ y) ** 2 / (x * x).sum(1)
    return left


def _misfit(log_b: float, T: Lengths, y: Lengths) -> float:
    return float(_misfits(np.array([log_b]), T, y)[0])


def _power_law(T: Lengths, y: Lengths) -> Parameters:
    """c, a and b of the least squares: at a given b the other two are linear."""
    # A grid finds the valley, in which the search then has one minimum.
    grid = np.linspace(math.log(EXPONENTS[0]), math.log(EXPONENTS[1]), 41)
    best = int(np.argmin(_misfits(grid, T, y)))
    bracket = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, 40)])
    found = optimize.minimize_scalar(_misfit, bounds=bracket, args=(T, y), method="bounded")
    b = math.exp(min(float(found.x), float(grid[best]), key=partial(_misfit, T=T, y=y)))
    return np.array([*_linear(T**-b, y), b])


FORMS = {
    "logarithm": Form(
        "a + b ln T",
        ("a", "b"),
        lambda T, y: _linear(np.log(T), y),
        lambda p, T: p[0] + p[1] * np.log(T),
    ),
    "power law": Form(
        "c + a T^-b",
        ("c", "a", "b"),
        _power_law,
        lambda p, T: p[0] + p[1] * T ** -p[2],
    ),
}
"""The forms by name."""
