"""Conditionals from tables: exact ones of the spins that are drawn last, truncated ones before."""

from qattn.simulators.autoregressive.tables.exact import Tables, narrowed, num_entries
from qattn.simulators.autoregressive.tables.logit import TruncatedTables

__all__ = ["Tables", "TruncatedTables", "narrowed", "num_entries"]
