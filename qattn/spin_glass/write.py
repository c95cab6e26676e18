"""The folder of a report: spin-glass.json, pictures, and one HTML page that holds all of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qattn.compare.page import save_pictures, versions, write_page
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
    folder.mkdir(parents=True, exist_ok=True)
    context = {"command": command, "created": created, "versions": versions()}
    paths = [folder / "spin-glass.json"]
    data = {
        "settings": dict(settings or {}),
        "sections": [section.to_dict() for section in sections],
        "context": context,
    }
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    paths[0].write_text(text + "\n", encoding="utf-8")
    shown = []
    for number, section in enumerate(sections):
        prefix = "" if len(sections) == 1 else f"{number + 1}_"
        pictures, files = save_pictures(figures_of(section), folder, CAPTIONS, prefix)
        paths += files
        shown.append(
            {
                "name": section.name,
                "sampler": section.sampler,
                "reference": references(section),
                "headings": HEADINGS,
                "rows": table_rows(section),
                "problems": len(section.ladders),
                "collapsed": [
                    f"{beta:.3g}"
                    for b, beta in enumerate(section.betas.tolist())
                    if section.verdicts(b)["collapsed"]
                ],
                "drawn": min(SHOWN, len(section.ladders)),
                "pictures": pictures,
            }
        )
    paths.append(folder / "spin-glass.html")
    write_page(
        paths[-1],
        package="qattn.spin_glass",
        sections=shown,
        settings=dict(settings or {}),
        far_below=FAR_BELOW,
        sigma=SIGMA,
        enough=ENOUGH,
        emulated=False,
        **context,
    )
    return paths
