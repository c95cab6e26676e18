"""The command line."""

from qattn.cli.terminal.leave import leaving_at_once

__all__ = ["main"]


def main() -> None:
    """Run the command line; see :func:`qattn.cli.app.main`."""
    with leaving_at_once():
        from qattn.cli import app
    app.main()
