"""β of an attention layer: a number, or one for each head that is learned or critical."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from qattn.ising.batch import IsingBatch
from qattn.ising.checks import check_beta
from qattn.ising.precision import at_least_single
from qattn.weights import Stored

Beta = float | Literal["learnable", "critical", "critical-tracked"]
"""A number; "learnable", trained with the layer; "critical" and "critical-tracked", set to where
the layer's attention has its transition, by a training once or again and again."""

RANGE = tuple(2.0 ** (k / 2) for k in range(-8, 13))
"""β among which a critical one is looked for: 1/16 to 64 times the scale of attention, 1/√d."""

CRITICAL = ("critical", "critical-tracked")
"""The values that :meth:`WithCriticalBeta.set_critical_beta` is for."""

WORDS = ("learnable", *CRITICAL)
"""The values that are no numbers."""

TRANSITIONLESS = "has no transition: its positions are independent of each other"
"""Why a layer may have no critical β."""


class WithBeta(Stored):
    """An attention layer's inverse temperature, on which its subclasses build."""

    has_transition: ClassVar[bool] = True
    """Whether there is a critical β that the layer can be set to."""

    no_transition: ClassVar[str] = TRANSITIONLESS
    """Why there is none, where there is none."""

    _beta: Beta

    def _start_beta(self, beta: Beta, num_heads: int, **factory: Any) -> None:
        check_setting(beta, type(self).__name__, self.has_transition, self.no_transition)
        self._beta = beta
        if isinstance(beta, str):
            # A critical β is a parameter too, so that members of an ensemble have one each.
            self.log_beta = nn.Parameter(torch.zeros(num_heads, **factory), beta == "learnable")

    @property
    def beta(self) -> float | Float[Tensor, " heads"]:
        """Inverse temperature β: a number, or one for each head where it is not fixed.

        Set to a number, it is that for all heads.
        """
        if not isinstance(self._beta, str):
            return self._beta
        return at_least_single(self.log_beta).exp()

    @beta.setter
    def beta(self, beta: float) -> None:
        check_beta(beta)
        if not isinstance(self._beta, str):
            self._beta = beta
        elif beta == 0:
            raise ValueError(
                f"Argument `beta` must be positive where it is {self._beta}, but is {beta}."
            )
        else:
            with torch.no_grad():
                self.log_beta.fill_(math.log(beta))

    def _beta_of_heads(self) -> float | Float[Tensor, "heads 1 1"]:
        """β in a shape that multiplies scores."""
        beta = self.beta
        return beta.reshape(-1, 1, 1) if isinstance(beta, Tensor) else beta


class WithCriticalBeta(WithBeta, ABC):
    """The β of a layer that makes scores or Ising models of an input, on which it can be set."""

    @torch.no_grad()
    def set_critical_beta(
        self, x: Float[Tensor, "batch positions embed"]
    ) -> Bool[Tensor, " heads"]:
        r"""Set β of each head to its critical value on x, where it has one.

        That of softmax attention is where the heat capacity per position, C/n, has its peak, that
        of Ising models where the spin-glass susceptibility of different spins has its own: means
        over queries of x (:func:`qattn.thermodynamics.critical_betas_of_heads`), with scores,
        fields and couplings as they are before β. A head without a peak within 1/16 to 64, as one
        without couplings, keeps its β.

        Returns:
            Whether each head had a peak, and so has a new β.

        Raises:
            TypeError: β is neither "critical" nor "critical-tracked".

        Source: W. Chuang, "Recognizing Self-Attention as a Stack of Ising Models", section 3.1.
        """
        if self._beta not in CRITICAL:
            raise TypeError(
                f"Argument `beta` of the layer must be one of {', '.join(map(repr, CRITICAL))} to "
                f"be set to a critical value, but is {self._beta!r}."
            )
        from qattn.thermodynamics import critical_betas_of_heads  # it loads SciPy

        found = critical_betas_of_heads(
            self._models_before_beta(x), num_heads=len(self.log_beta), betas=RANGE
        ).to(self.log_beta)
        self.log_beta.copy_(torch.where(found.isnan(), self.log_beta, found.log()))
        return ~found.isnan()

    @abstractmethod
    def _models_before_beta(
        self, x: Float[Tensor, "batch positions embed"]
    ) -> Float[Tensor, "batch heads queries positions"] | IsingBatch:
        """The scores on x, or the Ising models, at β = 1."""


def check_setting(
    beta: float | str, layer: str, has_transition: bool, reason: str = TRANSITIONLESS
) -> None:
    """Raise a ValueError unless a layer can have this β.

    Args:
        beta: The value.
        layer: What the layer is called.
        has_transition: Whether its attention has a critical β.
        reason: Why it has none.
    """
    if not isinstance(beta, str):
        check_beta(beta)
    elif beta not in WORDS:
        words = ", ".join(map(repr, WORDS))
        raise ValueError(f"Argument `beta` must be a number or one of {words}, but is {beta!r}.")
    elif beta in CRITICAL and not has_transition:
        raise ValueError(
            f"Argument `beta` must be a number or 'learnable' for {layer}, but is {beta!r}: it "
            f"{reason}."
        )
