"""Markov chains side by side: what they need, and what their energies say."""
