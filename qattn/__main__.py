"""``python -m qattn``: the command line."""

from qattn.cli import main

main()
