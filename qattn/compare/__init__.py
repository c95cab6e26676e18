"""Samplers side by side on sets of problems: the library behind ``qattn compare``."""

from qattn.backends.spec import SamplerSpec, parse_samplers
from qattn.compare.results import (
    CompareSettings,
    Comparison,
    SamplerResult,
    SetResult,
    SweepPoint,
)
from qattn.compare.run import compare

__all__ = [
    "CompareSettings",
    "Comparison",
    "SamplerResult",
    "SamplerSpec",
    "SetResult",
    "SweepPoint",
    "compare",
    "parse_samplers",
]
