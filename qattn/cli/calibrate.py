"""``qattn calibrate``: at what settings, and at what β, does an annealer sample best."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qattn.simulators.calibrate import Calibration

console = Console()

ANNEALERS = ("diabatic", "qutip")


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
    solver: Annotated[
        str | None, typer.Option(help="dwave: a solver's name, or features as JSON text.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="dwave: URL of the solver API.")] = None,
    region: Annotated[str | None, typer.Option(help="dwave: Leap's region.")] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="dwave: file like credentials.example.toml.")
    ] = None,
    qpu_budget: Annotated[
        str | None, typer.Option(help="dwave: ceiling on QPU access time, such as 30s.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="dwave: folder of the journal (default: beside --out).")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="File for `--calibration`; a plot goes beside it.")
    ] = Path("calibration.toml"),
) -> None:
    """Judge settings of an annealer as a sampler of the Boltzmann distribution.

    Simulated ones by their exact divergence; a D-Wave QPU by its reads, to which β_h and β_J are
    fitted with uncertainties. Prints a table, and writes a file that `qattn train --calibration`
    takes, and a plot beside it.
    """
    from qattn.backends.registry import load_backend
    from qattn.field_encoding import SIMULATED
    from qattn.problems import synthetic
    from qattn.problems.run import from_run
    from qattn.simulators.calibrate import calibrate as judge

    if sampler not in (*ANNEALERS, "dwave"):
        raise ValueError(
            f"Argument `sampler` must be one of {', '.join(ANNEALERS)}, dwave, but is {sampler!r}."
        )
    if out.exists():
        raise FileExistsError(f"The file {out} exists: choose another --out.")
    if run is None:
        batch = synthetic(problems, spins, field_sd=field_sd, coupling_sd=coupling_sd, seed=seed)
    else:
        batch = from_run(run, problems, seed=seed)
    if sampler == "dwave":
        from qattn.cli.calibrate_qpu import calibrate_qpu

        calibrate_qpu(
            batch,
            described=f"{problems} problems"
            + (f" of the run {run}" if run else f" of {spins} spins, fields {field_sd:g}, ")
            + ("" if run else f"couplings {coupling_sd:g}, seed {seed}"),
            schedules=schedule,
            annealing_times=annealing_time,
            field_encodings=field_encoding,
            chain_strengths=chain_strength,
            num_reads=num_reads,
            seed=seed,
            service={
                "solver": solver,
                "endpoint": endpoint,
                "region": region,
                "credentials": credentials,
                "qpu_budget": qpu_budget,
            },
            journal=journal,
            out=out,
        )
        return
    found = judge(
        batch,
        schedules=schedule or ("linear",),
        annealing_times=annealing_time or (1.0, 2.0, 3.0, 5.0, 10.0),
        field_encodings=field_encoding or SIMULATED,
        sheet=sheet,
        backend=load_backend(sampler),  # type: ignore[arg-type]
    )
    found.save(out)
    picture = out.with_suffix(".png")
    divergence_plot(found).savefig(picture, dpi=120)
    console.print(divergence_table(found))
    best = found.recommended.to_dict()
    settings = ", ".join(f"{key} = {value}" for key, value in best.items())
    console.print(f"recommended: {settings}", highlight=False, soft_wrap=True)
    console.print(f"{out}\n{picture}", highlight=False, soft_wrap=True)


def divergence_table(found: "Calibration") -> Table:
    """One row per setting: theory's and the fitted betas, and the divergence with each."""
    table = Table(
        title=f"{found.num_problems} problems of up to {found.num_spins} spins; uniform reads "
        f"would diverge by {found.uniform_divergence:.3g} nats"
    )
    for name in ("schedule", "ns", "fields", "β_h, β_J", "fitted", "divergence", "with fitted"):
        table.add_column(name)
    for point in found.points:
        table.add_row(
            Path(point.schedule).name,
            f"{point.annealing_time:g}",
            point.field_encoding,
            f"{point.theory_beta_h:.3g}, {point.theory_beta_J:.3g}",
            f"{point.fitted_beta_h:.3g}, {point.fitted_beta_J:.3g}",
            f"{point.divergence:.2g}",
            f"{point.fitted_divergence:.2g}",
        )
    return table


def divergence_plot(found: "Calibration") -> "Figure":
    """Divergence against annealing time; solid with theory's betas, dashed with the fitted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes: Any = figure.subplots()
    settings = dict.fromkeys((p.schedule, p.field_encoding) for p in found.points)
    for schedule, encoding in settings:
        points = sorted(
            (p for p in found.points if (p.schedule, p.field_encoding) == (schedule, encoding)),
            key=lambda p: p.annealing_time,
        )
        times = [p.annealing_time for p in points]
        label = f"{Path(schedule).stem}, {encoding}"
        (line,) = axes.plot(times, [p.divergence for p in points], marker="o", label=label)
        fitted = [p.fitted_divergence for p in points]
        axes.plot(times, fitted, color=line.get_color(), marker=".", linestyle="--")
    axes.axhline(found.uniform_divergence, color="black", linestyle=":", label="uniform reads")
    axes.set_xscale("log")
    every_time = sorted({p.annealing_time for p in found.points})
    axes.set_xticks(every_time, [f"{time:g}" for time in every_time])
    axes.minorticks_off()
    axes.set_yscale("log")
    axes.set_xlabel("annealing time (ns)")
    axes.set_ylabel("divergence from the target (nats)")
    axes.set_title("solid: theory's β_h, β_J; dashed: fitted", fontsize=10)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure
