"""One page that shows the attention of a trained model on a text."""

__all__: list[str] = []
