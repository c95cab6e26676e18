"""Curves against temperature as a table, pictures and a page."""

__all__: list[str] = []
