"""QPU access time of a training step on three processors: `python benchmarks/qpu_cost.py`.

By the timing models that emulations of Advantage2_system1, system2 and system4 publish, with the
packings of their working graphs (which qubits are missing is random), for the training of the
README's section on QPUs unless other settings are given. Prints a row of a Markdown table for each:
problems and submissions of a step, its QPU access time, submissions and steps in a minute of it.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from dwave.cloud.solver import StructuredSolver

from qattn.hardware.doctor.cost import Workload, step_cost
from qattn.hardware.embedding.find_packing import cached_packing
from qattn.hardware.emulator.physics.device import EmulatedDevice
from qattn.hardware.emulator.physics.device_models import DEVICE_MODELS
from qattn.training import TrainConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--context", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--num-reads", type=int, nargs="+", default=[50, 100, 1000])
    parser.add_argument("--annealing-time", type=float, default=5.0, help="ns")
    arguments = parser.parse_args()
    print("| solver | reads | problems | submissions | QPU s | submissions/min | steps/min |")
    print("|---|---|---|---|---|---|---|")
    for model in DEVICE_MODELS.values():
        device = EmulatedDevice(model.graph(), f"Emulated_{model.name}", model)
        # The client's own estimator, without a service.
        solver = StructuredSolver(client=None, data=device.definition)
        for num_reads in arguments.num_reads:
            training = TrainConfig(
                context=arguments.context, batch_size=arguments.batch_size, num_reads=num_reads
            )
            workload = Workload(training)
            cost = step_cost(
                workload,
                cached_packing(device.graph, workload.num_spins),
                lambda qubits, params, solver=solver: (
                    1e-6 * solver.estimate_qpu_access_time(qubits, **params)
                ),
                annealing_time=arguments.annealing_time,
                max_reads=solver.max_num_reads(annealing_time=1e-3 * arguments.annealing_time),
            )
            print(
                f"| {model.name} | {num_reads} | {cost.problems} | {cost.jobs} "
                f"| {cost.access_time:.3f} | {60 * cost.jobs / cost.access_time:.0f} "
                f"| {60 / cost.access_time:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
