"""Checks of the D-Wave set-up, and the cost of a training, before anything is paid for."""

from qattn.hardware.doctor.checks import diagnose
from qattn.hardware.doctor.cost import StepCost, Workload, step_cost
from qattn.hardware.doctor.setup_checks import Check

__all__ = ["Check", "StepCost", "Workload", "diagnose", "step_cost"]
