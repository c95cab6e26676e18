"""Independent reads from the exact distribution, as a backend."""

from typing import ClassVar

from qattn import exact
from qattn.backends.base import Backend
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples


class ExactBackend(Backend):
    r"""Independent reads from p(s), exactly: the reference for all other backends.

    By enumeration the cost is 2^(n/2) numbers per read after one 2^n table per group
    (:func:`qattn.exact.sample`); couplings with a structure have engines for any number of spins.
    There is no Markov chain, hence no burn-in and no autocorrelation.
    """

    name: ClassVar[str] = "exact"
    description: ClassVar[str] = (
        "independent exact reads: to about 26 spins, any where J has a structure"
    )
    takes_structure: ClassVar[bool] = True

    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw reads; see :meth:`Backend.sample`.

        Raises:
            ValueError: `num_reads` is not positive.
            MemoryError: The batch needs more than ``qattn.exact.memory.MEMORY_LIMIT``.
        """
        return exact.sample(batch, num_reads, seed)
