"""What many calls of one run leave behind: `python benchmarks/qpu_calls.py [--calls 20000]`.

A training calls the QPU once for each layer and step. Here a backend makes that many calls, of two
problems of two spins, on an emulated QPU in another process, and prints at intervals how many
sockets, open files and threads this process has, and how much memory. With `--max-files 256` the
process may open no more files than that. Only memory grows, by some 300 bytes a call: its name, and
its place in the journal.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil
import torch

from qattn import problems
from qattn.hardware.dwave import DWaveBackend


def emulator(folder: Path) -> "subprocess.Popen[str]":
    """An emulated QPU, and its credentials in the folder."""
    code = "from qattn.cli.app import main; main()"
    flags = ("emulate-qpu", "--shape", "1,2", "--credentials", str(folder / "credentials.toml"))
    process = subprocess.Popen(
        [sys.executable, "-c", code, *flags], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("credentials in"):
            break
    return process


def figures(call: int, started: float) -> str:
    """What the process holds at the moment."""
    process = psutil.Process()
    sockets = len(process.net_connections("inet"))
    return (
        f"{call:7d} {time.perf_counter() - started:8.0f} {sockets:8d} {process.num_fds():7d} "
        f"{threading.active_count():8d} {process.memory_info().rss / 2**20:9.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=1000)
    parser.add_argument("--spin-reversal-transforms", type=int, default=2)
    parser.add_argument("--max-files", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.max_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (arguments.max_files, arguments.max_files))
    torch.set_num_threads(1)
    batch = problems.synthetic(2, 2, field_sd=0.2, coupling_sd=0.2, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        process = emulator(Path(folder))
        backend = DWaveBackend(
            betas=(9.0, 9.0),
            annealing_time=5.0,
            follow_betas=False,  # the fit takes longer than the rest
            spin_reversal_transforms=arguments.spin_reversal_transforms,
            journal=Path(folder) / "journal",
            credentials=Path(folder) / "credentials.toml",
        )
        print("  calls  seconds  sockets   files  threads   RSS/MiB")
        started = time.perf_counter()
        for call in range(arguments.calls):
            backend.sample(batch, num_reads=4, seed=call)
            if call % arguments.every == 0:
                print(figures(call, started), flush=True)
        print(figures(arguments.calls, started))
        backend.close()
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
