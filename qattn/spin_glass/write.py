"""The folder of a report: spin-glass.json, pictures, and one HTML page that holds all of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qattn.compare.page import Shown, write_sections
from qattn.spin_glass.figures import SHOWN, figures_of
from qattn.spin_glass.judged import ENOUGH, FAR_BELOW, SIGMA
from qattn.spin_glass.results import Section
from qattn.spin_glass.table import HEADINGS, references, table_rows

CAPTIONS = {
    "free_energy": "Free energy per spin. Left: the reference (lines) and weighted reads (dots). "
    "Middle: the variational bound F_q = ⟨E + ln q/β⟩ above the reference. Right: weighted reads, "
    "F_w = −ln ⟨e^(−βE)/q⟩/β. Bars: standard errors, those of the reference included.",
    "curves": "Energy, heat capacity and entropy per spin: the reference (lines) and weighted "
    "reads (dots, standard errors).",
    "overlaps": "Distribution of the overlap of two independent states: the reference (grey, ± one "
    "standard error) and pairs of the sampler's weighted reads. Noise: the distance that errors of "
    "both make on average.",
    "effective_reads": "Effective share of the reads, from the sampler's own reads (dashed) and "
    "from reads of the reference (solid). They are the same unless the sampler has lost a part of "
    "the distribution, whose share is on the right. Markers say what the reads are good for.",
}
"""By picture."""


def write_report(
    sections: Sequence[Section],
    folder: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    command: str = "",
    created: str = "",
) -> list[Path]:
    """Write spin-glass.json, pictures (PNG, SVG, PDF) and spin-glass.html; returns their paths.

    Args:
        sections: What was found.
        folder: The folder of the report; made if it is missing.
        settings: How it was found, for the page and the JSON.
        command: The command line that was called, for the report.
        created: Its date and time, for the report.
    """
    return write_sections(
        folder / "spin-glass.html",
        sections,
        _shown,
        package="qattn.spin_glass",
        settings=settings or {},
        command=command,
        created=created,
        far_below=FAR_BELOW,
        sigma=SIGMA,
        enough=ENOUGH,
    )


def _shown(section: Section) -> Shown:
    collapsed = [
        f"{beta:.3g}"
        for b, beta in enumerate(section.betas.tolist())
        if section.verdicts(b)["collapsed"]
    ]
    values = {
        "name": section.name,
        "sampler": section.sampler,
        "reference": references(section),
        "headings": HEADINGS,
        "rows": table_rows(section),
        "problems": len(section.ladders),
        "collapsed": collapsed,
        "drawn": min(SHOWN, len(section.ladders)),
    }
    return Shown(figures_of(section), CAPTIONS, values)
