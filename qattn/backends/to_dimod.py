"""Any backend as a dimod sampler."""

from typing import Any

import dimod
import numpy as np
import torch
from dimod.core.sampler import Sampler

from qattn.backends.base import Backend, check_num_reads
from qattn.ising.batch import IsingBatch, to_dimod_signs


def as_dimod_sampler(backend: Backend) -> Sampler:
    r"""A ``dimod.Sampler`` that draws from P ∝ exp(-β E(s)) with `backend`.

    Its ``sample`` takes ``num_reads`` (default 1), ``seed`` and ``beta`` (default 1), so that
    Ocean's composites work with any backend. Weights of the reads become ``num_occurrences``;
    dimod counts whole reads, so that ``sample`` raises a ValueError for other weights.
    """
    return _BackendSampler(backend)


class _BackendSampler(Sampler):
    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def parameters(self) -> dict[str, Any]:
        return {"num_reads": [], "seed": [], "beta": []}

    @property
    def properties(self) -> dict[str, Any]:
        return {"backend": self.backend.name}

    def sample(
        self,
        bqm: dimod.BinaryQuadraticModel,
        num_reads: int = 1,
        seed: int | None = None,
        beta: float = 1.0,
        **unknown: Any,
    ) -> dimod.SampleSet:
        self.remove_unknown_kwargs(**unknown)
        check_num_reads(num_reads)
        spin_bqm = bqm.change_vartype(dimod.SPIN, inplace=False)
        labels = list(spin_bqm.variables)
        rows, occurrences, info = np.empty((num_reads, 0), np.int8), None, {}
        if labels:
            vectors: Any = spin_bqm.to_numpy_vectors(variable_order=labels)
            linear, (row, col, values), _ = vectors
            quadratic = np.zeros((len(labels), len(labels)))
            quadratic[row, col] = values
            h, J = to_dimod_signs(  # the conversion is its own inverse
                torch.from_numpy(linear).double(), torch.from_numpy(quadratic + quadratic.T)
            )
            samples = self.backend.sample(
                IsingBatch(h[None, None], J[None], beta=beta), num_reads=num_reads, seed=seed
            )
            rows, info = samples.spins[0, 0].cpu().numpy(), dict(samples.info)
            if samples.weights is not None:
                weights = samples.weights[0, 0].cpu().numpy()
                occurrences = weights.round().astype(np.int64)
                if not np.allclose(weights, occurrences, rtol=1e-6, atol=0):
                    wrong = weights[weights != occurrences][0]
                    raise ValueError(
                        f"Argument `backend` must give whole numbers of occurrences, but weighs a "
                        f"read with {wrong:g}: take weighted reads from its own `sample`, or give "
                        f"'autoregressive' the option resample=True."
                    )
                rows, occurrences = rows[occurrences > 0], occurrences[occurrences > 0]
        rows = rows if bqm.vartype is dimod.SPIN else (rows + 1) // 2
        sampleset: dimod.SampleSet = dimod.SampleSet.from_samples_bqm(
            (rows, labels), bqm, num_occurrences=occurrences, info=info
        )
        return sampleset
