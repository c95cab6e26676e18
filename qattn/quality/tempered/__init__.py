"""The reference of problems that are neither small nor sparse: long parallel tempering."""

from qattn.quality.tempered.reference import TEMPERING_SWEEPS, tempered_reference

__all__ = ["TEMPERING_SWEEPS", "tempered_reference"]
