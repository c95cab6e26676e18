"""``qattn spin-glass``: an autoregressive sampler over a ladder of temperatures."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from qattn.cli.terminal.flags import flags_of, with_flags
from qattn.cli.terminal.progress import Stages
from qattn.cli.terminal.report import called, show
from qattn.simulators.autoregressive.settings import NetSettings

console = Console()

NET = ("logit", "iterations", "order", "exact_width")
"""Settings of an untrained sampler that are flags."""


@with_flags(flags_of(NetSettings, NET))
def spin_glass(
    problems: Annotated[
        list[str] | None,
        typer.Option(
            help="Names with options as in sk:spins=50,problems=3 or ea:size=16, those of qattn "
            "compare; or file:PATH; may be repeated (default: sk:spins=50,problems=3)."
        ),
    ] = None,
    betas: Annotated[
        str,
        typer.Option(
            help="The ladder, in units of the problems' β: FIRST:LAST:NUMBER, evenly spaced, with "
            ":log at even ratios, or a list, 0.5,1,2."
        ),
    ] = "0.2:2:10",
    overlap_betas: Annotated[
        str,
        typer.Option(
            help="Where P(q) is compared, each at the nearest β of the ladder: 0.5,1 (default: "
            "the first, the middle and the last one)."
        ),
    ] = "",
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a fitted sampler (qattn fit-sampler); may be repeated: at each β that "
            "which was fitted nearest to it."
        ),
    ] = None,
    fit_seconds: Annotated[
        float,
        typer.Option(
            help="Fit a sampler to each problem at each β for so long, from the parameters of the "
            "β before; 0 for none."
        ),
    ] = 0.0,
    num_reads: Annotated[
        int, typer.Option(help="Reads of each problem at each β, and of the reference.")
    ] = 2000,
    tempering_sweeps: Annotated[
        int,
        typer.Option(
            help="Sweeps of parallel tempering at each β, the reference where nothing is exact."
        ),
    ] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of problems, reads and references.")] = 0,
    out: Annotated[Path, typer.Option(help="The report's folder, a new one.")] = Path("spin-glass"),
    json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON instead of a table.")
    ] = False,
    **options: Any,
) -> None:
    """Judge an autoregressive sampler of spin glasses over a ladder of temperatures.

    Free energies, energy, heat capacity, entropy and the overlap's distribution from its weighted
    reads beside a reference: exact where the couplings allow it, else long parallel tempering.
    The effective share of its reads, also from reads of the reference, says whether it has lost a
    part of the distribution. Prints a table; writes spin-glass.json, pictures and spin-glass.html,
    one file that holds everything.
    """
    from qattn.cli.thermo import parsed_betas
    from qattn.problems import named
    from qattn.spin_glass import Section, write_report
    from qattn.spin_glass import spin_glass as measured
    from qattn.spin_glass.nets import chosen
    from qattn.spin_glass.table import table

    if out.exists():
        raise FileExistsError(f"The folder {out} exists: choose another --out.")
    ladder = parsed_betas(betas)
    near = parsed_betas(overlap_betas).tolist() if overlap_betas else None
    names = list(dict.fromkeys(problems or ["sk:spins=50,problems=3"]))
    sets = {name: named(name, seed=seed) for name in names}
    nets, sampler = chosen(NetSettings(**options), checkpoint or [], fit_seconds, seed)
    sections: list[Section] = []
    paths: list[Path] = []
    with ExitStack() as stack:
        stages = stack.enter_context(Stages())
        try:
            for name, batch in sets.items():
                found = measured(
                    name,
                    batch,
                    ladder,
                    nets,
                    sampler=sampler,
                    overlap_betas=near,
                    num_reads=num_reads,
                    tempering_sweeps=tempering_sweeps,
                    seed=seed,
                    progress=stages.begin,
                )
                sections.append(found)
        finally:
            # What is done is kept, whatever stops the rest.
            if sections:
                stages.begin("writing the report")
                settings: dict[str, Any] = {"betas": betas, "sampler": sampler}
                settings |= {"num_reads": num_reads, "tempering_sweeps": tempering_sweeps}
                settings["seed"] = seed
                paths = write_report(sections, out, settings=settings, **called())
    show(console, paths, map(table, sections), as_json=json)
