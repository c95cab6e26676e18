"""Ising models and attention as thermodynamic systems: their quantities against temperature."""

__all__: list[str] = []
