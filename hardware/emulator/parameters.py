"""The solver parameters that D-Wave's annealers publish, with their descriptions."""

PARAMETERS = {
    "anneal_offsets": "Anneal offsets for all qubits, in normalized offset units.",
    "anneal_schedule": "Piecewise-linear anneal schedule: pairs of time (µs) and fraction s.",
    "annealing_time": "Duration of one anneal in microseconds.",
    "answer_mode": "Form of the answer: 'histogram' or 'raw'.",
    "auto_scale": "Whether h and J are rescaled to the available range; on by default.",
    "fast_anneal": "Whether the fast-anneal protocol is used.",
    "flux_biases": "Flux-bias offsets for all qubits, in units of Φ0.",
    "flux_drift_compensation": "Whether flux drift is compensated for; on by default.",
    "h_gain_schedule": "Piecewise-linear gain of h: pairs of time (µs) and gain.",
    "initial_state": "Initial states for reverse anneals, for all qubits.",
    "max_answers": "Largest number of answers that are returned.",
    "num_reads": "Number of reads.",
    "programming_thermalization": "Wait after programming in microseconds.",
    "readout_thermalization": "Wait after each read in microseconds.",
    "reduce_intersample_correlation": "Whether a pause is added between reads.",
    "reinitialize_state": "Whether reverse anneals start each read from the initial state.",
}
"""Name and description of each parameter."""

NOT_EMULATED = {
    "anneal_offsets": "anneal offsets",
    "h_gain_schedule": "a time-dependent gain of h",
    "initial_state": "reverse anneals",
}
"""Parameters that the real processors take and the emulator's physics has no model for."""
