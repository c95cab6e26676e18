"""The command line."""

from qattn.cli.app import main

__all__ = ["main"]
