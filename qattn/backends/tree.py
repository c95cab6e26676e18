"""Independent exact reads of sparse models, as a backend."""

import time
from typing import ClassVar

from qattn.backends.base import Backend
from qattn.exact import tree
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples


class TreeBackend(Backend):
    r"""Independent reads from p(s) by tree decomposition: exact for sparse couplings of any size.

    The cost is tables of 2^w numbers instead of 2^n states, w the width of the graph of couplings:
    lattices of up to 18 × 18, trees, bands, the graphs of small QPUs (:mod:`qattn.exact.tree`).
    There is no Markov chain, hence no burn-in and no autocorrelation. The reads' ``info`` has the
    "treewidth" (of the elimination order that was found), "log_Z" (a tensor of shape (groups,
    queries)) and the "seconds" that they took.

    >>> import torch
    >>> from qattn import IsingBatch
    >>> J = torch.diag(torch.full((39,), 20.0), 1)  # a chain of 40 spins that are all alike
    >>> chain = IsingBatch(torch.full((1, 1, 40), 0.5), (J + J.mT).unsqueeze(0))
    >>> samples = TreeBackend().sample(chain, num_reads=3, seed=0)
    >>> samples.spins[0, 0].sum(1).tolist(), samples.info["treewidth"]
    ([40, 40, 40], 1)
    """

    name: ClassVar[str] = "tree"
    description: ClassVar[str] = "independent exact reads of sparse couplings, treewidth to 25"

    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw reads; see :meth:`Backend.sample`.

        Raises:
            ValueError: `num_reads` is not positive, or the couplings are too dense.
            MemoryError: The tables need more than ``qattn.exact.memory.MEMORY_LIMIT``.
        """
        start = time.perf_counter()
        samples = tree.sample(batch, num_reads, seed)
        info = {**samples.info, "seconds": time.perf_counter() - start}
        return SpinSamples(samples.spins, info=info)
