"""Local samplers: Markov chains, autoregressive samplers, and quantum annealing with schedules."""

from typing import TYPE_CHECKING

from qattn._lazy import lazy

if TYPE_CHECKING:
    from qattn.simulators.autoregressive.backend import (
        AutoregressiveBackend as AutoregressiveBackend,
    )
    from qattn.simulators.autoregressive.backend import EssWarning as EssWarning
    from qattn.simulators.calibration.calibrate import calibrate_simulator as calibrate_simulator
    from qattn.simulators.calibration.calibrate import uniform_divergence as uniform_divergence
    from qattn.simulators.calibration.calibration_file import (
        SimulatorCalibration as SimulatorCalibration,
    )
    from qattn.simulators.calibration.calibration_file import SimulatorPoint as SimulatorPoint
    from qattn.simulators.diabatic import DiabaticBackend as DiabaticBackend
    from qattn.simulators.effective_beta import effective_betas as effective_betas
    from qattn.simulators.effective_beta import plot_schedule as plot_schedule
    from qattn.simulators.gibbs import GibbsBackend as GibbsBackend
    from qattn.simulators.neal import NealBackend as NealBackend
    from qattn.simulators.quantum_annealing import DivergenceWarning as DivergenceWarning
    from qattn.simulators.qutip_backend import QutipBackend as QutipBackend
    from qattn.simulators.schedules import AnnealSchedule as AnnealSchedule
    from qattn.simulators.schedules import get_schedule as get_schedule

__getattr__, __all__ = lazy(__name__, __file__)
