"""Fitting autoregressive samplers to a problem or to a family of problems.

::

    config = FitConfig(problems="sk:spins=50,problems=1", beta=2.0, seconds=60.0)
    summary = fit_sampler(config, Path("runs/glass"))
    summary["F_q"], summary["ess"]
    get_backend("autoregressive", checkpoint="runs/glass")

:class:`Fit` is the same without a folder, step by step.
"""

from qattn.fitting.config import FitConfig, FitFolder
from qattn.fitting.fit import Fit, Step
from qattn.fitting.measure import Figures, measure, reference_for
from qattn.fitting.plots import plot_fit
from qattn.fitting.run import fit_sampler
from qattn.fitting.schedule import Schedule
from qattn.fitting.settings import FitSettings

__all__ = [
    "Figures",
    "Fit",
    "FitConfig",
    "FitFolder",
    "FitSettings",
    "Schedule",
    "Step",
    "fit_sampler",
    "measure",
    "plot_fit",
    "reference_for",
]
