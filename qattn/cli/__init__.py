"""The command line."""

from qattn.cli._leave import leaving_at_once

__all__ = ["main"]


def main() -> None:
    """Run the command line; see :func:`qattn.cli.app.run`."""
    with leaving_at_once():
        from qattn.cli.app import run
    run()
