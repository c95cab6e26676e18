"""What a structure of J is to the rest of the package."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor


class NotFinite(ValueError):  # noqa: N818 - it says what is wrong
    """Fields or couplings that are NaN or infinite, as those of a training that diverges."""


class Couplings(ABC):
    r"""The interaction of the spins of each group, as a function of few numbers.

    .. math:: E(s) = -\sum_j h_j s_j - I(s), \qquad
              I(s) = \sum_{j<k} J_{jk} s_j s_k = \tfrac12 s^T J s

    Everything that a structure depends on is one tensor, ``values``, whose first axis is the
    groups, and the whole numbers ``options``: ``type(c)(c.values, *c.options)`` is c again.

    Attributes:
        kind: The structure's name.
        values: Its numbers, (groups, …), float32 or float64, differentiable.
    """

    kind: ClassVar[str] = ""

    values: Tensor

    @property
    @abstractmethod
    def num_spins(self) -> int:
        """Number of spins n."""

    @property
    def options(self) -> tuple[int, ...]:
        """What, after ``values``, the constructor takes."""
        return ()

    @abstractmethod
    def dense(self) -> Float[Tensor, "groups n n"]:
        """J as a matrix, symmetric with zero diagonal, differentiable in ``values``.

        Raises:
            ValueError: The interaction is not quadratic in the spins.
        """

    @abstractmethod
    def matvec(self, s: Float[Tensor, "groups n columns"]) -> Float[Tensor, "groups n columns"]:
        """Σ_k J_jk s_k for each column s."""

    @abstractmethod
    def leading(self, num_spins: int) -> "Couplings":
        """The couplings among the first spins."""

    @abstractmethod
    def scaled(self, beta: "float | Tensor") -> "Couplings":
        """The couplings whose interaction is β I(s); β is a number or of shape () or (groups,)."""

    def restricted(
        self, group: Int[Tensor, " models"], rows: Int[Tensor, "models spins"]
    ) -> "Couplings":
        """The couplings of models that have some of the spins.

        Args:
            group: The group that each model takes its couplings from.
            rows: The spins of each model, in ascending order.

        Raises:
            NotImplementedError: The structure has no such couplings, as blocks of one size do not.
        """
        raise NotImplementedError(f"{type(self).__name__} is no structure of some of its spins.")

    def equivalent(self, rows: Int[Tensor, "*shape spins"]) -> Int[Tensor, "*shape spins"] | None:
        """Other rows with the same couplings among them; None where none are known.

        Such that models with different spins can be seen to have the same couplings, not by the
        values, which may have different gradients.

        Args:
            rows: The spins of models, in ascending order.
        """
        return None

    def interaction(self, s: Float[Tensor, "groups n columns"]) -> Float[Tensor, "groups columns"]:
        """I(s) of each column; an absent spin is 0 in it."""
        return (s * self.matvec(s)).sum(1) / 2

    def field(self, num_active: Float[Tensor, "groups queries"]) -> Tensor | None:
        """A field on every spin that comes with ``dense()``, (groups, queries); None for none.

        Args:
            num_active: Number of spins of each query.
        """
        return None

    def check(self) -> None:
        """Raise :class:`NotFinite` unless every value is finite."""
        check_finite("J", self.values)

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return self.values.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """float32 or float64."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values.device

    def with_values(self, values: Tensor) -> "Couplings":
        """The same structure with other numbers."""
        return type(self)(values, *self.options)  # type: ignore[call-arg]

    def __getitem__(self, groups: Any) -> "Couplings":
        """Those of some of the groups: a slice, or a tensor of numbers."""
        return self.with_values(self.values[groups])

    def detach(self) -> "Couplings":
        """Without gradient."""
        return self.with_values(self.values.detach())

    def to(self, *args: Any, **kwargs: Any) -> "Couplings":
        """With another dtype or on another device, as ``Tensor.to``."""
        return self.with_values(self.values.to(*args, **kwargs))

    def repeated(self, times: int) -> "Couplings":
        """All groups `times` times over: (0, 1, …, 0, 1, …)."""
        return self.with_values(self.values.repeat(times, *(1,) * (self.values.ndim - 1)))

    def __repr__(self) -> str:
        shape, options = tuple(self.values.shape), "".join(f", {o}" for o in self.options)
        return f"{type(self).__name__}(values of shape {shape}{options})"


def interaction(
    J: Tensor | Couplings, s: Float[Tensor, "groups n columns"]
) -> Float[Tensor, "groups columns"]:
    r"""I(s) = Σ_{j<k} J_jk s_j s_k of each column, for a dense J or a structure.

    >>> J = torch.tensor([[[0.0, 0.5], [0.5, 0.0]]])
    >>> interaction(J, torch.tensor([[[1.0, 1.0], [1.0, -1.0]]]))  # of two states
    tensor([[ 0.5000, -0.5000]])
    """
    return J.interaction(s) if isinstance(J, Couplings) else (s * (J @ s)).sum(1) / 2


def beta_like(beta: "float | Tensor", values: Tensor) -> "float | Tensor":
    """β in a shape that multiplies `values`, (groups, …)."""
    if not isinstance(beta, Tensor):
        return beta
    return beta.reshape(-1, *(1,) * (values.ndim - 1))


def check_values(name: str, values: Tensor, shape: str, ndim: int) -> None:
    """Raise unless `values` has so many axes, groups first, and a floating dtype."""
    if values.ndim != ndim:
        raise ValueError(
            f"Argument `{name}` must have shape {shape}, but has shape {tuple(values.shape)}."
        )
    if not values.is_floating_point():
        raise TypeError(f"Argument `{name}` must be float32 or float64, but is {values.dtype}.")


def check_finite(name: str, value: Tensor) -> None:
    """Raise :class:`NotFinite` if a value is NaN or infinite."""
    finite = value.detach().isfinite()
    if not bool(finite.all()):
        where = tuple((~finite).nonzero()[0].tolist())
        raise NotFinite(
            f"Argument `{name}` must be finite, but is {value[where].item()} at index {where}."
        )
