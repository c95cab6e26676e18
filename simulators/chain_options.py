"""Options of the backends whose reads come from Gibbs chains."""

from dataclasses import dataclass
from typing import Literal

from qattn.backends.base import Backend
from qattn.backends.options import option


@dataclass(frozen=True)
class ChainOptions(Backend.Options):
    """How the chains are swept.

    Raises:
        ValueError: A number is not positive, or `num_sweeps` is another word than auto.
    """

    num_sweeps: int | Literal["auto"] = option(
        "auto", "Sweeps of a chain at the target β; auto: until the reads are in equilibrium."
    )
    max_sweeps: int = option(
        2560, "With auto: sweeps by which chains must be in equilibrium; then there is a warning."
    )

    def __post_init__(self) -> None:
        sweeps: object = self.num_sweeps
        if sweeps != "auto" and not (isinstance(sweeps, int) and sweeps > 0):
            raise ValueError(
                f"Argument `num_sweeps` must be positive or 'auto', but is {sweeps!r}."
            )
        if self.max_sweeps < 1:
            raise ValueError(f"Argument `max_sweeps` must be positive, but is {self.max_sweeps}.")
