"""``qattn fit-sampler``: fit an autoregressive sampler to a problem or to a family of them."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from qattn.cli.terminal.flags import flags_of, with_flags
from qattn.cli.terminal.progress import Stages
from qattn.cli.train import is_flag
from qattn.fitting import FitConfig, FitFolder
from qattn.fitting import fit_sampler as run
from qattn.simulators.autoregressive import NetSettings

console = Console(highlight=False, soft_wrap=True)

NET = [field.name for field in dataclasses.fields(NetSettings)]
NET_FLAGS = [
    flag.replace(default=None) if flag.name == "parameters" else flag
    for flag in flags_of(NetSettings, NET)
]
OWN = [f.name for f in dataclasses.fields(FitConfig) if f.name not in ("net", "problems")]


@with_flags([*flags_of(FitConfig, OWN), *NET_FLAGS])
def fit_sampler(
    ctx: typer.Context,
    problems: Annotated[
        str | None,
        typer.Argument(
            help="Problems as in qattn compare, sk:spins=50, or a file of BQMs; one of them is "
            "fitted, --problem.",
            metavar="problems",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder (default: runs/ and a name).")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the fit in this folder.")] = None,
    **options: Any,
) -> None:
    """Fit an autoregressive sampler to a problem, or to a family of problems.

    The sampler draws with a known log q, which `qattn compare` and `get_backend` take from the
    folder: autoregressive:checkpoint=DIR. Without --parameters, a problem gets numbers for each of
    its couplings, a family a few numbers that hold for any couplings. Writes config.toml,
    metrics.jsonl, checkpoint.pt, sampler.pt, summary.json and plots.
    """
    given = {name: value for name, value in options.items() if is_flag(ctx, name)}
    if problems is not None:
        given["problems"] = f"file:{problems}" if Path(problems).is_file() else problems
    if resume is not None:
        if out is not None or problems is not None:
            raise ValueError("--resume takes the folder and its problem: drop --out and PROBLEM.")
        before = FitFolder(resume).read_config()
        config = FitConfig.of_settings(before.as_values() | given)
    else:
        if problems is None and "family" not in given:
            raise ValueError(
                "Give a PROBLEM, such as sk:spins=50 or a file of a BQM, or --family: "
                "`qattn fit-sampler --help`."
            )
        config = FitConfig.of_settings(given)
    folder = resume or out or Path("runs") / _default_name(config)
    with Stages() as stages:
        summary = run(config, folder, resume=resume is not None, progress=stages.begin)
    for line in _shown(summary):
        console.print(line)
    console.print(f"{folder}: use it as autoregressive:checkpoint={shlex.quote(str(folder))}")


def _shown(summary: dict[str, Any]) -> list[str]:
    """Free energies, effective shares of reads, and what they were measured against."""
    n, beta = summary["num_spins"], summary["beta"]
    lines = [
        f"{summary['problems']}, {n} spins, β = {beta:g}: {summary['steps']} steps, "
        f"{summary['seconds']:.1f} s, {summary['parameters']} parameters",
        f"F_q  {summary['F_q']:.6f} ± {summary['F_q_error']:.1g} a spin (an upper bound)",
        f"F_IS {summary['F_IS']:.6f} ± {summary['F_IS_error']:.1g}",
    ]
    shares = f"ESS {summary['ess']:.4f}"
    if "F" in summary:
        error = f" ± {summary['F_error']:.1g}" if summary["F_error"] else ""
        doubt = "" if summary["in_equilibrium"] else " (not known to be in equilibrium)"
        lines.append(f"F    {summary['F']:.6f}{error}, {summary['reference']}{doubt}")
        shares += f", forward ESS {summary['forward_ess']:.4f}"
    return [*lines, shares]


def _default_name(config: FitConfig) -> str:
    """A name from the problem and β, without what a path cannot hold."""
    problems = config.problems or f"family-{config.family}"
    plain = "".join(c if c.isalnum() or c in "=.-" else "-" for c in problems)
    number = f"-{config.problem}" if config.problem else ""
    return f"sampler-{plain}{number}-beta{config.beta:g}"
