r"""How good reads are: figures of merit against exact Boltzmann, each beside its noise floor.

::

    reads = backend.sample(batch, num_reads=1000, seed=0)
    quality = qattn.quality.judge(reads, batch)
    quality.scores["mean_rms"].ratio  # 1 for a sampler as good as exact
    quality.betas.interval()  # of β_h and of β_J

Problems of up to 20 spins are compared with exact enumeration, larger sparse ones with exact values
by tree decomposition; others with a long run of parallel tempering and its error bars, without the
distances over states (``quality.is_exact`` is then False). :data:`METRICS` says what each figure
is.
"""

from qattn.chains import Equilibrium, EquilibriumWarning, equilibrium
from qattn.quality.autocorrelation import autocorrelation, integrated_time
from qattn.quality.choose_reference import reference_of
from qattn.quality.energy import EnergyDistribution
from qattn.quality.judge import judge, noise_floor
from qattn.quality.metrics import METRICS, Metric, measure
from qattn.quality.reference import Reference
from qattn.quality.scores import Floor, Quality, Score, over_problems

__all__ = [
    "METRICS",
    "EnergyDistribution",
    "Equilibrium",
    "EquilibriumWarning",
    "Floor",
    "Metric",
    "Quality",
    "Reference",
    "Score",
    "autocorrelation",
    "equilibrium",
    "integrated_time",
    "judge",
    "measure",
    "noise_floor",
    "over_problems",
    "reference_of",
]
