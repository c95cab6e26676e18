"""Several runs at once: what is in a folder of runs, and their curves over each other."""

from qattn.training.runs.entry import RunEntry, find_runs, read_entry
from qattn.training.runs.overlay import overlay

__all__ = ["RunEntry", "find_runs", "overlay", "read_entry"]
