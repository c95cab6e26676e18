"""One gauge a call or several: `python benchmarks/gauges.py [--offsets 0.01 0.03]`.

Calls of ghost-encoded problems to an emulated QPU whose strong chains have offsets: with one
spin-reversal transform, with four at equal reads, with one and flux biases that cancel the offsets
(the shim's own time does not count), and with four at equal QPU access time. Prints rows of a
Markdown table: the offset of a chain's qubits (in h), transforms, reads, QPU access time of the
call, the root mean square error of all ⟨s⟩ and ⟨s s⟩, the misfit (that error over what as
many independent reads have; mean over seeds ± standard deviation), and the misfit of the worst
problem of any seed. The error that does not go away with reads is second order in the offset: the
ghost product cancels the first.
"""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import tomli_w

from qattn import exact, problems
from qattn.hardware.dwave import DWaveBackend
from qattn.hardware.emulator import EmulatedQPU
from qattn.hardware.shim import shim_chains
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

SPINS, BETA = 8, 10.2


def squared_errors(batch: IsingBatch, samples: SpinSamples) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors of ⟨s⟩ and ⟨s s⟩ of each problem, and the variances of exact reads."""
    pairs = np.triu_indices(SPINS, 1)

    def moments(mean, correlation):
        spins = mean.numpy().reshape(-1, SPINS)
        products = correlation.numpy().reshape(-1, SPINS, SPINS)[:, *pairs]
        return np.concatenate([spins, products], 1)

    true = moments(exact.mean_spins(batch), exact.pair_correlations(batch))
    found = moments(samples.mean_spins(), samples.pair_correlations())
    return (found - true) ** 2, (1 - true**2) / samples.num_reads


def print_row(
    credentials: Path,
    offset: float,
    transforms: int,
    num_reads: int,
    seeds: int,
    shimmed: bool = False,
) -> float:
    """One row of the table; returns the QPU access time of a call in seconds."""
    batch = problems.synthetic(50, SPINS, seed=0)
    backend = DWaveBackend(
        betas=(BETA, BETA),
        annealing_time=5.0,
        follow_betas=False,
        spin_reversal_transforms=transforms,
        credentials=str(credentials),
        journal=credentials.parent / f"{transforms}-{num_reads}-{shimmed}",
    )
    if shimmed:
        shim_chains(backend.session, backend.session.settings, SPINS + 1)
    misfits, worst, total, seconds = [], 0.0, 0.0, 0.0
    for seed in range(seeds):
        samples = backend.sample(batch, num_reads=num_reads, seed=seed)
        squares, variances = squared_errors(batch, samples)
        ratios = squares / variances
        misfits.append(float(np.sqrt(ratios.mean())))
        worst = max(worst, float(np.sqrt(ratios.mean(1).max())))
        total += float(squares.mean()) / seeds
        seconds += samples.info["qpu_access_seconds"] / seeds
    backend.close()
    print(
        f"| {offset:g} | {transforms}{' and shim' if shimmed else ''} | {num_reads} "
        f"| {1e3 * seconds:.1f} | {total**0.5:.4f} "
        f"| {np.mean(misfits):.3f} ± {np.std(misfits):.3f} | {worst:.2f} |",
        flush=True,
    )
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="advantage2-system4")
    parser.add_argument("--offsets", nargs="+", type=float, default=[0.0, 0.01, 0.03])
    parser.add_argument("--reads", nargs="+", type=int, default=[100, 1000, 4000])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    print("| offset | transforms | reads | QPU ms | rms error | misfit | worst problem |")
    print("|---|---|---|---|---|---|---|")
    for offset in arguments.offsets:
        settings = {"device": arguments.device, "chain_offset": offset}
        with EmulatedQPU(**settings, beta_h=BETA, beta_J=BETA) as qpu, TemporaryDirectory() as made:
            data = qpu.properties["problem_timing_data"]
            programming = 1e-6 * sum(
                data[name]
                for name in ("typical_programming_time", "default_programming_thermalization")
            )
            credentials = Path(made) / "credentials.toml"
            credentials.touch(mode=0o600)
            credentials.write_text(tomli_w.dumps({"dwave": qpu.client_options}))
            for reads in arguments.reads:
                seconds = print_row(credentials, offset, 1, reads, arguments.seeds)
                print_row(credentials, offset, 4, reads, arguments.seeds)
                print_row(credentials, offset, 1, reads, arguments.seeds, shimmed=True)
                # Three programmings more leave fewer reads in the same time, if any.
                fewer = round(reads * (1 - 3 * programming / (seconds - programming)))
                if fewer >= 4:
                    print_row(credentials, offset, 4, fewer, arguments.seeds)


if __name__ == "__main__":
    main()
