"""A transformer that adds to the logits of an autoregressive sampler."""

__all__: list[str] = []
