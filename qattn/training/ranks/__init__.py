"""A training in several processes: members of an ensemble, or parts of a batch, over ranks."""

from qattn.training.ranks.errors import RankLost
from qattn.training.ranks.processes import Ranks, joined
from qattn.training.ranks.share import BatchShare, Share, share_of

__all__ = ["BatchShare", "RankLost", "Ranks", "Share", "joined", "share_of"]
