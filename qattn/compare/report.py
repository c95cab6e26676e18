"""The folder of a comparison: report.json, pictures, and one HTML file that holds all of it."""

import json
from pathlib import Path
from typing import Any

from qattn.compare.figures import plots
from qattn.compare.pages import data_uri, page, versions
from qattn.compare.results import Comparison, SetResult, plain_info
from qattn.compare.sweep_figures import sweep_plots
from qattn.compare.table import COLUMNS, figure_rows, rows
from qattn.quality import METRICS

DPI = 130

CAPTIONS = {
    "summary": "Every figure over its noise floor (what as many independent exact reads give on "
    "the same problems); grey bands: one and two standard deviations of exact reads. Points left "
    "of a band are not better than exact: a sampler that is too cold scatters over fewer states, "
    "and the estimate of a KL near zero is as often below as above.",
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
    "against_num_reads": "Quality against the number of reads; dashed: noise floor of as many "
    "exact reads. A sampler's bias shows where its curve leaves the floor.",
    "against_strength": "Quality against the strength of the problems (factor of their β); "
    "dashed: noise floor.",
}


def write_report(
    comparison: Comparison, folder: Path, *, command: str = "", created: str = ""
) -> list[Path]:
    """Write report.json, the pictures as PNG, and report.html; returns their paths.

    The part ``comparison`` of the JSON depends on problems, reads and seeds alone.

    Args:
        comparison: What was found.
        folder: Where to; made if need be.
        command: What was called, for the report.
        created: When, for the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = {
        "command": command,
        "created": created,
        "versions": versions(),
        "samplers": comparison.context(),
    }
    data = {"comparison": comparison.to_dict(), "context": context}
    paths = [folder / "report.json"]
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    paths[0].write_text(text + "\n", encoding="utf-8")
    sections = []
    for number, one in enumerate(comparison.sets):
        prefix = "" if len(comparison.sets) == 1 else f"{number + 1}_"
        order = [result.label for result in one.results]
        pictures = []
        for name, figure in (plots(one) | sweep_plots(one, order)).items():
            path = folder / f"{prefix}{name}.png"
            figure.savefig(path, dpi=DPI)
            paths.append(path)
            pictures.append({"name": name, "caption": CAPTIONS[name], "data": data_uri(path)})
        sections.append(section(one) | {"pictures": pictures})
    html = page(
        "report.html.j2",
        sections=sections,
        settings={k: v for k, v in vars(comparison.settings).items() if v not in ((), "", 0)}
        | {"seed": comparison.settings.seed},
        columns=COLUMNS,
        metrics=METRICS,
        emulated=any(s["emulated"] for s in sections),
        **context,
    )
    paths.append(folder / "report.html")
    paths[-1].write_text(html, encoding="utf-8")
    return paths


def section(one: SetResult) -> dict[str, Any]:
    """What the template shows of a set of problems, without pictures."""
    devices = [
        {
            "label": result.label,
            "info": plain_info(result.info),
            "emulated": bool(result.info.get("emulated")),
            "warnings": result.warnings,
            "error": result.error,
            "seconds": result.seconds,
        }
        for result in one.results
    ]
    judged = [r.quality for r in one.results if r.quality is not None]
    return {
        "name": one.name,
        "problems": one.reference.num_problems,
        "spins": one.reference.batch.num_spins,
        "reads": float(one.floor.num_reads.mean()),
        "is_exact": one.reference.is_exact,
        "resolved": all(quality.states_resolved for quality in judged),
        "rows": rows(one),
        "devices": devices,
        "emulated": any(device["emulated"] for device in devices),
        "figures": figure_rows(one),
    }
