"""``qattn backends``: what can draw reads here."""

import json as json_format
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from qattn.backends import available_backends
from qattn.backends.registry import BackendInfo


def backends(
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the backends: what each is, and whether it can run here."""
    found = [_with_credentials(info) for info in available_backends()]
    if json:
        print(json_format.dumps([asdict(info) for info in found], indent=2, ensure_ascii=False))
        return
    missing = any(info.missing for info in found)
    table = Table("name", "what it is", "runs here", *["what is missing"] * missing)
    for info in found:
        runs = "yes" if info.available else "no"
        table.add_row(info.name, info.description, runs, *[info.missing or ""] * missing)
    Console().print(table)


def _with_credentials(info: BackendInfo) -> BackendInfo:
    """A QPU needs a token too, which an option can name: its backend can be made without one."""
    from qattn.hardware.service import NoCredentialsError, resolve

    try:
        if info.name == "dwave" and info.available:
            resolve()
    except NoCredentialsError:
        return replace(info, available=False, missing="an API token: see `qattn doctor`")
    except (ValueError, OSError) as error:
        return replace(info, available=False, missing=str(error))
    return info
