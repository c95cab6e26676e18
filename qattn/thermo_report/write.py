"""The folder of a report: thermo.json, pictures, and one HTML page that holds all of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qattn.compare.page import Shown, write_sections
from qattn.thermo_report.curves_figure import correlations_figure, curves_figure
from qattn.thermo_report.results import Section
from qattn.thermo_report.run_figures import regimes_figure, working_point_figure
from qattn.thermo_report.table import counts, table_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTIONS = {
    "curves": "Means over queries against β, in units of the system's own: the black line at β = 1 "
    "is the working point. Bands: quartiles over queries; bars: standard errors of reads, where "
    "values are not exact. Dots: peaks, with the standard error of their place; a curve without a "
    "dot has no peak inside the range.",
    "correlations": "Connected correlations at the working point, averaged over pairs at a "
    "distance and over queries; bands: quartiles over queries.",
    "working_point": "Where each head's peaks lie, and where the head works: above the black line, "
    "the head is on the disordered side of its peak. Bars: standard errors; open triangles: no "
    "peak inside the range, the curve is highest at its end.",
    "regimes": "Left: the least number k of positions that hold 0.9 of a query's weight, median "
    "over queries. Right: shares of queries whose k is near the number of positions (averaging), "
    "near 1 (retrieval), or between (clustered).",
}
"""By picture."""

WITHOUT = {
    "curves": " Grey dashes: all queries of the layer without couplings. Independent spins in "
    "fields have a peak too (Schottky's), and no transition.",
    "working_point": " Dashes: without couplings.",
}
"""What is said in addition where a layer's queries also stand without couplings."""


def figures_of(section: Section) -> dict[str, "Figure"]:
    """The pictures of a section by name."""
    figures = {"curves": curves_figure(section)}
    if any(system.correlations is not None for system in section.systems):
        figures["correlations"] = correlations_figure(section)
    if section.together:
        figures["working_point"] = working_point_figure(section)
        figures["regimes"] = regimes_figure(section)
    return figures


def write_report(
    sections: Sequence[Section],
    folder: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    command: str = "",
    created: str = "",
) -> list[Path]:
    """Write thermo.json, pictures (PNG, SVG, PDF) and thermo.html; returns their paths.

    Args:
        sections: What was found.
        folder: The folder of the report; made if it is missing.
        settings: How it was found, for the page and the JSON.
        command: The command line that was called, for the report.
        created: Its date and time, for the report.
    """
    return write_sections(
        folder / "thermo.html",
        sections,
        _shown,
        package="qattn.thermo_report",
        settings=settings or {},
        command=command,
        created=created,
    )


def _shown(section: Section) -> Shown:
    added = WITHOUT if section.uncoupled else {}
    values = {
        "name": section.name,
        "rows": table_rows(section),
        "counts": counts(section),
        "softmax": section.systems[0].kind == "softmax",
        "together": bool(section.together),
        "methods": list(dict.fromkeys(system.method for system in section.systems)),
    }
    captions = {name: text + added.get(name, "") for name, text in CAPTIONS.items()}
    return Shown(figures_of(section), captions, values)
