"""Pictures of a run: learning curves, couplings, attention weights, β."""

from qattn.training.plots.attention import attention_weights, position_biases
from qattn.training.plots.beta import beta_paths
from qattn.training.plots.couplings import coupling_matrices, couplings_by_distance, lines
from qattn.training.plots.curves import learning_curves
from qattn.training.plots.run import plot_run

__all__ = [
    "attention_weights",
    "beta_paths",
    "coupling_matrices",
    "couplings_by_distance",
    "learning_curves",
    "lines",
    "plot_run",
    "position_biases",
]
