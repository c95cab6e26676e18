"""Samplers side by side on sets of problems: the library behind ``qattn compare``."""

from qattn.compare.results import CompareSettings, Comparison, SamplerResult, SetResult
from qattn.compare.runner import compare
from qattn.compare.samplers import SamplerSpec, parse_samplers

__all__ = [
    "CompareSettings",
    "Comparison",
    "SamplerResult",
    "SamplerSpec",
    "SetResult",
    "compare",
    "parse_samplers",
]
