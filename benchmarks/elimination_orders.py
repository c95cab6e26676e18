"""Orders in which an autoregressive sampler draws lattices, random graphs and QPU graphs.

    python benchmarks/elimination_orders.py

A row for each graph: levels that are drawn one after the other, spins on which a conditional
depends (on average, and the most), spins that are not drawn exactly (tables of up to ten spins),
and the seconds of CPU time in search of the order.
"""

import time

from qattn.problems import edwards_anderson, qpu_native, random_regular
from qattn.simulators.autoregressive.orders import plan_of

GRAPHS = {
    **{f"{L} x {L}": lambda L=L: edwards_anderson(1, L, periodic=False) for L in (16, 32, 64)},
    **{f"torus {L} x {L}": lambda L=L: edwards_anderson(1, L) for L in (8, 16, 32, 64)},
    **{
        f"cube {L}": lambda L=L: edwards_anderson(1, L, dimensions=3, periodic=False)
        for L in (6, 8, 10, 16)
    },
    **{
        f"periodic cube {L}": lambda L=L: edwards_anderson(1, L, dimensions=3)
        for L in (4, 6, 8, 10)
    },
    **{f"random regular {n}": lambda n=n: random_regular(1, n) for n in (100, 1000)},
    **{
        f"{name} {size}": lambda name=name, size=size: qpu_native(1, topology=name, size=size)
        for name, size in (("chimera", 16), ("pegasus", 8), ("zephyr", 6))
    },
}


def main() -> None:
    print(f"{'graph':20} {'spins':>5} {'levels':>6} {'scope':>6} {'most':>5} {'core':>5} {'s':>5}")
    for name, make in GRAPHS.items():
        adjacency = make().matrix[0] != 0
        start = time.process_time()
        plan = plan_of(adjacency)
        seconds = time.process_time() - start
        scopes, core = [len(scope) for scope in plan.scopes], plan.with_exact(10).num_core
        print(
            f"{name:20} {plan.num_spins:5} {len(plan.levels):6} {sum(scopes) / len(scopes):6.1f} "
            f"{max(scopes):5} {core:5} {seconds:5.1f}"
        )


if __name__ == "__main__":
    main()
