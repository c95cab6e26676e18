"""D-Wave's service: who we are, which solver, and what may be spent."""
