"""Spin glasses over a ladder of temperatures, drawn autoregressively and judged by a reference."""

__all__: list[str] = []
