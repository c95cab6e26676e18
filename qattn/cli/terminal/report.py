"""What commands that write a report have in common: how they were called, and how they end."""

import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, RenderableType


def called() -> dict[str, str]:
    """The command line, and its date and time, as reports take them."""
    return {
        "command": shlex.join(["qattn", *sys.argv[1:]]),
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def show(
    console: Console, paths: Sequence[Path], tables: Iterable[RenderableType], *, as_json: bool
) -> None:
    """Print a report's JSON, or its tables and where it lies.

    Args:
        console: Where tables go.
        paths: Its files; the first is the JSON, the last the page.
        tables: Its tables.
        as_json: Print the JSON alone.
    """
    if as_json:
        print(paths[0].read_text(encoding="utf-8"), end="")
        return
    for table in tables:
        console.print(table)
    console.print(f"{paths[0]}\n{paths[-1]}", highlight=False, soft_wrap=True)
