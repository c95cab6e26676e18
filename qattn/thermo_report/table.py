"""The report as tables: the same rows for the terminal and for the page."""

from rich import box
from rich.table import Table

from qattn.thermo_report.quantities import EXTENSIVE
from qattn.thermo_report.results import Section, System
from qattn.thermodynamics import CriticalBeta

SHORT = {
    "heat_capacity": "β_c (C)",
    "susceptibility": "β_c (χ)",
    "spin_glass_susceptibility": "β_c (χ_SG)",
}
"""Headings of the peaks."""


def table_rows(section: Section) -> list[list[str]]:
    """Headings, then a row of texts for each system, the layers' last."""
    peaks = [name for name in SHORT if name in section.systems[0].critical]
    attended = section.systems[0].attended is not None
    headings = ["", "n", *EXTENSIVE.values(), *[SHORT[name] for name in peaks]]
    rows = [headings + (["k 0.9", "avg/clu/ret %"] if attended else [])]
    for system in [*section.systems, *section.together]:
        row = [system.name, sizes(system)]
        row += [f"{system.at_work[name]:.4g}" for name in EXTENSIVE]
        row += [peak(system.critical.get(name)) for name in peaks]
        if attended:
            row += ["" if system.attended is None else f"{system.attended:g}", shares(system)]
        rows.append(row)
    return rows


def table(section: Section) -> Table:
    """The main figures for a terminal of 80 columns."""
    headings, *rows = table_rows(section)
    shown = Table(
        title=section.name,
        caption="F, U, S, C: free energy, energy, entropy, heat capacity of a query at the working "
        "point β = 1\n(means over queries). β_c: the place of a peak, with its standard error;\n"
        "–: no peak inside the range.",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for number, heading in enumerate(headings):
        shown.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    return shown


def sizes(system: System) -> str:
    """Number of spins or positions, or the smallest and the largest one."""
    return "–".join(map(str, dict.fromkeys(system.sizes)))


def peak(critical: CriticalBeta | None) -> str:
    """A critical β with its standard error."""
    if critical is None:
        return ""
    return "–" if critical.at_edge else f"{critical.value:.2f}±{critical.standard_error:.2f}"


def shares(system: System) -> str:
    """The share of each regime in per cent."""
    return "/".join(f"{100 * share:.0f}" for share in system.regimes.values())
