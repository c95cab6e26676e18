"""Curves against temperature as a table, pictures and a page: the library of ``qattn thermo``."""

from qattn.thermo_report.measure import thermo_of_problems, thermo_of_run
from qattn.thermo_report.queries import LayerQueries, queries_of_run
from qattn.thermo_report.results import Average, Section, System
from qattn.thermo_report.write import write_report

__all__ = [
    "Average",
    "LayerQueries",
    "Section",
    "System",
    "queries_of_run",
    "thermo_of_problems",
    "thermo_of_run",
    "write_report",
]
