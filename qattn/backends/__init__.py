"""Where reads come from: backends, their registry, and bridges to and from dimod's samplers."""

from qattn.backends.base import Backend, SamplerStopped
from qattn.backends.exact import ExactBackend
from qattn.backends.from_dimod import DimodBackend
from qattn.backends.refine import RefinedBackend, refine
from qattn.backends.registry import (
    BackendInfo,
    available_backends,
    get_backend,
    register_backend,
)
from qattn.backends.to_dimod import as_dimod_sampler

__all__ = [
    "Backend",
    "BackendInfo",
    "DimodBackend",
    "ExactBackend",
    "RefinedBackend",
    "SamplerStopped",
    "as_dimod_sampler",
    "available_backends",
    "get_backend",
    "refine",
    "register_backend",
]
