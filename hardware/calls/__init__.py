"""A call of a QPU backend: planned, run, recorded, collected, followed."""

from qattn.hardware.calls.runner import JobRefused, RetryPolicy, SolverOffline

__all__ = ["JobRefused", "RetryPolicy", "SolverOffline"]
