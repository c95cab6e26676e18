"""Slots found, beside minorminer's own search: `python benchmarks/packing.py [--graphs Z12]`.

``--graphs advantage2-system4 --defects perfect --ours`` packs a graph with the published counts of
qubits and couplers of a real processor, without minorminer's rows.

For each working graph and number of spins n, disjoint embeddings of the complete graph K_n by
qattn's `pack_cliques` and by `minorminer.utils.parallel_embeddings`. Prints a row of a Markdown
table for each way: slots, the longest chain, the mean number of qubits of a slot, seconds of
processor and of wall time, and its slots as a fraction of qattn's. Every result is checked with
minorminer's `is_valid_embedding`, and for disjointness.

tiles      `find_sublattice_embeddings` with an embedding in a small tile, repeated over the graph:
           the best of some that `find_embedding` makes ("one tile"), then the others on the qubits
           that are left ("all tiles"), then `find_embedding` in every window of the tile's size,
           first with chains no longer than qattn's longest ("+ short"), then with any ("+ any").
windows    `find_sublattice_embeddings` with `find_embedding` in every window, short or any chains.

The first two tile sizes that hold K_n are used. Rows of "tiles" hold the time of those before. A
way that reaches the time limit shows it, with what it found by then.
"""

import argparse
import os
import time
import warnings
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dwave.graphs
import networkx as nx
from minorminer import find_embedding
from minorminer.utils.diagnostic import is_valid_embedding
from minorminer.utils.parallel_embeddings import find_sublattice_embeddings

from qattn.hardware.embedding.find_packing import pack_cliques
from qattn.hardware.embedding.working_graph import WorkingGraph
from qattn.hardware.emulator.physics.device_models import DEVICE_MODELS

Embedding = dict[int, tuple[int, ...]]

GRAPHS = {"Z12": ("zephyr", 12), "P16": ("pegasus", 16), "Z6": ("zephyr", 6)}
DEFECTS = {"perfect": (0.0, 0.0), "dead": (0.05, 0.01)}
TILES = {"zephyr": (1, 2, 3), "pegasus": (2, 3, 4)}
TILE_EMBEDDINGS = 8
QUICK = {"tries": 1, "max_no_improvement": 10, "chainlength_patience": 10}


