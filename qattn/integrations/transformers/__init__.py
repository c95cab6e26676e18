"""Boltzmann attention in models of Hugging Face transformers."""

__all__: list[str] = []
