"""The quantities that a report draws: their labels, their units, and where a peak is marked."""

from dataclasses import dataclass
from math import inf
from typing import Literal


@dataclass(frozen=True)
class Quantity:
    """A quantity against β.

    Attributes:
        label: What an axis calls it.
        symbol: Its symbol.
        per: What a query's value is divided by: "n", its number of spins or positions; "log n",
            the entropy of n equally likely positions; "" for nothing.
        peaks: Whether its peak is looked for, as a critical β.
        floor: What a picture shows of it goes no deeper.
    """

    label: str
    symbol: str
    per: Literal["", "n", "log n"] = ""
    peaks: bool = False
    floor: float = -inf


ISING = {
    "heat_capacity": Quantity("heat capacity C/n", "C/n", "n", peaks=True),
    "susceptibility": Quantity("susceptibility χ", "χ", peaks=True),
    "spin_glass_susceptibility": Quantity("spin-glass susceptibility χ_SG", "χ_SG", peaks=True),
    "cross_susceptibility": Quantity("χ_SG between spins j ≠ k", "χ_SG, j ≠ k", peaks=True),
    # A few problems whose cold states have m = 0 would take the scale for themselves.
    "binder": Quantity("Binder cumulant of m", "B", floor=-0.35),
    "overlap_binder": Quantity("Binder cumulant of the overlap", "B_q"),
    "entropy": Quantity("entropy S/n (nats)", "S/n", "n"),
}
"""Of Ising models, by the names that :class:`qattn.thermodynamics.Curves` has for them."""

SOFTMAX = {
    "heat_capacity": Quantity("heat capacity C/n", "C/n", "n", peaks=True),
    "entropy": Quantity("entropy S/ln n", "S/ln n", "log n"),
    "participation": Quantity("participation ratio 1/Σp²", "1/Σp²"),
    "largest_weight": Quantity("largest weight", "max p"),
}
"""Of softmax attention, whose states are the positions."""

NOT_OF_PROBLEMS = ("cross_susceptibility",)
"""Quantities that a picture of problems leaves out: without fields it is χ_SG - 1."""

NOT_OF_RUNS = ("spin_glass_susceptibility", "overlap_binder")
"""Quantities that a run's picture leaves out. In fields, which queries have, χ_SG is largest at
β = 0, where all of it is that of each spin with itself."""

EXTENSIVE = {"free_energy": "F", "energy": "U", "entropy": "S", "heat_capacity": "C"}
"""What adds over independent systems, such as the heads of a layer."""
