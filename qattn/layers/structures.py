"""What a layer learns of its couplings, for each structure of J."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from qattn.couplings import Banded, Block, Cardinality, Couplings, LowRank
from qattn.ising.coupling_matrix import coupling_matrix

INITIAL_COUPLING_STD = 0.02
"""Standard deviation of the initial couplings."""

INITIAL_COMPETITION = 0.25
"""λ of the competitive potential at which a free potential on counts starts."""

CONSTRAINTS = ("non-negative", "non-positive", "frozen")
"""What couplings may be held to."""

Sequences = Float[Tensor, "batch positions embed"]
Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class Structure(ABC):
    """A structure of J for the heads of a layer, which holds its parameters.

    Their names end in ``coupling_values``. With ``content`` couplings depend on the layer's input,
    so that each sequence has its own.
    """

    num_heads: int
    context: int
    embed_dim: int

    kind: ClassVar[str]
    content = False

    @abstractmethod
    def start(self) -> dict[str, Tensor]:
        """The parameters by name, as they are at the start."""

    @abstractmethod
    def couplings(self, p: Parameters, x: Sequences | None, size: int) -> Tensor | Couplings:
        """The couplings of the first `size` positions: of each head, or of each sequence and head.

        Args:
            p: The parameters by name.
            x: The layer's input, if they depend on it.
            size: Number of positions.
        """

    def __post_init__(self) -> None:
        for name, value in self.options.items():
            if name != "sign" and type(value) is int and value < 1:
                raise ValueError(f"Argument `{name}` must be positive, but is {value}.")

    @property
    def options(self) -> dict[str, Any]:
        """The options by name, but for those that are left to the structure."""
        options = {f.name: getattr(self, f.name) for f in fields(self)[3:]}
        return {name: value for name, value in options.items() if value is not None}

    @property
    def frozen(self) -> bool:
        """Whether the couplings stay as they start."""
        return self.options.get("constraint") == "frozen"


@dataclass(frozen=True)
class Entries(Structure):
    """A structure whose parameters v are entries of J: J = v, or held to a sign J = ±|v|.

    |v| starts and moves in steps of the size that they have without a constraint.
    """

    constraint: str | None = None
    std: float | None = None

    def entries(self, p: Parameters) -> Tensor:
        """J of the parameters."""
        v = p["coupling_values"]
        if self.constraint in (None, "frozen"):
            return v
        # Not abs(), whose derivative 0 at 0 would hold an entry there for ever.
        size = torch.where(v < 0, -v, v)
        return size if self.constraint == "non-negative" else -size

    def random(self, *shape: int) -> Tensor:
        """Parameters at the start."""
        return _normal(*shape, std=INITIAL_COUPLING_STD if self.std is None else self.std)


@dataclass(frozen=True)
class DenseStructure(Entries):
    """One matrix for each head: J_jk for j < k in rows, or relative by distance."""

    kind = "dense"
    relative: bool = False

    def start(self) -> dict[str, Tensor]:
        """Small entries."""
        n = self.context
        entries = n - 1 if self.relative else n * (n - 1) // 2
        return {"coupling_values": self.random(self.num_heads, entries)}

    def couplings(self, p: Parameters, x: Sequences | None, size: int) -> Tensor:
        """The matrix."""
        return coupling_matrix(self.entries(p), self.context, size, self.relative)


@dataclass(frozen=True)
class BandedStructure(Entries):
    r"""J_{j,j-d} for distances d ≤ width, by position or relative.

    With content, bonds are gated: :math:`J_{j,j-d} \cdot 2\sigma(a \cdot x_j + c \cdot x_{j-d})`,
    with a and c for each head 0 at the start, where every gate is 1.
    """

    kind = "banded"
    width: int = 4
    relative: bool = False
    content: bool = False

    def start(self) -> dict[str, Tensor]:
        """A small band, and gates that are open."""
        positions = () if self.relative else (self.context,)
        start = {"coupling_values": self.random(self.num_heads, *positions, self.width)}
        if self.content:
            start["content_coupling_values"] = torch.zeros(2, self.num_heads, self.embed_dim)
        return start

    def couplings(self, p: Parameters, x: Sequences | None, size: int) -> Banded:
        """The band, gated by content."""
        width = min(self.width, size - 1)
        values = self.entries(p)[..., :width]
        if self.relative:
            values = values.unsqueeze(1).expand(-1, size, -1)
        values = values[:, :size]
        if self.content:
            assert x is not None
            a, c = torch.einsum("kte,rhe->rkht", x, p["content_coupling_values"])
            # Row j of the windows holds c_{j-w} … c_{j-1}.
            before = F.pad(c, (width, 0))[..., :-1].unfold(-1, width, 1).flip(-1)
            values = (values * 2 * (a.unsqueeze(-1) + before).sigmoid()).flatten(0, 1)
        return Banded(values)


@dataclass(frozen=True)
class LowRankStructure(Structure):
    r"""J_jk = ± U_j U_k, with U by position, or by content U(x_j) = u·x_j + u_0 for each head.

    U starts so that J is as small as other couplings are, and smaller where context is so long
    that ΣU² would pass 1/2: from 1 on, many spins can turn over together.
    """

    kind = "low_rank"
    sign: int = 1
    content: bool = False

    def start(self) -> dict[str, Tensor]:
        """Small U."""
        H, width = self.num_heads, self.embed_dim
        std = min(INITIAL_COUPLING_STD, 0.5 / self.context) ** 0.5
        if not self.content:
            return {"coupling_values": _normal(H, self.context, std=std)}
        start = _normal(H, width, std=std / width**0.5)  # of inputs of variance 1
        return {"coupling_values": torch.zeros(H, 1), "content_coupling_values": start}

    def couplings(self, p: Parameters, x: Sequences | None, size: int) -> LowRank:
        """U by position or by content."""
        if not self.content:
            return LowRank(p["coupling_values"][:, :size], self.sign)
        assert x is not None
        U = p["content_coupling_values"] @ x.mT + p["coupling_values"]
        return LowRank(U.flatten(0, 1), self.sign)


@dataclass(frozen=True)
class BlockStructure(Entries):
    """Dense J within blocks of successive positions."""

    kind = "block"
    block_size: int = 8

    def start(self) -> dict[str, Tensor]:
        """Small entries of each block."""
        m = self.block_size
        blocks = -(-self.context // m)
        return {"coupling_values": self.random(self.num_heads, blocks, m * (m - 1) // 2)}

    def couplings(self, p: Parameters, x: Sequences | None, size: int) -> Block:
        """The blocks."""
        m = self.block_size
        values = self.entries(p)[:, : -(-size // m)]
        J = coupling_matrix(values.flatten(0, 1), m, m, False)
        return Block(J.unflatten(0, values.shape[:2]), size)


@dataclass(frozen=True)
class CardinalityStructure(Structure):
    r"""log φ of 0 … max_count attended positions, free; larger counts have weight 0.

    It starts at φ(c) = exp(-2λ(c - 1)²) with λ = 1/4, competition that is weak beside the
    differences of scores between positions. With ``competitive`` λ alone is learned, as softplus of
    the parameter and so never negative: J_jk = -λ, where max_count allows all counts.
    """

    kind = "cardinality"
    max_count: int = 16
    competitive: bool = False

    def start(self) -> dict[str, Tensor]:
        """The competitive potential."""
        strength = torch.full((self.num_heads,), INITIAL_COMPETITION)
        if self.competitive:
            return {"coupling_values": strength.expm1().log()}
        start = Cardinality.competitive(strength, self.context, max_count=self.max_count)
        return {"coupling_values": start.values}

    def couplings(self, p: Parameters, x: Sequences | None, size: int) -> Cardinality:
        """The potential on the counts that these positions allow."""
        if self.competitive:
            strength = F.softplus(p["coupling_values"])
            return Cardinality.competitive(strength, size, max_count=self.max_count)
        return Cardinality(p["coupling_values"][:, : size + 1], size)


STRUCTURES: dict[str, type[Structure]] = {
    made.kind: made
    for made in (
        DenseStructure,
        BandedStructure,
        LowRankStructure,
        BlockStructure,
        CardinalityStructure,
    )
}
"""The structures by the name that layers and the command line use."""


def make_structure(
    couplings: str, num_heads: int, context: int, embed_dim: int, **options: Any
) -> Structure:
    """The structure of this name; options that are None or False are left out.

    Raises:
        ValueError: There is no such structure, or it does not take an option.
    """
    check_options(couplings, options)
    given = {k: v for k, v in options.items() if is_given(v)}
    return STRUCTURES[couplings](num_heads, context, embed_dim, **given)


def check_options(
    couplings: str, options: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> None:
    """Raise a ValueError unless there is this structure and it takes these options and values.

    Args:
        couplings: Its name.
        options: Options by name; those that are None or False are not given.
        names: What the user calls them, where that is something else.
    """
    if couplings not in STRUCTURES:
        known = ", ".join(repr(name) for name in STRUCTURES)
        raise ValueError(f"Argument `couplings` must be one of {known}, but is {couplings!r}.")
    given = {name: value for name, value in options.items() if is_given(value)}
    shown = {name: (names or {}).get(name, name) for name in options}
    for name, value in given.items():
        takers = [k for k, made in STRUCTURES.items() if name in made.__dataclass_fields__]
        if not takers:
            raise TypeError(f"There is no argument `{name}`: a structure of couplings takes none.")
        if couplings not in takers:
            raise ValueError(
                f"Argument `{shown[name]}` must be left out for couplings = "
                f"{couplings!r}, but is {value!r}: it is for {' and '.join(map(repr, takers))}."
            )
    if given.get("sign", 1) not in (1, -1):
        raise ValueError(f"Argument `{shown['sign']}` must be 1 or -1, but is {given['sign']}.")
    if not 0 <= given.get("std", 0) < float("inf"):
        raise ValueError(
            f"Argument `{shown['std']}` must be a finite number from 0 on, but is {given['std']}."
        )
    constraint = given.get("constraint")
    if constraint not in (None, *CONSTRAINTS):
        known = ", ".join(repr(name) for name in CONSTRAINTS)
        raise ValueError(
            f"Argument `{shown['constraint']}` must be one of {known}, but is {constraint!r}."
        )
    if constraint == "frozen" and "content" in given:
        raise ValueError(
            f"Argument `{shown['content']}` must be left out where {shown['constraint']} is "
            f"'frozen', but is True: couplings that learn from the input are not frozen."
        )


def is_given(value: Any) -> bool:
    """Whether this is the value of an option, and not that of one that is left out."""
    return value is not None and value is not False


def _normal(*shape: int, std: float = INITIAL_COUPLING_STD) -> Tensor:
    return std * torch.randn(*shape)
