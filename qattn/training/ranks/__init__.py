"""A training in several processes: members of an ensemble, or parts of a batch, over ranks."""

__all__: list[str] = []
