"""Use inside other libraries: Hugging Face transformers, and trackers of experiments."""

__all__: list[str] = []
