"""Where reads come from: backends, their registry, and bridges to and from dimod's samplers."""

from qattn.backends.base import Backend, BackendStopped, check_num_reads, drawn_seed
from qattn.backends.exact import ExactBackend
from qattn.backends.from_dimod import DimodBackend
from qattn.backends.options import Option, option
from qattn.backends.refine import RefinedBackend, refine
from qattn.backends.registry import (
    BackendInfo,
    available_backends,
    get_backend,
    options_of,
    register_backend,
)
from qattn.backends.spec import SamplerSpec, parse_sampler, parse_samplers
from qattn.backends.to_dimod import as_dimod_sampler
from qattn.backends.tree import TreeBackend

__all__ = [
    "Backend",
    "BackendInfo",
    "BackendStopped",
    "DimodBackend",
    "ExactBackend",
    "Option",
    "RefinedBackend",
    "SamplerSpec",
    "TreeBackend",
    "as_dimod_sampler",
    "available_backends",
    "check_num_reads",
    "drawn_seed",
    "get_backend",
    "option",
    "options_of",
    "parse_sampler",
    "parse_samplers",
    "refine",
    "register_backend",
]
