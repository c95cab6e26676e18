"""The figures of experiments, each drawn from results alone."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from qattn.experiments.figures.along_settings import biases, rates
from qattn.experiments.figures.composite import composite
from qattn.experiments.figures.couplings_map import couplings_map
from qattn.experiments.figures.curves import differences, learning_curves
from qattn.experiments.figures.dominance import dominance
from qattn.experiments.figures.outputs import outputs
from qattn.experiments.figures.reads import reads
from qattn.experiments.figures.regimes import regimes
from qattn.experiments.figures.scales import beta_path, scales
from qattn.experiments.figures.scaling import scaling
from qattn.experiments.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CAPTIONS", "FIGURES", "draw"]

FIGURES: dict[str, Callable[[Results], "Figure | None"]] = {
    "curves": learning_curves,
    "differences": differences,
    "couplings-map": couplings_map,
    "scaling": scaling,
    "outputs": outputs,
    "reads": reads,
    "rates": rates,
    "bias": biases,
    "scales": scales,
    "beta-path": beta_path,
    "dominance": dominance,
    "regimes": regimes,
    "composite": composite,
}
"""The figures by the names that an experiment's file gives."""

CAPTIONS = {
    "curves": "Learning curves on the validation set: mean over seeds, in a band of one standard "
    "deviation.",
    "differences": "How much better each arm ends than the first one with the same seeds: a dot "
    "for each seed, their mean and its 95% interval. Right of the line the arm is better.",
    "couplings-map": "Learned couplings averaged over seeds and heads, for each layer; and their "
    "mean over layers by the distance of two positions, with 95% intervals over seeds. Grey: "
    "distances 2 to 4, and 6 and more.",
    "scaling": "Left: the end against the length T, with 95% intervals over seeds, and fits. "
    "Right: the gain over the first arm with the same seeds.",
    "outputs": "Probabilities that models give where a bracket closes: means over validation "
    "words, with 95% intervals over seeds. Below: the whole distribution at every position of one "
    "word, averaged over seeds.",
    "reads": "Left: the end against the number of reads, with 95% intervals over seeds. Right: how "
    "far the gradient of a step was from the exact one on the same batch; wider lines have more "
    "reads.",
    "rates": "The end against the learning rate, with 95% intervals over seeds; rings: each arm's "
    "best.",
    "bias": "Every arm with every bias of position: a dot for each seed, their mean and its 95% "
    "interval.",
    "scales": "Loss at the end, and its mean over the evaluations, against the scale of attention, "
    "with 95% intervals over seeds. Arms whose β is not fixed stand where it ended.",
    "beta-path": "β of each head along the training: mean over seeds, in a band of one standard "
    "deviation. Triangles: the critical β of the head before and after training, where there is "
    "one.",
    "dominance": "Heat capacity and largest weight of each head against β, means over seeds; "
    "ticks: the peaks of all seeds. Right: predictions of the peak, a dot for each head and seed.",
    "regimes": "Shares of queries that average, hold some positions, or retrieve one: means over "
    "seeds for each head, and for the layer before training. Above the bars: the median number of "
    "positions that hold 0.9 of the weight, of queries that see all.",
    "composite": "Size of the correlations over inputs of the energies of all heads, averaged over "
    "seeds; lines part the layers.",
}
"""What each of them shows."""


def draw(results: Results) -> dict[str, "Figure"]:
    """The figures that an experiment asks for and whose trainings are there, by name."""
    drawn = {name: FIGURES[name](results) for name in results.definition.get("figures", ())}
    return {name: figure for name, figure in drawn.items() if figure is not None}
