"""The report as tables: the same rows for the terminal and for the page."""

from rich import box
from rich.console import JustifyMethod
from rich.table import Table

from qattn.thermo_report.quantities import EXTENSIVE
from qattn.thermo_report.results import Section, System
from qattn.thermodynamics import CriticalBeta

PEAKS = {
    "heat_capacity": "C",
    "susceptibility": "χ",
    "spin_glass_susceptibility": "χ_SG",
    "cross_susceptibility": "χ_j≠k",
}
"""What the headings of peaks call their quantities."""


def table_rows(section: Section, *, brief: bool = False) -> list[list[str]]:
    """Headings, then a row of texts for each system, the layers' last.

    Args:
        section: The systems.
        brief: Fewer digits, peaks without their standard errors, and no n, which a title has.
    """
    digits = 3 if brief else 4
    peaks = [name for name in section.drawn if name in section.systems[0].critical]
    attended = section.systems[0].attended is not None
    headings = ["head" if section.together else "problems"]
    headings += [*([] if brief else ["n"]), *EXTENSIVE.values()]
    headings += [f"{'' if brief and i else 'β_c '}({PEAKS[name]})" for i, name in enumerate(peaks)]
    rows = [headings + (["k 0.9", "a/c/r %"] if attended else [])]
    for system in [*section.systems, *section.uncoupled, *section.together]:
        row = [system.name, *([] if brief else [sizes(system)])]
        row += [f"{system.at_work[name]:.{digits}g}" for name in EXTENSIVE]
        row += [peak(system.critical.get(name), brief=brief) for name in peaks]
        if attended:
            row += ["" if system.attended is None else f"{system.attended:g}", shares(system)]
        rows.append(row)
    return rows


def table(section: Section) -> Table:
    """The main figures for a terminal of 80 columns."""
    headings, *rows = table_rows(section, brief=True)
    shown = Table(
        title=f"{section.name}\n{counts(section)}",
        caption="F, U, S, C: free energy, energy, entropy, heat capacity of a query at the\n"
        "working point β = 1 (means over queries). β_c: place of a peak;\n"
        "–: no peak inside the range. Standard errors are in the report."
        + (
            "\nk 0.9: median number of positions with 0.9 of the weight;"
            "\na/c/r: averaging/clustered/retrieval."
            if section.together
            else ""
        ),
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for number, heading in enumerate(headings):
        justify: JustifyMethod = "right" if number else "left"
        width = min(24, max(len(row[0]) for row in rows)) if number == 0 else None
        shown.add_column(heading, justify=justify, overflow="fold", min_width=width)
    for row in rows:
        shown.add_row(*row)
    return shown


def counts(section: Section) -> str:
    """Numbers of queries and of spins or positions."""
    systems = section.systems
    queries, spins = (
        "–".join(map(str, dict.fromkeys((min(numbers), max(numbers)))))
        for numbers in (
            [system.num_queries for system in systems],
            [size for system in systems for size in system.sizes],
        )
    )
    unit = "spins" if systems[0].kind == "ising" else "positions"
    each = "head" if section.together else "set"
    return f"{queries} queries of each {each}, of {spins} {unit}"


def sizes(system: System) -> str:
    """Number of spins or positions, or the smallest and the largest one."""
    return "–".join(map(str, dict.fromkeys(system.sizes)))


def peak(critical: CriticalBeta | None, *, brief: bool = False) -> str:
    """A critical β with its standard error."""
    if critical is None:
        return ""
    if critical.at_edge:
        return "–"
    return f"{critical.value:.2f}" + ("" if brief else f" ± {critical.standard_error:.2f}")


def shares(system: System) -> str:
    """The share of each regime in per cent."""
    return "/".join(f"{100 * share:.0f}" for share in system.regimes.values())
