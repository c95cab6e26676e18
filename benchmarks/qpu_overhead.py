"""What embedding costs: `python benchmarks/qpu_overhead.py [--topology zephyr] [--spins 9]`.

One full packing (K9 on a perfect Zephyr Z12 by default, 1,000 reads) through qattn's index arrays
and through Ocean's ParallelEmbeddingComposite, on the same problems, embeddings, chain strength
and reads.

embed    from the logical problems (arrays here, BQMs there) to the call of the child sampler
         (dicts h and J here, an embedded BQM there).
unembed  from the child's answer, a dimod.SampleSet, to the spins of every problem (here with the
         rate of chain breaks, there with energies).

The child answers at once with reads made beforehand. Contenders take turns; a figure is the best
of the turns, which other processes disturb least.
"""

import argparse
import os
import time
from typing import ClassVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dimod
import numpy as np
import torch
from dwave.system import ParallelEmbeddingComposite
from numpy.typing import NDArray

from qattn.hardware.embedding.embed import Embedding
from qattn.hardware.embedding.find_packing import cached_packing
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.working_graph import WorkingGraph
from qattn.ising.union_bqm import union_bqm

SIZES = {"zephyr": (12, 4), "pegasus": (16,)}
CHAIN_STRENGTH = 2.0
TURNS = 5


class Instant(dimod.Sampler, dimod.Structured):
    """A sampler that notes when it is called, and answers with prepared reads."""

    nodelist: ClassVar = []
    edgelist: ClassVar = []
    parameters: ClassVar = {"auto_scale": []}
    properties: ClassVar = {}

    def __init__(self, graph: WorkingGraph, reads: dimod.SampleSet) -> None:
        self.nodelist = graph.qubits.tolist()
        self.edgelist = [(u, v) for u, v in graph.couplers.tolist()]
        self.reads = reads
        self.called = self.answered = 0.0

    def sample(self, *problem: object, **kwargs: object) -> dimod.SampleSet:
        """Return the prepared reads."""
        self.called = time.perf_counter()
        self.answered = time.perf_counter()
        return self.reads

    sample_ising = sample


def answer(packing: Packing, num_reads: int, rng: np.random.Generator) -> dimod.SampleSet:
    """Random reads in which 3% of the qubits disagree with their chains."""
    owner = packing.chain_of_qubit
    used = np.flatnonzero(owner >= 0)
    spins = 2 * rng.integers(0, 2, (num_reads, owner.max() + 1), dtype=np.int8) - 1
    flips = 1 - 2 * (rng.random((num_reads, len(used))) < 0.03).astype(np.int8)
    reads = spins[:, owner[used]] * flips
    labels = packing.graph.qubits[used].tolist()
    return dimod.SampleSet.from_samples((reads, labels), "SPIN", energy=np.zeros(num_reads))


def reads_of(sampleset: dimod.SampleSet, packing: Packing) -> NDArray[np.int8]:
    """An answer as `Embedding.unembed` takes it, shape (num_reads, N), 0 for unused qubits."""
    column = packing.graph.position_of_qubit(list(sampleset.variables))
    reads = np.zeros((len(sampleset), len(packing.graph.qubits)), dtype=np.int8)
    reads[:, column] = sampleset.record.sample
    return reads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--topology", choices=sorted(SIZES), default="zephyr")
    parser.add_argument("--spins", type=int, default=9)
    parser.add_argument("--reads", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    graph = WorkingGraph.perfect(arguments.topology, *SIZES[arguments.topology])
    packing = cached_packing(graph, arguments.spins)
    print(packing.describe())
    started = time.perf_counter()
    cached_packing(graph, arguments.spins)
    print(f"packing loaded and checked in {1e3 * (time.perf_counter() - started):.0f} ms")
    started = time.perf_counter()
    embedding = Embedding(packing)
    embedding.keys  # noqa: B018 made once, with the first problem
    print(f"index arrays made in {1e3 * (time.perf_counter() - started):.0f} ms")

    slots, n = packing.num_slots, packing.num_spins
    h = rng.normal(scale=0.2, size=(slots, n))
    J = np.triu(rng.normal(scale=0.2, size=(slots, n, n)), 1)
    J = J + J.mT
    child = Instant(graph, answer(packing, arguments.reads, rng))
    chains = [
        {j: tuple(chain[chain >= 0].tolist()) for j, chain in enumerate(slot)}
        for slot in packing.chains
    ]
    composite = ParallelEmbeddingComposite(child, embeddings=chains, one_to_iterable=True)
    bqms = [union_bqm(h[i : i + 1], J[i : i + 1]) for i in range(slots)]

    def ours() -> tuple[float, float, NDArray[np.int8]]:
        start = time.perf_counter()
        problem = embedding.embed(h, J, chain_strength=CHAIN_STRENGTH)
        sampleset = child.sample_ising(*problem.to_dicts())
        spins = embedding.unembed(reads_of(sampleset, packing), rng=rng).spins
        return child.called - start, time.perf_counter() - child.answered, spins

    def oceans() -> tuple[float, float, list[dimod.SampleSet]]:
        start = time.perf_counter()
        samplesets, _ = composite.sample_multiple(bqms, [CHAIN_STRENGTH] * slots, auto_scale=False)
        return child.called - start, time.perf_counter() - child.answered, samplesets

    best = {"qattn": [np.inf, np.inf], "Ocean": [np.inf, np.inf]}
    for _ in range(TURNS):
        *seconds, spins = ours()
        best["qattn"] = [min(a, b) for a, b in zip(best["qattn"], seconds, strict=True)]
        *seconds, samplesets = oceans()
        best["Ocean"] = [min(a, b) for a, b in zip(best["Ocean"], seconds, strict=True)]
    agreement = np.mean(
        [
            (answered.record.sample[:, np.argsort(list(answered.variables))] == spins[slot]).mean()
            for slot, answered in enumerate(samplesets)
        ]
    )
    print(f"{slots} problems of {n} spins, {arguments.reads} reads, {100 * agreement:.1f}% equal")
    for name, (embed, unembed) in best.items():
        print(f"    {name:6} embed {1e3 * embed:8.1f} ms   unembed {1e3 * unembed:8.1f} ms")
    ratios = [b / a for a, b in zip(best["qattn"], best["Ocean"], strict=True)]
    print(f"    ratio  embed {ratios[0]:8.1f} x    unembed {ratios[1]:8.1f} x")


if __name__ == "__main__":
    main()
