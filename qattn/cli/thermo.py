"""``qattn thermo``: Ising models and attention as thermodynamic systems."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import Tensor

from qattn.cli.run.trained import Member
from qattn.cli.terminal.progress import Stages
from qattn.cli.terminal.report import called, show

console = Console()


def thermo(
    problems: Annotated[
        list[str] | None,
        typer.Option(
            help="Names with options as in sk:spins=12, those of qattn compare; or run:DIR; may be "
            "repeated (default: spin glasses of 8, 12 and 16 spins)."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The folder of a trained run: short for run:DIR.")
    ] = None,
    betas: Annotated[
        str,
        typer.Option(
            help="Values of β, in units of the problems': FIRST:LAST:NUMBER, evenly spaced, with "
            ":log at even ratios, or a list, 0.5,1,2."
        ),
    ] = "0.1:3:30",
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Take reads of this backend, such as gibbs (default: exact values, by whatever "
            "engine the couplings have)."
        ),
    ] = None,
    num_reads: Annotated[int, typer.Option(help="Reads of each problem at each β.")] = 1000,
    sequences: Annotated[
        int, typer.Option(help="Of a run: validation sequences whose queries are taken.")
    ] = 8,
    positions: Annotated[
        int, typer.Option(help="Of a run: queries of each sequence, at even distances.")
    ] = 4,
    member: Member = 0,
    seed: Annotated[int, typer.Option(help="Seed of problems, queries and reads.")] = 0,
    out: Annotated[Path, typer.Option(help="The report's folder, a new one.")] = Path("thermo"),
    json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON instead of a table.")
    ] = False,
) -> None:
    """Draw heat capacity, susceptibilities, Binder cumulants and entropy against β.

    Of sets of problems, or of the queries of a trained run, layer by layer and head by head, with
    the regimes of its heads and the working point against critical β. A softmax head is one system
    of each query, whose states are the positions. Prints a table; writes thermo.json, pictures and
    thermo.html, one file that holds everything.
    """
    from qattn.backends.spec import parse_sampler
    from qattn.problems import named
    from qattn.thermo_report import thermo_of_problems, thermo_of_run, write_report
    from qattn.thermo_report.table import table

    if out.exists():
        raise FileExistsError(f"The folder {out} exists: choose another --out.")
    asked = [*(problems or []), *([] if run is None else [f"run:{run}"])] or list(DEFAULT)
    values, spec = parsed_betas(betas), None if sampler is None else parse_sampler(sampler)
    backend = None if spec is None else spec.build()
    reads: dict[str, Any] = {"backend": backend, "num_reads": num_reads, "seed": seed}
    runs = [Path(name.removeprefix("run:")) for name in asked if name.startswith("run:")]
    if wrong := [folder for folder in runs if "," in str(folder)]:
        raise ValueError(
            f"Argument `problems` run:DIR takes no options here, but is run:{wrong[0]}: give "
            f"--sequences, --positions and --seed."
        )
    names = dict.fromkeys(name for name in asked if not name.startswith("run:"))
    sets = {name: named(name, seed=seed) for name in names}
    with ExitStack() as stack:
        stages = stack.enter_context(Stages())
        if backend is not None:
            backend.open(out)
            stack.callback(backend.close)
        sections = (
            [thermo_of_problems(sets, values, progress=stages.begin, **reads)] if sets else []
        )
        sections += [
            thermo_of_run(
                folder,
                values,
                sequences=sequences,
                positions=positions,
                member=member,
                progress=stages.begin,
                **reads,
            )
            for folder in dict.fromkeys(runs)
        ]
        stages.begin("writing the report")
        settings: dict[str, Any] = {"betas": betas, "sampler": sampler or "exact where it can be"}
        settings |= {"num_reads": num_reads, "seed": seed}
        settings |= {"sequences": sequences, "positions": positions} if runs else {}
        paths = write_report(sections, out, settings=settings, **called())
    show(console, paths, map(table, sections), as_json=json)


DEFAULT = tuple(f"sk:spins={n},problems=30" for n in (8, 12, 16))
"""Problems where none are named: the glass of Sherrington and Kirkpatrick at three sizes."""


def parsed_betas(text: str) -> Tensor:
    """Values of β of a range FIRST:LAST:NUMBER, FIRST:LAST:NUMBER:log, or a list.

    >>> parsed_betas("0.5:2:4")
    tensor([0.5000, 1.0000, 1.5000, 2.0000], dtype=torch.float64)
    >>> parsed_betas("0.25:4:5:log")
    tensor([0.2500, 0.5000, 1.0000, 2.0000, 4.0000], dtype=torch.float64)
    """
    try:
        if ":" not in text:
            return torch.tensor([float(part) for part in text.split(",")], dtype=torch.float64)
        first, last, number, *spacing = text.split(":")
        ends = torch.tensor([float(first), float(last)], dtype=torch.float64)
        if spacing in ([], ["log"]) and int(number) > 0:
            a, b = (ends.log() if spacing else ends).tolist()
            values = torch.linspace(a, b, int(number), dtype=torch.float64)
            return values.exp() if spacing else values
    except ValueError:
        pass
    raise ValueError(
        f"Argument `betas` must be FIRST:LAST:NUMBER, FIRST:LAST:NUMBER:log or a list such as "
        f"0.5,1,2, but is {text!r}."
    )
