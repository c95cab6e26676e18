"""Local samplers: nothing here yet; the simulated annealers are being built."""
