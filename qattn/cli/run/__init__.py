"""Commands on runs: text from one, its attention, lists and curves of several."""

__all__: list[str] = []
