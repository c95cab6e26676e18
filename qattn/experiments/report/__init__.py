"""Reports of experiments."""

__all__: list[str] = []
