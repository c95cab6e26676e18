"""How a fit proceeds, as plain values: the same names in Python, TOML files and as flags."""

from dataclasses import dataclass, fields

from qattn.training.sampler_settings import setting

DEFAULT_STEPS = 1000
"""Steps where neither steps nor seconds are given."""

MAY_BE_ZERO = ("seed", "tempering_reads", "problem", "evaluations")
"""Whole numbers that may be 0."""


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Settings of the steps of a fit.

    Raises:
        ValueError: A value is out of range.
    """

    steps: int | None = setting(
        None, f"Number of steps (default: {DEFAULT_STEPS}, or what --seconds allow)."
    )
    seconds: float | None = setting(
        None, "Time of the steps; the way of β and of the learning rate then follow the clock."
    )
    batch_size: int = setting(256, "Reads of each problem in a step.")
    lr: float = setting(5e-3, "Learning rate of Adam.")
    positions: int | None = setting(
        None,
        "Positions, chosen anew in each step, whose logits are differentiated (default: all, or as "
        "many as leave 100 steps in --seconds).",
    )
    problems_at_a_time: int = setting(8, "Problems of a family in a step.")
    lowest_beta: float | None = setting(
        None, "Of a family: the smallest β that is fitted (default: a quarter of --beta)."
    )
    distil: float = setting(
        0.0, "Weight of reads of the net after Gibbs sweeps in the loss; falls to 0."
    )
    distil_sweeps: int = setting(1, "With --distil: Gibbs sweeps over half of the reads.")
    tempering_reads: int = setting(
        0, "With --distil: so many reads of parallel tempering in each step, once β has come."
    )
    seed: int = setting(0, "Seed of parameters and reads.")

    def __post_init__(self) -> None:
        least = {"batch_size": 2} | dict.fromkeys(MAY_BE_ZERO, 0)
        for field in fields(self):
            value, bound = getattr(self, field.name), least.get(field.name, 1)
            if value is None:
                continue
            if isinstance(value, int) and value < bound:
                raise ValueError(
                    f"Argument `{field.name}` must be at least {bound}, but is {value}."
                )
            if isinstance(value, float) and not 0 < value < float("inf") and field.name != "distil":
                raise ValueError(
                    f"Argument `{field.name}` must be positive and finite, but is {value}."
                )
        if not 0 <= self.distil <= 1:
            raise ValueError(f"Argument `distil` must be from 0 to 1, but is {self.distil}.")
        if self.tempering_reads and not self.distil:
            raise ValueError(
                f"Argument `tempering_reads` must go with `distil`, the weight of its reads in the "
                f"loss, but is {self.tempering_reads} without it."
            )

    def progress(self, steps: int, seconds: float) -> float:
        """Share of the budget that is spent, from 0 to 1."""
        limit = self.steps
        if limit is None and self.seconds is None:
            limit = DEFAULT_STEPS
        of_steps = steps / limit if limit else 0.0
        of_seconds = seconds / self.seconds if self.seconds else 0.0
        return min(1.0, max(of_steps, of_seconds))
