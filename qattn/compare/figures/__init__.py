"""The pictures of a comparison of samplers."""

__all__: list[str] = []
