"""``qattn compare``: how good samplers are, against exact Boltzmann."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from qattn.backends.spec import parse_samplers
from qattn.cli.terminal.flags import flags_of, with_flags
from qattn.cli.terminal.progress import Stages
from qattn.cli.terminal.report import called, show
from qattn.compare.results import CompareSettings
from qattn.estimators import available_estimators

console = Console()

SETTINGS = ("num_reads", "refine_sweeps", "estimator", "floor_repeats", "tempering_sweeps")


@with_flags(flags_of(CompareSettings, SETTINGS))
def compare(
    samplers: Annotated[
        str,
        typer.Option(
            help="Names with options: exact,neal:default,diabatic:annealing_time=3,tolerance=1e-4."
        ),
    ] = "exact,neal,diabatic",
    problems: Annotated[
        list[str] | None,
        typer.Option(
            help="synthetic, ferromagnet, sk, banded, ring, planted, ea, regular or native, with "
            "options as in sk:spins=10,beta=0.5; or run:DIR, file:PATH; may be repeated "
            "(default: synthetic)."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The report's folder, a new one.")] = Path("comparison"),
    seed: Annotated[int, typer.Option(help="Seed of problems and reads.")] = 0,
    annealing_times: Annotated[
        str, typer.Option(help="Times in ns for the samplers that have one: 2,5,10.")
    ] = "",
    reads_sweep: Annotated[str, typer.Option(help="Numbers of reads: 100,1000,10000.")] = "",
    strengths: Annotated[str, typer.Option(help="Factors of the problems' β: 0.5,1,2.")] = "",
    journal: Annotated[
        Path | None, typer.Option(help="Folder of recorded QPU reads, for replay and dwave.")
    ] = None,
    emulate_qpu: Annotated[
        bool, typer.Option("--emulate-qpu", help="Run dwave on an emulated QPU, offline.")
    ] = False,
    emulated_device: Annotated[
        str | None,
        typer.Option(help="With --emulate-qpu: advantage2-system1, -system2 or -system4."),
    ] = None,
    training: Annotated[
        bool, typer.Option("--training", help="Compare short trainings instead of reads.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="With --training: TOML file with its settings.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="With --training: number of seeds.")] = 5,
    json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON instead of a table.")
    ] = False,
    **options: Any,
) -> None:
    """Compare samplers with the exact Boltzmann distribution.

    Every figure stands beside the noise of as many exact reads. Prints a table; writes report.json,
    pictures and report.html, one file that holds everything. With --emulate-qpu, dwave is an
    emulator on the loopback interface, which is calibrated first. With --training: trains with
    each sampler from the same seeds, evaluated exactly, and writes training.json, learning curves
    and training.html. With --json: prints what is in report.json or training.json.
    """
    from qattn.problems import named

    num_reads, estimator = options["num_reads"], options["estimator"]
    if num_reads < 2:
        raise ValueError(f"Argument `num_reads` must be at least 2, but is {num_reads}.")
    if estimator not in set(available_estimators()) - {"exact"}:
        raise ValueError(
            f"Argument `estimator` must be callen, moment or score, but is {estimator!r}."
        )
    if out.exists():
        raise FileExistsError(f"The folder {out} exists: choose another --out.")
    specs = parse_samplers(samplers)
    if journal is not None:
        specs = [
            spec.with_options(journal=str(journal)) if spec.takes("journal") else spec
            for spec in specs
        ]
    sets = {name: named(name, seed=seed) for name in dict.fromkeys(problems or ["synthetic"])}
    settings = CompareSettings(
        seed=seed,
        annealing_times=_numbers("annealing_times", annealing_times),
        reads_sweep=tuple(int(x) for x in _numbers("reads_sweep", reads_sweep)),
        strengths=_numbers("strengths", strengths),
        **options,
    )
    if emulated_device is not None and not emulate_qpu:
        raise ValueError("Argument `emulated_device` must go with --emulate-qpu, but does not.")
    with ExitStack() as stack:
        stack.enter_context(_without_notices())
        progress = stack.enter_context(Stages()).begin
        if emulate_qpu:
            from qattn.cli._emulated import on_an_emulated_qpu

            progress("starting and calibrating an emulated QPU")
            emulator = on_an_emulated_qpu(specs, out, seed=seed, device=emulated_device)
            specs = stack.enter_context(emulator)
        write: Callable[..., list[Path]]
        results: Any
        if training:
            from qattn.compare.trainings import compare_trainings, compared_training
            from qattn.compare.trainings_report import training_table, write_training_report

            base = compared_training(config, num_reads=num_reads, seed=seed)
            results = compare_trainings(specs, base, seeds=seeds, folder=out, progress=progress)
            write, tables = write_training_report, [training_table(results)]
        else:
            from qattn.compare.report import write_report
            from qattn.compare.run import compare as run
            from qattn.compare.table import table

            results = run(specs, sets, settings, folder=out, progress=progress)
            write, tables = write_report, [table(result) for result in results.sets]
        progress("writing the report")
        paths = write(results, out, **called())
    show(console, paths, tables, as_json=json)


@contextmanager
def _without_notices() -> Iterator[None]:
    """Warnings only: what backends note about embeddings and sessions is in their journals."""
    logger = logging.getLogger("qattn")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in filter(None, text.split(",")))
    except ValueError:
        raise ValueError(
            f"Argument `{name}` must be numbers as in 1,2,5, but is {text!r}."
        ) from None
    if any(not 0 < value < float("inf") for value in values):
        raise ValueError(f"Argument `{name}` must hold positive numbers, but is {text!r}.")
    return values
