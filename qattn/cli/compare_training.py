"""``qattn compare --training``: does the sampler matter for what is learned?"""

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from qattn.backends.spec import SamplerSpec

SETTINGS: dict[str, Any] = {
    "task": "brackets",
    "context": 8,
    "layers": 1,
    "heads": 2,
    "width": 32,
    "batch_size": 16,
    "steps": 200,
    "lr": 5e-3,
    "warmup": 20,
    "eval_every": 20,
}
"""A short training, unless a configuration says otherwise."""


def compare_training(
    specs: Sequence[SamplerSpec],
    config: Path | None,
    *,
    seeds: int,
    num_reads: int,
    seed: int,
    out: Path,
) -> None:
    """Train with each sampler, print the table and write the report."""
    from qattn.compare.trainings import compare_trainings
    from qattn.compare.trainings_report import training_table, write_training_report
    from qattn.training import TrainConfig, read_settings

    settings = SETTINGS if config is None else read_settings(config)
    base = TrainConfig(**({"num_reads": num_reads, "seed": seed} | settings))
    console = Console()
    with console.status("starting") as status:
        curves = compare_trainings(specs, base, seeds=seeds, folder=out, progress=status.update)
    command = shlex.join(["qattn", *sys.argv[1:]])
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    paths = write_training_report(curves, out, command=command, created=created)
    console.print(training_table(curves))
    for path in (paths[0], paths[-1]):
        console.print(str(path), highlight=False, soft_wrap=True)
