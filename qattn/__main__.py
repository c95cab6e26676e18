"""``python -m qattn``: the command line."""

from qattn.cli.app import main

main()
