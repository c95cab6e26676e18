"""Schrödinger's equation of many anneals at once, as state vectors, by splitting."""
