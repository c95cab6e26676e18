"""``qattn experiment``: experiments from one command each."""

__all__: list[str] = []
