"""Settings of a training that choose its attention: the arm, its couplings and its biases."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from qattn.attention.models import INTERACTIONS, MOMENTS, check_interaction
from qattn.layers import ATTENTION
from qattn.layers.beta import WORDS, Beta, check_setting
from qattn.layers.position_bias import POSITION_BIASES
from qattn.layers.spin_model import FIELDS
from qattn.layers.structures import CONSTRAINTS, STRUCTURES, check_options, is_given
from qattn.spin_models import MEAN_FIELDS, SPINS
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

SPIN_OPTIONS = {
    "spins": "spins",
    "spin_mean_field": "mean_field",
    "steady_state": "steady_state",
    "spin_field": "field",
}
"""Settings that are options of spin-model attention, by their names in its layer."""

NAMES = {
    "attention": ATTENTION,
    "position_bias": POSITION_BIASES,
    "spins": SPINS,
    "spin_mean_field": MEAN_FIELDS,
    "spin_field": FIELDS,
}
"""Settings that are a name, and the names that there are."""

SHARED = ("qk_norm", "normalize", "position_bias", "beta")
"""Settings that are options of every layer."""


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """Arm, couplings and biases."""

    attention: str = setting("boltzmann", f"Attention: {', '.join(ATTENTION)}.")
    qk_norm: bool = setting(False, "Layer-normalise queries and keys.")
    normalize: bool = setting(False, "Divide attention weights by their sum (not for softmax).")
    position_bias: str = setting("none", f"Bias of the scores: {', '.join(POSITION_BIASES)}.")
    beta: Beta = setting(  # noqa: RUF009 - a union of what is immutable
        1.0, f"Inverse temperature of attention: a number, or {', '.join(WORDS)} for each head."
    )
    beta_every: int = setting(100, "Steps after which a critical-tracked beta is set again.")
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
    spins: str | None = setting(
        None, f"Spins of spin-model attention: {', '.join(SPINS)} (default: vector)."
    )
    spin_mean_field: str | None = setting(
        None, f"Its mean-field theory: {', '.join(MEAN_FIELDS)} (default: naive)."
    )
    steady_state: bool = setting(False, "It repeats its step to the steady state.")
    spin_field: str | None = setting(
        None, f"Its external field, the head's value or the stream: {', '.join(FIELDS)}."
    )
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
        """The attention, and the structure of its couplings or its spins if that is a choice."""
        chosen = [] if self.structure in (None, "dense", "cardinality") else [self.structure]
        given = {"steady_state": "steady"} if self.steady_state else {}
        given |= {name: v for name, v in self._spin_options().items() if isinstance(v, str)}
        chosen += [v for v in given.values() if v not in ("vector", "naive", "value")]
        return f"{self.attention} ({'-'.join(chosen)})" if chosen else self.attention

    @property
    def attention_options(self) -> dict[str, Any]:
        """What the arm's layer is given."""
        options = {name: getattr(self, name) for name in SHARED}
        options |= self._spin_options()
        if self.structure is None:
            return options
        of_couplings = {"couplings": self.structure, "interaction": self.interaction}
        return options | of_couplings | self._structure_options()

    def _spin_options(self) -> dict[str, Any]:
        """Options of spin-model attention that are given, by their names in its layer."""
        given = {option: getattr(self, name) for name, option in SPIN_OPTIONS.items()}
        return {option: value for option, value in given.items() if is_given(value)}

    def _structure_options(self) -> dict[str, Any]:
        """Options of a structure by their names in layers."""
        return {option: getattr(self, name) for name, option in OPTIONS.items()}

    def check_attention(self) -> None:
        """Raise a ValueError unless there is such an arm, and the settings of couplings fit it."""
        for name, known in NAMES.items():
            value = getattr(self, name)
            if value not in known and not (name in SPIN_OPTIONS and value is None):
                raise ValueError(
                    f"Argument `{name}` must be one of {', '.join(known)}, but is {value!r}."
                )
        check_setting(
            self.beta, f"{self.attention} attention", ATTENTION[self.attention].has_transition
        )
        if self.attention != "spin-model":
            self._refuse(SPIN_OPTIONS, lambda _: "spin-model")
        if self.structure is None or self.couplings not in (None, self.structure):
            self._check_without_couplings()
            return
        names = {option: name for name, option in OPTIONS.items()}
        check_options(self.structure, self._structure_options(), names)
        check_interaction(self.interaction, self.structure)

    def _check_without_couplings(self) -> None:
        """Refuse settings of couplings; `relative` has always been allowed in every arm."""
        names = [name for name in ("couplings", *OPTIONS) if name != "relative"]
        names += ["interaction"] if self.interaction != "spin" else []
        names += ["moments"] if self.moments != "exact" else []
        of_counts = ("max_count", "competitive")
        self._refuse(
            names, lambda name: "cardinality" if name in of_counts else "boltzmann and couplings"
        )

    def _refuse(self, names: Iterable[str], takers: Callable[[str], str]) -> None:
        """Raise a ValueError if one of these settings is given, which other arms take."""
        for name in names:
            if is_given(value := getattr(self, name)):
                raise ValueError(
                    f"Argument `{name}` must be left out for {self.attention} attention, but is "
                    f"{value!r}: it is for {takers(name)}."
                )
