"""Settings of a training that choose its attention: the arm, its couplings and its biases."""

from dataclasses import dataclass
from typing import Any

from qattn.attention.models import INTERACTIONS, MOMENTS, check_interaction
from qattn.layers import ATTENTION
from qattn.layers.position_bias import POSITION_BIASES
from qattn.layers.structures import CONSTRAINTS, STRUCTURES, check_options, is_given
from qattn.training.sampler_settings import setting

OPTIONS = {
    "relative": "relative",
    "coupling_constraint": "constraint",
    "coupling_std": "std",
    "content": "content",
    "coupling_width": "width",
    "coupling_sign": "sign",
    "block_size": "block_size",
    "max_count": "max_count",
    "competitive": "competitive",
}
"""Settings that are options of a structure, by their names in layers."""


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """Arm, couplings and biases."""

    attention: str = setting("boltzmann", f"Attention: {', '.join(ATTENTION)}.")
    qk_norm: bool = setting(False, "Layer-normalise queries and keys.")
    normalize: bool = setting(False, "Divide attention weights by their sum (not for softmax).")
    position_bias: str = setting("none", f"Bias of the scores: {', '.join(POSITION_BIASES)}.")
    couplings: str | None = setting(
        None, f"Structure of the couplings: {', '.join(STRUCTURES)} (default: dense)."
    )
    relative: bool = setting(False, "Couplings, dense or banded, depend on the distance only.")
    coupling_constraint: str | None = setting(
        None, f"Couplings, dense, banded or block, are held: {', '.join(CONSTRAINTS)}."
    )
    coupling_std: float | None = setting(
        None, "Standard deviation of the initial couplings, dense, banded or block (default: 0.02)."
    )
    content: bool = setting(False, "Couplings, banded or low_rank, depend on the tokens.")
    coupling_width: int | None = setting(None, "Largest distance of banded couplings (default: 4).")
    coupling_sign: int | None = setting(None, "Sign of low_rank couplings, 1 or -1 (default: 1).")
    block_size: int | None = setting(None, "Positions of a block of couplings (default: 8).")
    max_count: int | None = setting(
        None, "Largest number of attended positions of cardinality (default: 16)."
    )
    competitive: bool = setting(False, "Cardinality learns one strength of competition a head.")
    interaction: str = setting("spin", f"What couplings act between: {', '.join(INTERACTIONS)}.")
    moments: str = setting(
        "exact",
        f"How mean spins are computed without reads: {', '.join(MOMENTS)}. The same in validations "
        f"where exact ones would need too much memory.",
    )

    @property
    def structure(self) -> str | None:
        """The structure of the arm's couplings; None for an arm without."""
        if self.attention == "cardinality":
            return "cardinality"
        return (self.couplings or "dense") if self.attention in ("boltzmann", "couplings") else None

    @property
    def arm(self) -> str:
        """The attention, and the structure of its couplings if that is a choice."""
        chosen = self.structure not in (None, "dense", "cardinality")
        return f"{self.attention} ({self.structure})" if chosen else self.attention

    @property
    def attention_options(self) -> dict[str, Any]:
        """What the arm's layer is given."""
        options = {name: getattr(self, name) for name in ("qk_norm", "normalize", "position_bias")}
        if self.structure is None:
            return options
        of_couplings = {"couplings": self.structure, "interaction": self.interaction}
        return options | of_couplings | self._structure_options()

    def _structure_options(self) -> dict[str, Any]:
        """Options of a structure by their names in layers."""
        return {option: getattr(self, name) for name, option in OPTIONS.items()}

    def check_attention(self) -> None:
        """Raise a ValueError unless there is such an arm, and the settings of couplings fit it."""
        for name, known in (("attention", ATTENTION), ("position_bias", POSITION_BIASES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"Argument `{name}` must be one of {', '.join(known)}, "
                    f"but is {getattr(self, name)!r}."
                )
        if self.structure is None or self.couplings not in (None, self.structure):
            self._check_without_couplings()
            return
        names = {option: name for name, option in OPTIONS.items()}
        check_options(self.structure, self._structure_options(), names)
        check_interaction(self.interaction, self.structure)

    def _check_without_couplings(self) -> None:
        """Refuse settings of couplings; `relative` has always been allowed in every arm."""
        given = {name: getattr(self, name) for name in ("couplings", *OPTIONS)}
        given = {k: v for k, v in given.items() if is_given(v) and k != "relative"}
        if self.interaction != "spin":
            given["interaction"] = self.interaction
        if self.moments != "exact":
            given["moments"] = self.moments
        for name, value in given.items():
            of_counts = name in ("max_count", "competitive")
            takers = "cardinality" if of_counts else "boltzmann and couplings"
            raise ValueError(
                f"Argument `{name}` must be left out for {self.attention} attention, but is "
                f"{value!r}: it is for {takers}."
            )
