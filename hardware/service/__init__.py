"""D-Wave's service: credentials, the solver, its API, and the ceiling on what may be spent."""
