r"""Boltzmann attention as a function: the counterpart of ``F.scaled_dot_product_attention``."""

from qattn.attention.function import boltzmann_attention, boltzmann_weights

__all__ = ["boltzmann_attention", "boltzmann_weights"]
