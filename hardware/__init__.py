"""D-Wave quantum processors: nothing here yet."""
