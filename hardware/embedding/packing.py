"""Slots: disjoint embeddings of a complete graph, or another, in a processor's working graph."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.working_graph import WorkingGraph


class LogicalCouplers(NamedTuple):
    """Couplers between the chains of a slot; several may share one logical coupling.

    Attributes:
        position: Position of each in ``graph.couplers``, ascending.
        pair: Its logical coupling, slot · n² + j · n + k with j < k.
        share: One over the number of couplers that share the logical coupling.
    """

    position: NDArray[np.int64]
    pair: NDArray[np.int64]
    share: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Packing:
    r"""Disjoint slots of a working graph, each of which holds any Ising model of n spins.

    A slot is an embedding of the complete graph K_n: every spin is a chain, a connected set of
    qubits, and at least one coupler joins every two chains of a slot. No two chains share a
    qubit. The constructor checks all of it, in milliseconds. With `pairs` a slot holds the models
    that couple no others, and only those need couplers.

    Args:
        graph: The working graph.
        chains: Labels of the qubits of each chain, shape (slots, n, longest chain), -1 after the
            last.
        pairs: Pairs of spins that may be coupled, shape (pairs, 2); None means all.

    Raises:
        ValueError: `chains` are not disjoint clique embeddings in `graph`.
    """

    graph: WorkingGraph
    chains: NDArray[np.int32]
    pairs: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        chains = np.array(self.chains, dtype=np.int32, order="C")
        if chains.ndim != 3 or 0 in chains.shape[1:]:
            raise ValueError(
                f"Argument `chains` must have shape (slots, spins, longest), "
                f"but has shape {chains.shape}."
            )
        chains.flags.writeable = False
        object.__setattr__(self, "chains", chains)
        self._check_qubits()
        self._check_connected()
        self._check_joined()

    @property
    def num_slots(self) -> int:
        """Number of slots."""
        return len(self.chains)

    @property
    def num_spins(self) -> int:
        """Number n of chains of a slot, which is the size of the largest problem it holds."""
        return int(self.chains.shape[1])

    @cached_property
    def chain_lengths(self) -> NDArray[np.int64]:
        """Number of qubits of each chain, shape (slots, n)."""
        lengths: NDArray[np.int64] = (self.chains >= 0).sum(-1)
        return lengths

    @property
    def num_qubits(self) -> int:
        """Number of qubits of all chains."""
        return int(self.chain_lengths.sum())

    @property
    def uniform(self) -> NDArray[np.bool_]:
        """Whether all chains of a slot have one length, and so see one temperature, (slots,)."""
        same: NDArray[np.bool_] = (self.chain_lengths == self.chain_lengths[:, :1]).all(1)
        return same

    @cached_property
    def chain_of_qubit(self) -> NDArray[np.int32]:
        """Number slot · n + spin of each qubit of ``graph.qubits``; -1 for one in no chain."""
        owner = np.full(len(self.graph.qubits), -1, dtype=np.int32)
        labels = self.chains.reshape(-1, self.chains.shape[2])
        chain, _ = np.nonzero(labels >= 0)
        owner[self.graph.position_of_qubit(labels[labels >= 0])] = chain
        return owner

    @cached_property
    def chains_of_coupler(self) -> NDArray[np.int32]:
        """Chains of both ends of each coupler of the graph, shape (E, 2); -1 for none."""
        return self.chain_of_qubit[self.graph.coupler_ends]

    @cached_property
    def chain_couplers(self) -> NDArray[np.int64]:
        """Positions in ``graph.couplers`` of the couplers inside chains, ascending."""
        a, b = self.chains_of_coupler.T
        return np.flatnonzero((a == b) & (a >= 0))

    @cached_property
    def logical_couplers(self) -> LogicalCouplers:
        """The couplers between two chains of one slot."""
        a, b = self.chains_of_coupler.T
        n = self.num_spins
        # Both ends in chains, in different ones, of one slot.
        at = np.flatnonzero((a >= 0) & (b >= 0) & (a != b) & (a // n == b // n))
        # With the lower chain slot · n + j first, (slot · n + j) · n + k numbers the pair.
        first, second = np.sort(self.chains_of_coupler[at], axis=1).T
        pair = first.astype(np.int64) * n + second % n
        return LogicalCouplers(at, pair, 1 / np.bincount(pair)[pair])

    def describe(self) -> str:
        """One line with the numbers of slots, of uniform slots, and of chains by length."""
        lengths, counts = np.unique(self.chain_lengths, return_counts=True)
        spread = ", ".join(
            f"{n} of length {k}" for k, n in zip(lengths.tolist(), counts.tolist(), strict=True)
        )
        return (
            f"{self.num_slots} slots of {self.num_spins} spins, {int(self.uniform.sum())} with "
            f"chains of one length; chains: {spread or 'none'}"
        )

    @cached_property
    def digest(self) -> str:
        """Name of the packing: 20 hexadecimal digits of its graph and its chains."""
        pairs = b"" if self.pairs is None else self.pairs.astype("<i8").tobytes()
        content = self.graph.digest.encode() + self.chains.tobytes() + pairs
        return hashlib.sha256(content).hexdigest()[:20]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The packing with its working graph, as arrays for a file."""
        graph = self.graph
        return {
            "chains": self.chains,
            "qubits": graph.qubits,
            "couplers": graph.couplers,
            "topology": np.array(graph.topology),
            "shape": np.array(graph.shape),
            "graph_id": np.array(graph.graph_id),
            **({} if self.pairs is None else {"pairs": self.pairs}),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Packing":
        """The packing of :meth:`to_arrays`.

        Raises:
            KeyError: An array is missing.
            ValueError: The arrays do not hold a packing.
        """
        graph = WorkingGraph(
            str(arrays["topology"]),
            tuple(arrays["shape"].tolist()),
            arrays["qubits"],
            arrays["couplers"],
            str(arrays["graph_id"]),
        )
        return cls(graph, arrays["chains"], arrays.get("pairs"))

    def _check_qubits(self) -> None:
        """Every chain must have qubits, all of them active and in no other chain."""
        chains = self.chains
        real = chains >= 0
        if not real[..., 0].all() or (real[..., 1:] & ~real[..., :-1]).any():
            raise ValueError(
                "Argument `chains` must give every spin a qubit and pad with -1 after the last, "
                "but does not."
            )
        labels = chains[real]
        dead = labels[self.graph.position_of_qubit(labels) < 0]
        if len(dead):
            raise ValueError(
                f"Argument `chains` must use active qubits, but {len(dead)} are not active in "
                f"{self.graph!r}, for example {dead[0]}."
            )
        unique, counts = np.unique(labels, return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"Argument `chains` must be disjoint, but {(counts > 1).sum()} qubits are in more "
                f"than one, for example {unique[counts > 1][0]}."
            )

    def _check_connected(self) -> None:
        """Every qubit must reach the first of its chain over couplers of the chain."""
        u, v = self.graph.coupler_ends[self.chain_couplers].T
        # Spread from the first qubit of each chain, one coupler further in each turn.
        reached = np.zeros(len(self.graph.qubits), dtype=bool)
        reached[self.graph.position_of_qubit(self.chains[..., 0])] = True
        for _ in range(self.chains.shape[2] - 1):
            reached[v[reached[u]]] = True
            reached[u[reached[v]]] = True
        broken = np.unique(self.chain_of_qubit[~reached & (self.chain_of_qubit >= 0)])
        if len(broken):
            slot, spin = divmod(int(broken[0]), self.num_spins)
            raise ValueError(
                f"Argument `chains` must be connected, but {len(broken)} are not, "
                f"for example chain {spin} of slot {slot}."
            )

    def _check_joined(self) -> None:
        """A coupler must join every two chains of a slot, or those of each of the pairs."""
        n = self.num_spins
        joined = np.zeros(self.num_slots * n * n, dtype=bool)
        joined[self.logical_couplers.pair] = True
        needed = np.triu(np.ones((n, n), dtype=bool), 1)
        if self.pairs is not None:
            needed[:] = False
            needed[tuple(np.sort(self.pairs, axis=1).T)] = True
        missing = np.argwhere(needed & ~joined.reshape(self.num_slots, n, n))
        if len(missing):
            slot, j, k = missing[0].tolist()
            raise ValueError(
                f"Argument `chains` must have a coupler between every two chains of a slot, but "
                f"{len(missing)} pairs have none, for example {j} and {k} of slot {slot}."
            )
