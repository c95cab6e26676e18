"""Mean-field moments of Ising models, each with an estimate of its error."""

__all__: list[str] = []
