"""Spin glasses over a ladder of temperatures, drawn autoregressively and judged by a reference.

The library of ``qattn spin-glass``.
"""

from qattn.spin_glass.figures import figures_of
from qattn.spin_glass.judged import Judged, judge
from qattn.spin_glass.measure import spin_glass
from qattn.spin_glass.nets import Nets, fitted, of_checkpoints, untrained
from qattn.spin_glass.reference import LadderReference, ladder_reference
from qattn.spin_glass.results import Ladder, Overlap, Section
from qattn.spin_glass.write import write_report

__all__ = [
    "Judged",
    "Ladder",
    "LadderReference",
    "Nets",
    "Overlap",
    "Section",
    "figures_of",
    "fitted",
    "judge",
    "ladder_reference",
    "of_checkpoints",
    "spin_glass",
    "untrained",
    "write_report",
]
