"""``qattn calibrate``: at what settings, and at what β, does an annealer sample best."""

from pathlib import Path
from typing import Annotated, Any

import typer

from qattn.calibration_file import check_writable
from qattn.cli.terminal.flags import flags_of, with_flags
from qattn.ising.batch import IsingBatch

ANNEALERS = ("diabatic", "qutip")
SERVICE = ("solver", "endpoint", "region", "credentials", "qpu_budget")


@with_flags(flags_of("dwave", SERVICE, prefix="dwave: "))
def calibrate(
    sampler: Annotated[str, typer.Option(help="Annealer: diabatic, qutip, dwave.")] = "diabatic",
    run: Annotated[
        Path | None, typer.Option(help="Problems from the queries of the run in this folder.")
    ] = None,
    spins: Annotated[int, typer.Option(help="Spins of a synthetic problem.")] = 8,
    problems: Annotated[int, typer.Option(help="Number of problems.")] = 40,
    field_sd: Annotated[float, typer.Option(help="Spread of synthetic fields.")] = 1.0,
    coupling_sd: Annotated[float, typer.Option(help="Spread of synthetic couplings.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Seed of the problems.")] = 0,
    schedule: Annotated[
        list[str] | None,
        typer.Option(help="Name or file; may be repeated (default: linear). dwave: one file."),
    ] = None,
    sheet: Annotated[str, typer.Option(help="Sheet of a schedule file: fast, standard.")] = "fast",
    annealing_time: Annotated[
        list[float] | None, typer.Option(help="Duration in ns; may be repeated.")
    ] = None,
    field_encoding: Annotated[
        list[str] | None,
        typer.Option(help="direct, ghost, ancilla (dwave only); may be repeated."),
    ] = None,
    chain_strength: Annotated[
        list[float] | None,
        typer.Option(help="dwave: coupling within chains; may be repeated (default: strongest)."),
    ] = None,
    num_reads: Annotated[int, typer.Option(help="dwave: reads per problem and round.")] = 100,
    shim: Annotated[
        bool,
        typer.Option("--shim", help="dwave: cancel the offsets of chains by flux biases, first."),
    ] = False,
    journal: Annotated[
        Path | None, typer.Option(help="dwave: folder of the journal (default: beside --out).")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="File for `--calibration`; a plot goes beside it.")
    ] = Path("calibration.toml"),
    **service: Any,
) -> None:
    """Judge settings of an annealer as a sampler of the Boltzmann distribution.

    Simulated ones by their exact divergence; a D-Wave QPU by its reads, to which β_h and β_J are
    fitted with uncertainties. Prints a table, and writes a file that `qattn train --calibration`
    takes, and a plot beside it.
    """
    if sampler not in (*ANNEALERS, "dwave"):
        raise ValueError(
            f"Argument `sampler` must be one of {', '.join(ANNEALERS)}, dwave, but is {sampler!r}."
        )
    if out.is_dir() or out.suffix == ".png":
        raise ValueError(
            f"Argument `out` must be a file that is not the plot's, but is {out}: give a name that "
            f"ends in .toml or .json."
        )
    if out.exists():
        raise FileExistsError(f"The file {out} exists: choose another --out.")
    # Before anything is computed or paid: the result must not be lost.
    check_writable(out)
    batch, described = _problems(run, problems, spins, field_sd, coupling_sd, seed)
    tried: dict[str, Any] = {
        "schedules": schedule,
        "annealing_times": annealing_time,
        "field_encodings": field_encoding,
    }
    if sampler == "dwave":
        from qattn.cli.calibration.qpu import qpu_outcome

        outcome = qpu_outcome(
            batch,
            **tried,
            described=described,
            chain_strengths=chain_strength,
            num_reads=num_reads,
            shim=shim,
            seed=seed,
            journal=journal or out.with_name(f"{out.stem}-journal"),
            **service,
        )
    else:
        from qattn.cli.calibration.simulator import simulator_outcome

        outcome = simulator_outcome(batch, sampler, **tried, sheet=sheet)
    outcome.write_and_print(out)


def _problems(
    run: Path | None, problems: int, spins: int, field_sd: float, coupling_sd: float, seed: int
) -> tuple[IsingBatch, str]:
    """The problems to calibrate on, and what they are in words."""
    if run is not None:
        from qattn.problems.run import from_run

        return from_run(run, problems, seed=seed), f"{problems} problems of the run {run}"
    from qattn.problems import synthetic

    batch = synthetic(problems, spins, field_sd=field_sd, coupling_sd=coupling_sd, seed=seed)
    spread = f"fields {field_sd:g}, couplings {coupling_sd:g}"
    return batch, f"{problems} problems of {spins} spins, {spread}, seed {seed}"
