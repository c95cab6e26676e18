"""Working qubits and couplers of a processor."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import networkx

NUM_PARAMETERS = {"pegasus": (1,), "zephyr": (1, 2)}
"""Known topologies and how many numbers their shape may have: (m,), or (m,) and (m, t)."""

DEFAULT_TILE = 4
"""t of a Zephyr graph whose shape is m alone."""

Labels = NDArray[np.integer[Any]] | Sequence[int] | int


@dataclass(frozen=True, eq=False)
class WorkingGraph:
    """Working qubits and couplers of a processor: its topology less what is dead.

    Args:
        topology: "zephyr" or "pegasus".
        shape: (m, t) of a Zephyr graph (t = 4 if left out), (m,) of a Pegasus graph; a Z12 is
            (12, 4).
        qubits: Labels of the active qubits, ascending, shape (N,); D-Wave's linear labels.
        couplers: Active couplers u < v in lexicographic order, shape (E, 2).
        graph_id: The solver's name for this working graph; it changes when a qubit dies.

    Raises:
        ValueError: The topology is unknown; qubits or couplers are out of order, occur twice, or
            lie outside the topology; a coupler ends at a dead qubit.
    """

    topology: str
    shape: tuple[int, ...]
    qubits: NDArray[np.int32]
    couplers: NDArray[np.int32]
    graph_id: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _checked_shape(self.topology, self.shape))
        qubits = np.array(self.qubits, dtype=np.int32, order="C")
        couplers = np.array(self.couplers, dtype=np.int32, order="C").reshape(-1, 2)
        _check_labels(qubits, couplers, self.num_sites)
        for name, value in (("qubits", qubits), ("couplers", couplers)):
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    @classmethod
    def from_properties(cls, properties: Mapping[str, Any], graph_id: str) -> "WorkingGraph":
        """The working graph of a solver.

        Args:
            properties: The solver's properties, of which "topology", "qubits" and "couplers" are
                read, in any order of qubits and couplers.
            graph_id: The solver's graph id.

        Raises:
            ValueError: A property is missing, or what it says is not a Zephyr or Pegasus graph.
        """
        check_has(properties, "topology", "qubits", "couplers")
        topology = properties["topology"]
        return cls(
            topology["type"],
            tuple(topology["shape"]),
            np.sort(np.asarray(properties["qubits"], dtype=np.int32)),
            _ordered(properties["couplers"]),
            graph_id,
        )

    @classmethod
    def perfect(cls, topology: str, *shape: int) -> "WorkingGraph":
        """A processor on which everything works: ``perfect("zephyr", 12)`` is a Z12."""
        shape = _checked_shape(topology, shape)
        graph = _dwave_graph(topology, shape)
        qubits = np.sort(np.fromiter(graph.nodes, dtype=np.int32, count=len(graph)))
        name = "-".join([topology, *map(str, shape)])
        return cls(topology, shape, qubits, _ordered(list(graph.edges)), f"{name}-perfect")

    def with_defects(self, dead_qubits: float, dead_couplers: float, seed: int) -> "WorkingGraph":
        """The same processor with qubits and couplers dead, chosen at random.

        Args:
            dead_qubits: Fraction of the qubits that die, and with them their couplers.
            dead_couplers: Fraction of the couplers between the other qubits that die.
            seed: Fixes the choice.

        Raises:
            ValueError: A fraction is not between 0 and 1.
        """
        for name, value in (("dead_qubits", dead_qubits), ("dead_couplers", dead_couplers)):
            if not 0 <= value <= 1:
                raise ValueError(f"Argument `{name}` must be between 0 and 1, but is {value}.")
        rng = np.random.default_rng(seed)
        alive = _survivors(len(self.qubits), dead_qubits, rng)
        kept = np.flatnonzero(alive[self.coupler_ends].all(1))
        kept = kept[_survivors(len(kept), dead_couplers, rng)]
        graph_id = f"{self.graph_id}-dead-{dead_qubits:g}-{dead_couplers:g}-seed-{seed}"
        return WorkingGraph(
            self.topology, self.shape, self.qubits[alive], self.couplers[kept], graph_id
        )

    def with_counts(self, num_qubits: int, num_couplers: int, seed: int) -> "WorkingGraph":
        """The same processor with this many qubits and couplers left, chosen at random.

        Args:
            num_qubits: Qubits that stay alive.
            num_couplers: Couplers between them that stay alive.
            seed: Fixes the choice.

        Raises:
            ValueError: There are not so many qubits, or not so many couplers between that many.
        """
        N = len(self.qubits)
        if not 0 <= num_qubits <= N:
            raise ValueError(
                f"Argument `num_qubits` must be between 0 and {N}, but is {num_qubits}."
            )
        rng = np.random.default_rng(seed)
        # Dead qubits take their couplers with them: drawn anew if these were too many.
        for _ in range(100):
            alive = np.isin(np.arange(N), rng.choice(N, num_qubits, replace=False))
            kept = np.flatnonzero(alive[self.coupler_ends].all(1))
            if len(kept) >= num_couplers:
                break
        else:
            raise ValueError(
                f"Argument `num_couplers` must be about {len(kept)} or less, which are between "
                f"{num_qubits} of the qubits, but is {num_couplers}."
            )
        kept = np.sort(rng.choice(kept, num_couplers, replace=False))
        graph_id = f"{self.graph_id}-left-{num_qubits}-{num_couplers}-seed-{seed}"
        return WorkingGraph(
            self.topology, self.shape, self.qubits[alive], self.couplers[kept], graph_id
        )

    def to_networkx(self) -> "networkx.Graph":
        """The graph as dwave.graphs makes it, with the attributes that Ocean's tools read."""
        return _dwave_graph(self.topology, self.shape, self.qubits, self.couplers)

    @property
    def num_sites(self) -> int:
        """Labels of the topology, dead and alive: the property `num_qubits` of a solver."""
        m = self.shape[0]
        if self.topology == "pegasus":
            return 24 * m * (m - 1)
        return 4 * self.shape[1] * m * (2 * m + 1)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of topology, shape, qubits and couplers."""
        digest = hashlib.sha256(f"{self.topology} {self.shape}".encode())
        for labels in (self.qubits, self.couplers):
            digest.update(f" {len(labels)} ".encode() + labels.astype("<i4").tobytes())
        return digest.hexdigest()

    @cached_property
    def coupler_ends(self) -> NDArray[np.int32]:
        """Couplers as positions in `qubits` instead of labels, shape (E, 2)."""
        return np.searchsorted(self.qubits, self.couplers).astype(np.int32)

    @cached_property
    def coupling_groups(self) -> NDArray[np.int64] | None:
        """Group in which qubit u, and in which qubit v, counts each coupler (u, v); shape (E, 2).

        Groups 2q and 2q + 1 belong to the q-th working qubit of a Zephyr graph: the couplers of a
        qubit fall into two groups by the half of the qubit's body that they meet, as in
        ``dwave.system.coupling_groups``. None for Pegasus, where all couplers of a qubit count
        together.
        """
        if self.topology != "zephyr":
            return None
        m, t = self.shape
        halves: list[NDArray[np.int64]] = []
        for near, far in (self.couplers.T, self.couplers.T[::-1]):
            U, _, J, Z = _zephyr_coordinates(near, m, t)
            u, w, j, z = _zephyr_coordinates(far, m, t)
            # Half of the near qubit's body: of an external coupler by the direction of the far
            # qubit, of an odd one by the offset of the two, of an internal one by the crossing.
            external, odd, internal = np.where(z > Z, 0, 1), Z + J - z, 2 * Z + J + 1 - w
            halves.append(np.where(u == U, np.where(j == J, external, odd), internal))
        groups: NDArray[np.int64] = 2 * self.coupler_ends.astype(np.int64) + np.stack(halves, 1)
        return groups

    @cached_property
    def _coupler_keys(self) -> NDArray[np.int64]:
        return _keys(self.couplers, self.num_sites)

    def position_of_qubit(self, labels: Labels) -> NDArray[np.int64]:
        """Positions of labels in `qubits`; -1 for a qubit that is not active."""
        labels = np.asarray(labels)
        if not len(self.qubits):
            return np.full(labels.shape, -1)
        # The place where a label would be inserted is its position, if it is there.
        position = np.searchsorted(self.qubits, labels).clip(max=len(self.qubits) - 1)
        return np.where(self.qubits[position] == labels, position, -1)

    def position_of_coupler(self, u: Labels, v: Labels) -> NDArray[np.int64]:
        """Positions in `couplers` of pairs of labels, in either order; -1 if not active."""
        pairs = np.stack(np.broadcast_arrays(u, v), -1).astype(np.int64)
        requested = _keys(np.sort(pairs, axis=-1), self.num_sites)
        if not len(self.couplers):
            return np.full(requested.shape, -1)
        keys = self._coupler_keys
        position = np.searchsorted(keys, requested).clip(max=len(keys) - 1)
        # A negative label can have the key of another pair.
        known = (keys[position] == requested) & (pairs >= 0).all(-1)
        return np.where(known, position, -1)

    def __repr__(self) -> str:
        name = f"{self.topology} {'-'.join(map(str, self.shape))}"
        return (
            f"WorkingGraph({name}, {len(self.qubits)} qubits, {len(self.couplers)} couplers, "
            f"graph_id={self.graph_id!r})"
        )


def check_has(properties: Mapping[str, Any], *names: str) -> None:
    """Raise a ValueError unless a solver's properties have all these."""
    missing = sorted(set(names) - properties.keys())
    if missing:
        *others, last = map(repr, names)
        raise ValueError(
            f"Argument `properties` must have {', '.join(others)} and {last}, but lacks "
            f"{', '.join(map(repr, missing))}: choose a QPU solver."
        )


