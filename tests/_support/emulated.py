"""Ocean's unmodified client to an emulated QPU, for tests."""

from contextlib import contextmanager

import torch

from qattn import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.testing import deviation_from_exact


@contextmanager
def sampler_of(qpu, **options):
    """DWaveSampler, deaf to the machine's own configuration."""
    from dwave.system import DWaveSampler

    with DWaveSampler(config_file=False, **(qpu.client_options | options)) as sampler:
        yield sampler


def clique(sampler):
    """Labels of four qubits that are coupled each with each."""
    graph = sampler.to_networkx_graph()
    for u, v in sampler.edgelist:
        common = sorted(set(graph[u]) & set(graph[v]))
        for x in common:
            for y in common:
                if x < y and graph.has_edge(x, y):
                    return [u, v, x, y]
    raise AssertionError("The graph has no clique of four.")


def pairs(labels):
    return [(u, v) for i, u in enumerate(labels) for v in labels[i + 1 :]]


def deviation(sampleset, labels, h, J, beta_h, beta_J):
    """Moments of raw answers against exp(-β_h Σ h s - β_J Σ J s s), in standard errors."""
    n = len(labels)
    field = -beta_h * torch.tensor([h.get(q, 0.0) for q in labels], dtype=torch.float64)
    coupling = torch.zeros(n, n, dtype=torch.float64)
    for i, u in enumerate(labels):
        for j, v in enumerate(labels):
            coupling[i, j] = -beta_J * (J.get((u, v), 0.0) + J.get((v, u), 0.0))
    columns = [sampleset.variables.index(q) for q in labels]
    spins = torch.from_numpy(sampleset.record.sample[:, columns].astype("int8"))
    weights = torch.from_numpy(sampleset.record.num_occurrences.astype("float64"))
    samples = SpinSamples(spins[None, None], weights[None, None])
    return deviation_from_exact(samples, IsingBatch(field[None, None], coupling[None]))
