"""Whole batches of problems onto qubits, and reads of qubits back to spins, by index arrays.

All biases are in D-Wave's signs, P(s) ∝ exp(-β(Σ h s + Σ J s s)): a chain is held together by a
negative coupling.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from qattn.hardware.embedding.packing import Packing

Floats = NDArray[np.float64]
Signs = NDArray[np.int8]
Bools = NDArray[np.bool_]
Key = TypeVar("Key")


@dataclass(frozen=True, eq=False)
class EmbeddedProblem:
    """Biases of one submission in D-Wave's signs and units, and the qubits and couplers it uses.

    Attributes:
        embedding: The embedding that made it.
        linear: Bias of each qubit of ``graph.qubits``, shape (N,); 0 where not active.
        quadratic: Bias of each coupler of ``graph.couplers``, shape (E,); 0 where not active.
        active_qubits: Which qubits are in a used chain, shape (N,).
        active_couplers: Which couplers carry a chain or a logical coupling, shape (E,).
    """

    embedding: "Embedding"
    linear: Floats
    quadratic: Floats
    active_qubits: Bools
    active_couplers: Bools

    def to_dicts(self) -> tuple[dict[int, float], dict[tuple[int, int], float]]:
        """Active biases {qubit: h} and {(u, v): J} in Python's numbers, as Ocean takes them."""
        qubits, couplers = self.embedding.keys
        return (
            _dict(qubits, self.active_qubits, self.linear),
            _dict(couplers, self.active_couplers, self.quadratic),
        )


class UnembeddedReads(NamedTuple):
    """Reads of the logical spins.

    Attributes:
        spins: Values in {-1, +1}, and 0 for chains that were not used, shape
            (slots, num_reads, n), int8.
        broken: Fraction of the reads in which a chain's qubits disagreed, shape (slots, n).
    """

    spins: Signs
    broken: Floats