class Clock:
    """Seconds since it was made, and how many are left of a limit."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.started = time.perf_counter(), time.process_time()

    @property
    def wall(self) -> float:
        """Seconds of wall time."""
        return time.perf_counter() - self.started[0]

    @property
    def cpu(self) -> float:
        """Seconds of processor time."""
        return time.process_time() - self.started[1]

    @property
    def left(self) -> float:
        """Seconds of wall time left."""
        return self.limit - self.wall


def graph_of(name: str, defects: str) -> WorkingGraph:
    if name in DEVICE_MODELS:
        graph = DEVICE_MODELS[name].graph()
    else:
        graph = WorkingGraph.perfect(*GRAPHS[name])
    return graph.with_defects(*DEFECTS[defects], seed=1)


def rest_of(T: nx.Graph, found: list[Embedding]) -> nx.Graph:
    used = {q for embedding in found for chain in embedding.values() for q in chain}
    return T.subgraph(q for q in T if q not in used).copy()


def windows(
    S: nx.Graph, T: nx.Graph, tile: nx.Graph, longest: float, clock: Clock
) -> list[Embedding]:
    """Embeddings in every window, with chains of at most some length.

    `find_sublattice_embeddings` does not tell `find_multiple_embeddings` that values are chains,
    so used qubits stay in the window: this embedder takes them out itself.
    """
    found: list[Embedding] = []

    def embed(S: nx.Graph, T: nx.Graph) -> Embedding:
        free = rest_of(T, found)
        for seed in range(3 if len(free) >= len(S) else 0):
            chains = find_embedding(S, free, random_seed=seed, **QUICK)
            if not chains:
                break
            if max(map(len, chains.values())) <= longest:
                found.append({spin: tuple(chain) for spin, chain in chains.items()})
                return found[-1]
        return {}

    settings = {"tile": tile, "use_filter": False, "max_num_emb": None, "timeout": clock.left}
    find_sublattice_embeddings(S, T, embedder=embed, **settings)
    return found


def tiles(
    S: nx.Graph, T: nx.Graph, tile: nx.Graph, longest: float, clock: Clock
) -> Iterator[tuple[str, list[Embedding]]]:
    """The best of some tile embeddings, then all in turn, then windows of what is left."""
    made = [find_embedding(S, tile, random_seed=k, timeout=1) for k in range(TILE_EMBEDDINGS)]
    shapes = [{spin: tuple(chain) for spin, chain in one.items()} for one in made if one]

    def repeat(shape: Embedding, T: nx.Graph) -> list[Embedding]:
        part = tile.subgraph([q for chain in shape.values() for q in chain])
        settings = {"one_to_iterable": True, "max_num_emb": None, "timeout": clock.left}
        return find_sublattice_embeddings(S, T, tile=part, tile_embedding=shape, **settings)

    shapes.sort(key=lambda shape: -len(repeat(shape, T)))
    found = repeat(shapes[0], T)
    yield "one tile", found
    for shape in shapes[1:]:
        found = found + repeat(shape, rest_of(T, found))
    yield "all tiles", found
    for name, limit in (("short", longest), ("any", float("inf"))):
        found = found + windows(S, rest_of(T, found), tile, limit, clock)
        yield f"all tiles + {name}", found


def library(
    S: nx.Graph, T: nx.Graph, longest: float, limit: float
) -> Iterator[tuple[str, list[Embedding], Clock]]:
    """Every way to use the library: its name, what it found and its clock."""
    family = T.graph["family"]
    graphs = [getattr(dwave.graphs, f"{family}_graph")(m) for m in TILES[family]]
    fit = [tile for tile in graphs if any(find_embedding(S, tile, timeout=1) for _ in range(3))]
    for tile in fit[:2]:
        m = tile.graph["rows"]
        clock = Clock(limit)
        for name, found in tiles(S, T, tile, longest, clock):
            yield f"{name}, m = {m}", found, clock
        for kind, most in (("short", longest), ("any", float("inf"))):
            clock = Clock(limit)
            yield f"windows {kind}, m = {m}", windows(S, T, tile, most, clock), clock


def row(cell: str, who: str, found: list[Embedding], clock: Clock, ours: int) -> str:
    sizes = [len(chain) for embedding in found for chain in embedding.values()]
    mean = sum(sizes) / max(len(found), 1)
    wall = f"> {clock.limit:.0f}" if clock.left <= 0 else f"{clock.wall:.1f}"
    return (
        f"| {cell} | {who} | {len(found)} | {max(sizes, default=0)} | {mean:.1f} "
        f"| {clock.cpu:.1f} | {wall} | {len(found) / ours:.2f} |"
    )


def check(S: nx.Graph, T: nx.Graph, found: list[Embedding]) -> None:
    used = [q for embedding in found for chain in embedding.values() for q in chain]
    if len(used) > len(set(used)) or not all(is_valid_embedding(one, S, T) for one in found):
        raise ValueError("Embeddings are invalid or overlap.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--graphs", nargs="+", choices=[*GRAPHS, *DEVICE_MODELS], default=[*GRAPHS])
    parser.add_argument("--spins", nargs="+", type=int, default=[9, 5, 13, 17])
    parser.add_argument("--defects", nargs="+", choices=DEFECTS, default=list(DEFECTS))
    parser.add_argument("--time-limit", type=float, default=60, help="seconds, of each way")
    parser.add_argument("--ours", action="store_true", help="only qattn's rows")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| graph | defects | n | way | slots | longest | qubits | CPU s | wall s | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in arguments.graphs:
        for n in arguments.spins:
            for defects in arguments.defects:
                graph = graph_of(name, defects)
                S, T = nx.complete_graph(n), graph.to_networkx()
                cell = f"{name} | {defects} | {n}"
                clock = Clock(float("inf"))
                packing = pack_cliques(graph, n)
                slots = [
                    {spin: tuple(chain[chain >= 0].tolist()) for spin, chain in enumerate(slot)}
                    for slot in packing.chains
                ]
                print(row(cell, "qattn", slots, clock, packing.num_slots), flush=True)
                check(S, T, slots)
                most = packing.chains.shape[2]
                if arguments.ours:
                    continue
                for way, found, clock in library(S, T, most, arguments.time_limit):
                    print(row(cell, way, found, clock, packing.num_slots), flush=True)
                    check(S, T, found)


if __name__ == "__main__":
    main()
