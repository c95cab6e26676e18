"""``qattn backends``: what can draw reads here."""

from rich.console import Console
from rich.table import Table

from qattn.backends import available_backends


def backends() -> None:
    """List the backends: what each is, and whether it can run here."""
    table = Table("name", "what it is", "runs here", "what is missing")
    for info in available_backends():
        runs = "yes" if info.available else "no"
        table.add_row(info.name, info.description, runs, info.missing or "")
    Console().print(table)
