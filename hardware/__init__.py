"""D-Wave quantum processors: nothing here yet; the QPU backend is being built."""
