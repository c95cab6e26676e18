"""Slots for bands, beside cliques: `python benchmarks/band_packing.py [--graphs Z12]`.

For each working graph, number of spins n and width w, disjoint embeddings of the band, with a ghost
spin that carries the fields ("ghost", fast anneals) and without ("h", standard anneals, fields as
fields), and of the clique of as many programmed spins. Prints a row of a Markdown table for each:
slots, the mean number of qubits of a slot, the longest chain, and seconds of processor time. Which
qubits and couplers the real processors lack is random here; how many is published.
"""

import argparse
import os
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

from qattn.hardware.embedding import Pattern, WorkingGraph, pack_slots
from qattn.hardware.emulator.physics.device_models import DEVICE_MODELS

PERFECT = {"Z12": ("zephyr", 12), "P16": ("pegasus", 16), "Z6": ("zephyr", 6)}


def graph_of(name: str) -> WorkingGraph:
    """A perfect graph, or one of a real processor's numbers of qubits and couplers."""
    return (
        DEVICE_MODELS[name].graph()
        if name in DEVICE_MODELS
        else WorkingGraph.perfect(*PERFECT[name])
    )


def row(graph: WorkingGraph, pattern: Pattern) -> str:
    """Slots, qubits of a slot, longest chain and seconds; 0 slots where none fits."""
    started = time.process_time()
    try:
        packing = pack_slots(graph, pattern)
    except ValueError:
        return f"0 | | | {time.process_time() - started:.0f}"
    seconds = time.process_time() - started
    each = packing.num_qubits / packing.num_slots
    return f"{packing.num_slots} | {each:.0f} | {packing.chains.shape[2]} | {seconds:.0f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    graphs = [*PERFECT, *DEVICE_MODELS]
    parser.add_argument(
        "--graphs", nargs="+", choices=graphs, default=["Z12", "P16", *DEVICE_MODELS]
    )
    parser.add_argument("--spins", nargs="+", type=int, default=[16, 32, 64])
    parser.add_argument("--widths", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--cliques", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| graph | n | pattern | fields | slots | qubits | longest | CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.graphs:
        graph = graph_of(name)
        for n in arguments.spins:
            for carrier, fields in ((1, "ghost"), (0, "h")):
                for width in arguments.widths:
                    cells = f"{name} | {n} | w = {width} | {fields}"
                    print(
                        f"| {cells} | {row(graph, Pattern(n + carrier, width, carrier))} |",
                        flush=True,
                    )
                if arguments.cliques:
                    cells = f"{name} | {n} | clique | {fields}"
                    print(f"| {cells} | {row(graph, Pattern(n + carrier))} |", flush=True)


if __name__ == "__main__":
    main()
