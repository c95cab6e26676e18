"""Effective temperatures of simulated anneals, fitted to their output."""

__all__: list[str] = []
