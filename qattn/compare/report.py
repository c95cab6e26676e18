"""The folder of a comparison: report.json, pictures, and one HTML file that holds all of it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from qattn.compare.figures.overview import energies_figure, summary_figure
from qattn.compare.figures.panels import moments_figure, temperatures_figure
from qattn.compare.figures.sweeps import sweep_plots
from qattn.compare.page import save_pictures, versions, write_page
from qattn.compare.results import Comparison, SamplerResult, SetResult, plain_info
from qattn.compare.table import COLUMNS, FIGURES, figure_rows, latex, table_rows
from qattn.compare.verdict import verdict
from qattn.quality import METRICS

CAPTIONS = {
    "summary": "Every figure over its noise floor (the value of the same number of independent "
    "exact reads of the same problems); grey bands: 68% and 95% of exact reads; bars: 95% "
    "intervals over problems. Points left of a band are not better than exact: a sampler that is "
    "too cold scatters over fewer states, and the estimate of a KL near zero is as often below as "
    "above.",
    "moments": "Magnetisations ⟨s⟩ and correlations ⟨ss⟩ of the reads against the reference, with "
    "the standard errors of independent reads; below, the differences over these errors (band: "
    "±2).",
    "energies": "Energies of all problems, each in its own exact standard deviations from its own "
    "exact mean; below, the difference, with standard errors of independent reads (a sampler "
    "that is far off leaves the frame).",
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
    """Write report.json, pictures (PNG, SVG, PDF), LaTeX tables, report.html; returns their paths.

    The part ``comparison`` of the JSON depends on problems, reads and seeds alone.

    Args:
        comparison: The results.
        folder: The folder of the report; made if it is missing.
        command: The command line that was called, for the report.
        created: Its date and time, for the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context: dict[str, Any] = {
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
        pictures, files = save_pictures(figures, folder, CAPTIONS, prefix)
        paths += [*files, folder / f"{prefix}table.tex"]
        paths[-1].write_text(latex(set_result), encoding="utf-8")
        sections.append(section(set_result) | {"pictures": pictures})
    paths.append(folder / "report.html")
    write_page(
        paths[-1],
        sections=sections,
        settings={k: v for k, v in vars(comparison.settings).items() if v not in ((), "", 0)}
        | {"seed": comparison.settings.seed},
        columns=COLUMNS,
        groups=[range(len(FIGURES) + 1), [0, *range(len(FIGURES) + 1, len(COLUMNS))]],
        metrics=METRICS,
        emulated=any(s["emulated"] for s in sections),
        **context,
    )
    return paths


def section(set_result: SetResult) -> dict[str, Any]:
    """Values that the template shows of a set of problems, without pictures."""
    devices = [
        vars(r)
        | {
            "info": plain_info(r.info),
            "emulated": bool(r.info.get("emulated")),
            "calibrated": _calibrated(r),
        }
        for r in set_result.results
    ]
    return {
        "name": set_result.name,
        "verdict": verdict(set_result),
        "problems": set_result.reference.num_problems,
        "spins": set_result.reference.batch.num_spins,
        "reads": float(set_result.floor.num_reads.mean()),
        "reference": set_result.reference.kind,
        "is_exact": set_result.reference.is_exact,
        "noise": reference_noise(set_result),
        "adrift": len(set_result.reference.not_in_equilibrium),
        "ordered": all(quality.order_resolved for quality in set_result.judged.values()),
        "resolved": all(quality.states_resolved for quality in set_result.judged.values()),
        "rows": table_rows(set_result),
        "devices": devices,
        "emulated": any(device["emulated"] for device in devices),
        "figures": figure_rows(set_result),
    }


def reference_noise(set_result: SetResult) -> dict[str, float] | None:
    """Errors of a reference that has some: over the noise floors, and of ln Z; else None."""
    reference, floor = set_result.reference, set_result.floor.values
    if reference.mean_error is None or reference.log_Z_error is None:
        return None
    assert reference.pairs_error is not None
    errors = {
        "mean_rms": reference.mean_error[reference.batch.active.expand_as(reference.batch.h)[:, 0]],
        "pair_rms": reference.pairs_error[reference.known_pairs],
    }
    noise = {
        name: float(error.square().mean().sqrt() / floor[name].square().nanmean().sqrt())
        for name, error in errors.items()
    }
    return noise | {"log_Z": float(reference.log_Z_error.max())}


def _calibrated(result: SamplerResult) -> str:
    """Date of the calibration that a sampler used, from the age that it reported; "" if unknown."""
    hours = result.info.get("calibration_age_hours")
    if hours is None:
        return ""
    return f"{datetime.now(UTC) - timedelta(hours=float(hours)):%Y-%m-%d %H:%M} UTC"
