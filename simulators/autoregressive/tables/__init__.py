"""Conditionals from tables: exact ones of the spins that are drawn last."""

from qattn.simulators.autoregressive.tables.exact import Tables, narrowed, num_entries

__all__ = ["Tables", "narrowed", "num_entries"]
