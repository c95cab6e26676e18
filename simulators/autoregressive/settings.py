"""What an autoregressive sampler is made of, as plain values: for options, flags, files."""

from dataclasses import dataclass
from typing import Literal

Logit = Literal["auto", "pair", "tap", "bp", "tables"]
"""What a logit is made of: "auto" is TAP where J is dense; where it is sparse tables, and bp where
numbers of each coupling are fitted."""

Order = Literal["auto", "natural", "min-fill", "nested-dissection"]


@dataclass(frozen=True)
class NetSettings:
    """How an :class:`AutoregressiveNet` is built.

    Attributes:
        logit: Physics in the logit.
        iterations: Steps of TAP or of message passing; 0 lets a pilot choose.
        order: Elimination order, reversed, in which spins are drawn.
        exact_width: Spins whose scope is at most this wide are drawn from their exact conditional,
            where J is sparse; 0 switches that off.
        parameters: What a fit may change in the physics: nothing, a few numbers that hold for
            every problem, or numbers for each coupling and step.
        head: Layers of a transformer that adds to the logit; 0 means none.
        head_width: Its embedding dimension.
        head_heads: Its attention heads.
        table_width: Spins that the tables of the logit "tables" depend on, at most.
    """

    logit: Logit = "auto"
    iterations: int = 0
    order: Order = "auto"
    exact_width: int = 10
    parameters: Literal["none", "scalars", "couplings"] = "none"
    head: int = 0
    head_width: int = 64
    head_heads: int = 4
    table_width: int = 12
