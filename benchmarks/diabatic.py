"""Throughput of the batched diabatic engine against a loop of QuTiP's sesolve, side by side.

Both compute the final probabilities of the same problems (fields N(0, 1), couplings N(0, 0.3²), on
the linear schedule), on one CPU thread, with QuTiP's operators built once. Each must keep within a
total variation of 1e-3 of a reference computed with the other tool's tight settings. QuTiP is timed
with its default settings (Adams, rtol 1e-6) and with the fastest of several looser ones that meet
the tolerance; the ratio against both is printed. The two tools alternate, and medians are taken.

    OMP_NUM_THREADS=1 python benchmarks/diabatic.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from qattn.field_encoding import FieldEncoding
from qattn.ising.batch import IsingBatch
from qattn.simulators.diabatic import DiabaticBackend
from qattn.simulators.problems_by_size import problems_by_size
from qattn.simulators.qutip_backend import QutipBackend
from qattn.simulators.statevector.choose_splitting import choose_splitting

TOLERANCE = 1e-3
PROBLEMS = {8: 2048, 12: 128}
QUTIP_PROBLEMS = {8: 24, 12: 6}
LOOSER = [
    {"method": "vern7", "rtol": 10.0**-k, "atol": 10.0 ** -(k + 1)} for k in (2, 3, 4)
] + [
    {"method": "dop853", "rtol": 10.0**-k, "atol": 10.0 ** -(k + 2)} for k in (3, 4)
] + [
    {"method": "adams", "rtol": 10.0**-k, "atol": 10.0 ** -(k + 2)} for k in (4, 5)
]  # fmt: skip


def problems(n: int, count: int) -> IsingBatch:
    generator = torch.Generator().manual_seed(n)
    h = torch.randn(count, 1, n, generator=generator)
    J = (0.3 * torch.randn(count, n, n, generator=generator)).triu(1)
    return IsingBatch(h, J + J.mT)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def total_variation(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((p.double() - q.double()).abs().sum(-1).max()) / 2


def compare(n: int, annealing_time: float, rounds: int) -> None:
    batch, few = problems(n, PROBLEMS[n]), problems(n, PROBLEMS[n])
    few = IsingBatch(few.h[: QUTIP_PROBLEMS[n]], few.J[: QUTIP_PROBLEMS[n]])
    double = IsingBatch(few.h.double(), few.J.double())
    engine = DiabaticBackend("linear", annealing_time, tolerance=TOLERANCE)
    tight = {"rtol": 1e-9, "atol": 1e-11}
    reference = QutipBackend("linear", annealing_time, solver_options=tight).probabilities(double)
    other = DiabaticBackend("linear", annealing_time, tolerance=1e-6).probabilities(double)
    assert total_variation(reference, other) < 1e-5, "the two references must agree"

    first = seconds(lambda: engine.probabilities(batch))
    error = total_variation(engine.probabilities(batch)[: len(few.h)], reference)
    betas = engine.beta_h, engine.beta_J
    programmed = next(problems_by_size(batch, betas, FieldEncoding.DIRECT))
    kicks = choose_splitting(programmed.h, programmed.J, engine.schedule, TOLERANCE)
    candidates = []
    for options in LOOSER:
        backend = QutipBackend("linear", annealing_time, solver_options=options)
        off = total_variation(backend.probabilities(few), reference)
        if off <= TOLERANCE:
            candidates.append((seconds(lambda b=backend: b.probabilities(few)), off, options))
    _, loose_error, loose = min(candidates, key=lambda candidate: candidate[0])
    default = QutipBackend("linear", annealing_time)
    fastest = QutipBackend("linear", annealing_time, solver_options=loose)
    tools = {
        "diabatic": lambda: engine.probabilities(batch),
        "default": lambda: default.probabilities(few),
        "fastest": lambda: fastest.probabilities(few),
    }
    per_problem = {name: [] for name in tools}
    for _ in range(rounds):
        for name, work in tools.items():
            count = len(batch.h) if name == "diabatic" else len(few.h)
            per_problem[name].append(seconds(work) / count * 1e3)
    ms = {name: statistics.median(times) for name, times in per_problem.items()}
    print(
        f"n = {n}, linear schedule, {annealing_time:g} ns\n"
        f"  diabatic        {ms['diabatic']:8.4f} ms per problem, batch of {len(batch.h)}, TV "
        f"{error:.1e}, {kicks.num_kicks} kicks at order {kicks.order} "
        f"(first call {first:.2f} s: chooses the kicks)\n"
        f"  qutip default   {ms['default']:8.4f} ms per problem: ratio "
        f"{ms['default'] / ms['diabatic']:.0f}\n"
        f"  qutip fastest   {ms['fastest']:8.4f} ms per problem, TV {loose_error:.1e}, {loose}: "
        f"ratio {ms['fastest'] / ms['diabatic']:.0f}"
    )
    if torch.cuda.is_available():
        there = IsingBatch(batch.h.cuda(), batch.J.cuda())

        def on_gpu() -> None:
            engine.probabilities(there)
            torch.cuda.synchronize()

        on_gpu()
        gpu = statistics.median(seconds(on_gpu) for _ in range(rounds)) / len(batch.h) * 1e3
        print(
            f"  diabatic, {torch.cuda.get_device_name()}: {gpu:.5f} ms per problem, ratio "
            f"{ms['default'] / gpu:.0f} against the default"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annealing-time", type=float, nargs="+", default=[3.0])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for annealing_time in arguments.annealing_time:
        for n in PROBLEMS:
            compare(n, annealing_time, arguments.rounds)


if __name__ == "__main__":
    main()