def _checked_shape(topology: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if topology not in NUM_PARAMETERS:
        raise ValueError(
            f"Argument `topology` must be one of {', '.join(sorted(NUM_PARAMETERS))}, "
            f"but is {topology!r}."
        )
    shape = tuple(int(number) for number in shape)
    smallest = 2 if topology == "pegasus" else 1
    if len(shape) not in NUM_PARAMETERS[topology] or min(shape) < 1 or shape[0] < smallest:
        form = "(m,) with m of at least 2" if topology == "pegasus" else "(m,) or (m, t)"
        raise ValueError(f"Argument `shape` of a {topology} graph must be {form}, but is {shape}.")
    return (*shape, DEFAULT_TILE) if topology == "zephyr" and len(shape) == 1 else shape


def _check_labels(qubits: NDArray[np.int32], couplers: NDArray[np.int32], sites: int) -> None:
    if len(qubits) and (qubits[0] < 0 or qubits[-1] >= sites or (np.diff(qubits) <= 0).any()):
        raise ValueError(
            f"Argument `qubits` must ascend strictly within 0 to {sites - 1}, but runs from "
            f"{qubits[0]} to {qubits[-1]}{' out of order' if (np.diff(qubits) <= 0).any() else ''}."
        )
    if (couplers[:, 0] >= couplers[:, 1]).any() or (np.diff(_keys(couplers, sites)) <= 0).any():
        raise ValueError(
            "Argument `couplers` must hold pairs u < v in lexicographic order, each once, "
            "but does not: use WorkingGraph.from_properties for couplers in any order."
        )
    stray = ~np.isin(couplers, qubits).all(1)
    if stray.any():
        u, v = couplers[stray][0]
        raise ValueError(
            f"Argument `couplers` must join active qubits, but {stray.sum()} do not, "
            f"for example ({u}, {v})."
        )


def _keys(pairs: NDArray[Any], sites: int) -> NDArray[np.int64]:
    """One integer for each pair; they ascend where the pairs do lexicographically."""
    keys: NDArray[np.int64] = pairs[..., 0].astype(np.int64) * sites + pairs[..., 1]
    return keys


def _ordered(couplers: Any) -> NDArray[np.int32]:
    """Pairs u < v in lexicographic order, each once."""
    pairs = np.sort(np.asarray(couplers, dtype=np.int32).reshape(-1, 2), axis=1)
    return np.unique(pairs, axis=0)


def _zephyr_coordinates(labels: Labels, m: int, t: int) -> tuple[NDArray[np.int64], ...]:
    """(u, w, j, z) of linear labels ((((u (2m + 1) + w) t + k) 2 + j) m + z)."""
    rest, z = np.divmod(np.asarray(labels, dtype=np.int64), m)
    rest, j = np.divmod(rest, 2)
    u, w = np.divmod(rest // t, 2 * m + 1)
    return u, w, j, z


def _survivors(count: int, dead: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A mask of `count` things of which the fraction `dead` is False, rounded half up."""
    alive = np.ones(count, dtype=bool)
    alive[rng.choice(count, math.floor(dead * count + 0.5), replace=False)] = False
    return alive


def _dwave_graph(
    topology: str,
    shape: tuple[int, ...],
    qubits: NDArray[np.int32] | None = None,
    couplers: NDArray[np.int32] | None = None,
) -> Any:
    """The graph of a topology from dwave.graphs; None means all qubits, or all couplers."""
    import dwave.graphs

    make = dwave.graphs.pegasus_graph if topology == "pegasus" else dwave.graphs.zephyr_graph
    nodes = None if qubits is None else qubits.tolist()
    edges = None if couplers is None else [(u, v) for u, v in couplers.tolist()]
    return make(*shape, node_list=nodes, edge_list=edges)
