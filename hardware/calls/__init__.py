"""A call of a QPU backend: planned, run, recorded, collected, followed."""
