"""The folder of a comparison: report.json, pictures, and one HTML file that holds all of it."""

import base64
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from qattn._version import __version__
from qattn.compare.figures import energies_figure, summary_figure
from qattn.compare.panels import moments_figure, temperatures_figure
from qattn.compare.results import Comparison, SetResult, plain_info
from qattn.compare.sweep_figures import sweep_plots
from qattn.compare.table import COLUMNS, figure_rows, table_rows
from qattn.quality import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("torch", "numpy", "scipy", "dimod", "dwave-samplers", "dwave-system", "qutip")
"""Packages whose versions a page states."""

DPI = 130

CAPTIONS = {
    "summary": "Every figure over its noise floor (the value of the same number of independent "
    "exact reads of the same problems); grey bands: one and two standard deviations of exact "
    "reads. Points left of a band are not better than exact: a sampler that is too cold scatters "
    "over fewer states, and the estimate of a KL near zero is as often below as above.",
    "moments": "Magnetisations ⟨s⟩ and correlations ⟨ss⟩ of the reads against the reference, with "
    "the standard errors of independent reads.",
    "energies": "Energies of all problems, each in its own exact standard deviations from its own "
    "exact mean; below, the difference, with standard errors of independent reads (cut off where "
    "one sampler would hide the others).",
    "temperatures": "Pseudo-likelihood fits of β_h (fields) and β_J (couplings) to each problem, "
    "in units of the target's, with standard errors; band: 95% interval of the fit to all "
    "problems.",
    "against_annealing_time": "Quality against annealing time, each time with the betas of its "
    "own theory or calibration; dashed: noise floor; bars: its spread, and 95% intervals of the "
    "temperatures.",
    "against_num_reads": "Quality against the number of reads; dashed: noise floor of the same "
    "number of exact reads. A sampler's bias shows where its curve leaves the floor.",
    "against_strength": "Quality against the strength of the problems (factor of their β); "
    "dashed: noise floor.",
}


def write_report(
    comparison: Comparison, folder: Path, *, command: str = "", created: str = ""
) -> list[Path]:
    """Write report.json, the pictures as PNG, and report.html; returns their paths.

    The part ``comparison`` of the JSON depends on problems, reads and seeds alone.

    Args:
        comparison: The results.
        folder: The folder of the report; made if it is missing.
        command: The command line that was called, for the report.
        created: Its date and time, for the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = {
        "command": command,
        "created": created,
        "versions": versions(),
        "samplers": comparison.context(),
    }
    paths = [folder / "report.json"]
    data = {"comparison": comparison.to_dict(), "context": context}
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    paths[0].write_text(text + "\n", encoding="utf-8")
    sections = []
    for number, set_result in enumerate(comparison.sets):
        prefix = "" if len(comparison.sets) == 1 else f"{number + 1}_"
        order = [result.label for result in set_result.results]
        figures = sweep_plots(set_result, order)
        if judged := [result for result in set_result.results if result.quality is not None]:
            figures = {
                "summary": summary_figure(judged),
                "moments": moments_figure(set_result, judged),
                "energies": energies_figure(set_result, judged),
                "temperatures": temperatures_figure(judged),
            } | figures
        pictures, files = save_pictures(figures, folder, prefix)
        paths += files
        sections.append(section(set_result) | {"pictures": pictures})
    paths.append(folder / "report.html")
    write_page(
        paths[-1],
        sections=sections,
        settings={k: v for k, v in vars(comparison.settings).items() if v not in ((), "", 0)}
        | {"seed": comparison.settings.seed},
        columns=COLUMNS,
        metrics=METRICS,
        emulated=any(s["emulated"] for s in sections),
        **context,
    )
    return paths


def section(set_result: SetResult) -> dict[str, Any]:
    """Values that the template shows of a set of problems, without pictures."""
    devices = [
        vars(r) | {"info": plain_info(r.info), "emulated": bool(r.info.get("emulated"))}
        for r in set_result.results
    ]
    return {
        "name": set_result.name,
        "problems": set_result.reference.num_problems,
        "spins": set_result.reference.batch.num_spins,
        "reads": float(set_result.floor.num_reads.mean()),
        "is_exact": set_result.reference.is_exact,
        "resolved": all(quality.states_resolved for quality in set_result.judged.values()),
        "rows": table_rows(set_result),
        "devices": devices,
        "emulated": any(device["emulated"] for device in devices),
        "figures": figure_rows(set_result),
    }


def save_pictures(
    figures: Mapping[str, "Figure"], folder: Path, prefix: str = ""
) -> tuple[list[dict[str, str]], list[Path]]:
    """Write pictures as PNG; returns what a page shows of each, and their paths."""
    pictures, paths = [], []
    for name, figure in figures.items():
        paths.append(folder / f"{prefix}{name}.png")
        figure.savefig(paths[-1], dpi=DPI)
        data = "data:image/png;base64," + base64.b64encode(paths[-1].read_bytes()).decode("ascii")
        pictures.append({"name": name, "caption": CAPTIONS.get(name, ""), "data": data})
    return pictures, paths


def write_page(path: Path, **values: Any) -> None:
    """Write the page of this package's template for a file, with `versions` among its values."""
    environment = Environment(
        loader=PackageLoader("qattn.compare"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template(f"{path.name}.j2")
    path.write_text(template.render({"versions": versions()} | values), encoding="utf-8")


def versions() -> dict[str, str]:
    """Versions of Python, qattn and the installed packages of :data:`PACKAGES`."""
    known = {"qattn": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            continue
    return known
