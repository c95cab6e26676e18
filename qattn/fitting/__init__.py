"""Fitting autoregressive samplers to a problem or to a family of problems."""

__all__: list[str] = []
