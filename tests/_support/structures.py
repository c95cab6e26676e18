"""Couplings of every structure, and their moments by enumeration of all states."""

from collections.abc import Callable

import torch
from _support.brute_force import all_states
from torch import Tensor

from qattn import IsingBatch
from qattn.couplings import Banded, Block, Cardinality, Couplings, LowRank

GROUPS = 2


def _normal(*shape: int) -> Tensor:
    return torch.randn(GROUPS, *shape, dtype=torch.float64)


def _block(n: int) -> Couplings:
    m = min(n, 3)
    upper = _normal(-(-n // m), m, m).triu(1)
    return Block(upper + upper.mT, n)


STRUCTURES: dict[str, Callable[[int], Couplings]] = {
    "independent": lambda n: Banded(_normal(n, 0)),
    "band of 1": lambda n: Banded(_normal(n, 1)),
    "band of 3": lambda n: Banded(_normal(n, 3)),
    "relative band": lambda n: Banded.relative(_normal(4), n),
    "rank 1, positive": lambda n: LowRank(0.6 * _normal(n)),
    "rank 1, negative": lambda n: LowRank(0.6 * _normal(n), sign=-1),
    "blocks": _block,
    "potential": lambda n: Cardinality(_normal(n + 1), n),
    "competition": lambda n: Cardinality.competitive(_normal()[:, None].abs().flatten(), n),
}


def structured_batch(
    name: str, n: int, *, seed: int, dtype: torch.dtype = torch.float64, queries: int = 4
) -> IsingBatch:
    """Queries of random lengths at β = 0.7."""
    torch.manual_seed(seed)
    couplings = STRUCTURES[name](n).to(dtype)
    lengths = torch.randint(0, n + 1, (queries,))
    lengths[-1] = n
    return IsingBatch(_normal(queries, n).to(dtype), couplings, lengths, beta=0.7)


def enumerated(batch: IsingBatch, h: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log Z, occupations and ⟨s s⟩ in float64, from the definition; differentiable."""
    G, Q, n = batch.h.shape
    log_Z, up = torch.zeros(G, Q, dtype=torch.float64), torch.zeros(G, Q, n, dtype=torch.float64)
    pairs = torch.zeros(G, Q, n, n, dtype=torch.float64)
    couplings = batch.J.with_values(values.double())
    for q in range(Q):
        length = int(batch.num_active[0, q])
        S = all_states(length)
        # Absent spins are 0 in the interaction.
        s = torch.nn.functional.pad(S, (0, n - length)).mT.expand(G, n, -1)
        log_weights = h[:, q, :length].double() @ S.mT + couplings.interaction(s)
        p = (batch.beta * log_weights).softmax(-1)
        log_Z[:, q] = (batch.beta * log_weights).logsumexp(-1)
        up[:, q, :length] = p @ S.relu()
        pairs[:, q, :length, :length] = torch.einsum("gs,sj,sk->gjk", p, S, S)
    return log_Z, up, pairs