class Embedding:
    r"""Embeds Ising models in the slots of a packing and unembeds their reads.

    With C(j) the qubits of chain j and W(j, k) the couplers between chains j and k, the physical
    problem is

    .. math::
        h_q = \frac{h_j}{|C(j)|},\ q \in C(j); \qquad
        J_{uv} = \frac{J_{jk}}{|W(j, k)|},\ (u, v) \in W(j, k); \qquad
        J_{uv} = -\text{chain\_strength},\ u, v \in C(j),

    so that a state of unbroken chains has the energy of the logical state and a constant,
    -chain_strength times the number of chain couplers. h and J are in D-Wave's signs throughout.
    All slots are treated at once by index arrays, which the constructor makes. In them chain j of
    a slot has the number slot · n + j, and qubits and couplers are positions in the graph's lists.

    Args:
        packing: The slots.
    """

    def __init__(self, packing: Packing) -> None:
        self.packing = packing
        n = packing.num_spins
        # The qubits of all chains, the chain of each, and its share 1/|C(j)| of the chain's field.
        chain_of_qubit = packing.chain_of_qubit
        self._qubits = np.flatnonzero(chain_of_qubit >= 0)
        self._qubit_chain = chain_of_qubit[self._qubits]
        self._qubit_share = 1 / packing.chain_lengths.ravel()[self._qubit_chain]
        # The couplers inside chains; both ends are in the same chain.
        self._chain_couplers = packing.chain_couplers
        self._chain_coupler_chain = packing.chains_of_coupler[self._chain_couplers, 0]
        # The couplers between chains, the entry of J that each carries its share 1/|W(j, k)| of,
        # and the chains at both ends.
        self._couplers, self._pair, self._coupler_share = packing.logical_couplers
        self._coupler_ends = packing.chains_of_coupler[self._couplers].T
        # For reads: the rows (of the qubits above) that add up to each chain. Chains shorter than
        # the longest are padded with one row more, which holds zeros. Transposed, so that step k
        # of the sum adds qubit k of every chain.
        longest = packing.chains.shape[2]
        rows = np.full(packing.chains.shape, len(self._qubits))
        row_of_label = np.searchsorted(packing.graph.qubits[self._qubits], packing.chains)
        is_qubit = packing.chains >= 0
        rows[is_qubit] = row_of_label[is_qubit]
        self._rows = rows.reshape(packing.num_slots * n, longest).T
        # A sum over a chain must fit; int8 does for every chain of less than 128 qubits.
        self._sum_dtype = np.min_scalar_type(-longest - 1)
        # Only chains of even length can tie.
        self._lengths = packing.chain_lengths.ravel().astype(self._sum_dtype)
        self._even = self._lengths % 2 == 0

    def embed(
        self,
        h: Floats,
        J: Floats,
        *,
        chain_strength: float,
        gauge: Signs | None = None,
        used: Bools | None = None,
    ) -> EmbeddedProblem:
        r"""The physical problem of a logical model in every slot.

        Args:
            h: Linear biases in D-Wave's sign, shape (slots, n).
            J: Quadratic biases in D-Wave's sign, symmetric (what is above the diagonal is read),
                shape (slots, n, n).
            chain_strength: Minus the bias of a chain's couplers; positive, in J's units.
            gauge: Spin-reversal transform, values in {-1, +1}, shape (slots, n): the processor
                sees h_j g_j and J_jk g_j g_k; give the same to :meth:`unembed`.
            used: Which chains to use, shape (slots, n); None means all. The other chains' qubits
                and couplers stay inactive, and biases on them are not read.

        Raises:
            ValueError: An argument has another shape, a bias is not finite, or J couples a pair for
                which the packing has no coupler.
        """
        slots, n = self.packing.num_slots, self.packing.num_spins
        used = np.ones((slots, n), dtype=bool) if used is None else used
        for name, value, shape in (
            ("h", h, (slots, n)),
            ("J", J, (slots, n, n)),
            ("used", used, (slots, n)),
            ("gauge", gauge, (slots, n)),
        ):
            if value is not None and value.shape != shape:
                raise ValueError(
                    f"Argument `{name}` must have shape {shape}, but has shape {value.shape}."
                )
        if not (np.isfinite(chain_strength) and chain_strength > 0):
            raise ValueError(
                f"Argument `chain_strength` must be positive, but is {chain_strength}."
            )
        if self.packing.pairs is not None:
            # What no coupler carries would be lost without a word.
            lost = np.triu(np.ones((n, n), dtype=bool), 1)
            lost[tuple(self.packing.pairs.T)] = False
            j, k = np.nonzero(lost)
            if ((J[:, j, k] != 0) & used[:, j] & used[:, k]).any():
                raise ValueError(
                    "Argument `J` must couple only pairs of the packing, but couples others: use "
                    "a packing of a wider band, or of cliques."
                )
        # The gauge turns spin j into s_j g_j, whole chains at a time; chain couplers keep theirs.
        if gauge is not None:
            h, J = h * gauge, J * gauge[:, :, None] * gauge[:, None, :]
        num_qubits, num_couplers = len(self.packing.graph.qubits), len(self.packing.graph.couplers)
        linear, active_qubits = np.zeros(num_qubits), np.zeros(num_qubits, bool)
        quadratic, active_couplers = np.zeros(num_couplers), np.zeros(num_couplers, bool)
        chain_used = used.ravel()
        # Fields: equal shares for the qubits of a chain. "where", not a product, so that biases
        # of unused chains, even nan, are not read.
        active = chain_used[self._qubit_chain]
        active_qubits[self._qubits] = active
        shares = h.ravel()[self._qubit_chain] * self._qubit_share
        linear[self._qubits] = np.where(active, shares, 0.0) + 0.0  # no -0.0 under a gauge
        # Couplings: equal shares for the couplers between two chains, both of which must be used.
        a, b = self._coupler_ends
        active = chain_used[a] & chain_used[b]
        active_couplers[self._couplers] = active
        shares = J.ravel()[self._pair] * self._coupler_share
        quadratic[self._couplers] = np.where(active, shares, 0.0)
        # Chains: negative, so that in D-Wave's sign equal spins have the lower energy.
        active = chain_used[self._chain_coupler_chain]
        active_couplers[self._chain_couplers] = active
        quadratic[self._chain_couplers] = np.where(active, -float(chain_strength), 0.0)
        for name, biases in (("h", linear), ("J", quadratic)):
            if not np.isfinite(biases).all():
                raise ValueError(f"Argument `{name}` must be finite where chains are used.")
        return EmbeddedProblem(self, linear, quadratic, active_qubits, active_couplers)

    def unembed(
        self, reads: Signs, *, gauge: Signs | None = None, rng: np.random.Generator
    ) -> UnembeddedReads:
        """Logical spins by majority vote of each chain, a tie broken at random.

        Args:
            reads: Values in {-1, +1} of the qubits of ``graph.qubits``, 0 for qubits that were
                not active, shape (num_reads, N), int8.
            gauge: The transform that was given to :meth:`embed`; it is undone.
            rng: Breaks the ties.

        Raises:
            ValueError: An argument has another shape.
            TypeError: `reads` are not int8.
        """
        slots, n = self.packing.num_slots, self.packing.num_spins
        N = len(self.packing.graph.qubits)
        if reads.ndim != 2 or reads.shape[1] != N:
            raise ValueError(
                f"Argument `reads` must have shape (num_reads, {N}), but has shape {reads.shape}."
            )
        if reads.dtype != np.int8:
            raise TypeError(f"Argument `reads` must be int8, but is {reads.dtype}.")
        if gauge is not None and gauge.shape != (slots, n):
            raise ValueError(
                f"Argument `gauge` must have shape {(slots, n)}, but has shape {gauge.shape}."
            )
        # Spins become rows and reads columns, so that adding up a chain is adding whole rows.
        # The last row, of zeros, stands for the padding of chains.
        values = np.zeros((len(self._qubits) + 1, len(reads)), dtype=self._sum_dtype)
        values[:-1] = reads.T[self._qubits]
        sums = values[self._rows[0]]
        for rows in self._rows[1:]:
            sums += values[rows]
        # A qubit that was not active reads 0 in every read; the first of a chain tells.
        used = values[self._rows[0], 0] != 0 if len(reads) else np.ones(slots * n, bool)
        # The majority is the sum's sign; 0 is a tie, or an unused chain, which stays 0.
        spins = np.sign(sums).astype(np.int8, copy=False)
        _break_ties(spins, self._even & used, rng)
        # A chain is whole where all its qubits agree, so that |sum| is its length.
        unanimous = np.abs(sums) == self._lengths[:, None]
        whole = np.count_nonzero(unanimous, axis=1) / max(1, len(reads))
        broken = np.where(used & (len(reads) > 0), 1 - whole, 0.0)
        # The gauge is its own inverse.
        if gauge is not None:
            spins *= gauge.reshape(-1, 1)
        # From (chains, reads) to (slots, reads, spins of a slot).
        blocks = spins.reshape(slots, n, len(reads)).transpose(0, 2, 1)
        return UnembeddedReads(blocks, broken.reshape(slots, n))

    @cached_property
    def keys(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Labels of all qubits and couplers as Python's integers, in the graph's order."""
        u, v = self.packing.graph.couplers.T
        return self.packing.graph.qubits.tolist(), list(zip(u.tolist(), v.tolist(), strict=True))


def _dict(keys: list[Key], active: Bools, biases: Floats) -> dict[Key, float]:
    """The active biases by key."""
    return dict(zip(compress(keys, active.tolist()), biases[active].tolist(), strict=True))


def _break_ties(spins: Signs, chains: Bools, rng: np.random.Generator) -> None:
    """Flip a fair coin wherever one of these chains (rows of `spins`) has no majority."""
    if not chains.any():
        return
    # Where all chains may tie, a slice saves the copy of all reads that indexing would make.
    rows = slice(None) if chains.all() else np.flatnonzero(chains)
    voted = spins[rows]
    tied = voted == 0
    voted[tied] = 2 * rng.integers(0, 2, int(np.count_nonzero(tied)), dtype=np.int8) - 1
    spins[rows] = voted
