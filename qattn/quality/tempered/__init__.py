"""The reference of problems that are neither small nor sparse: long parallel tempering."""

from qattn.quality.tempered.reference import tempered_reference

__all__ = ["tempered_reference"]
