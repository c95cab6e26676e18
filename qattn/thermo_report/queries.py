"""Queries of a trained run, layer by layer and head by head."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.couplings import Banded, Couplings
from qattn.ising.batch import IsingBatch
from qattn.layers import BoltzmannAttention, SigmoidAttention
from qattn.training.trained_run import load
from qattn.transformer.model import Block

SEQUENCES = 8
"""Validation sequences whose queries are taken."""

POSITIONS = 4
"""Queries of each of them, from the fourth position to the last one, at even distances."""


@dataclass(frozen=True, eq=False)
class LayerQueries:
    """The same queries in every head of a layer, in float64.

    Attributes:
        scores: Those of each head times its β, -∞ at positions that a query does not see.
        weights: The attention weights.
        batch: The Ising models; None where the states of a query are the positions (softmax).
        heads: The head of each group of `batch`; couplings that depend on the input make each head
            of each sequence a group.
    """

    scores: Float[Tensor, "heads queries positions"]
    weights: Float[Tensor, "heads queries positions"]
    batch: IsingBatch | None
    heads: Int[Tensor, " groups"]


@torch.no_grad()
def queries_of_run(
    folder: Path,
    *,
    sequences: int = SEQUENCES,
    positions: int = POSITIONS,
    member: int = 0,
    seed: int = 0,
) -> list[LayerQueries]:
    """Queries of each layer of a trained run, on random sequences of its validation set.

    The first three, which see too few positions to have a regime, are left out.

    Args:
        folder: The run's folder.
        sequences: Number of sequences.
        positions: Number of queries of each.
        member: Which seed of an ensemble.
        seed: Seed of the choice of sequences.

    Raises:
        FileNotFoundError: The folder is not one of a run, or it has no checkpoint.
        ValueError: A number is not positive, or there is no such member.
    """
    for name, number in (("sequences", sequences), ("positions", positions)):
        if number < 1:
            raise ValueError(f"Argument `{name}` must be positive, but is {number}.")
    model, task = load(folder, member=member)
    words, _ = task.validation()
    generator = torch.Generator().manual_seed(seed)
    words = words[torch.randint(len(words), (sequences,), generator=generator)]
    T = words.shape[1]
    chosen = torch.linspace(min(3, T - 1), T - 1, positions).round().long().unique()
    batches = iter(model.ising_batches(words))
    layers = []
    weights = model.attention_weights(words)
    blocks = cast("list[Block]", model.blocks)
    for block, score, weight in zip(blocks, model.scores(words), weights, strict=True):
        heads = torch.arange(score.shape[1])
        scores, each = (x[:, :, chosen].double().transpose(0, 1) for x in (score, weight))
        scores = scores * torch.as_tensor(block.attention.beta).reshape(-1, 1, 1, 1)
        batch = None
        if isinstance(block.attention, BoltzmannAttention):
            batch = _at(next(batches), chosen, T)
            heads = heads.repeat(batch.num_groups // len(heads))
        elif isinstance(block.attention, SigmoidAttention):
            # Spins without interaction, each with half its score for a field.
            h = scores.flatten(1, 2) / 2
            lengths = h.isfinite().sum(-1)
            h = h.masked_fill(h.isinf(), 0.0)
            batch = IsingBatch(h, Banded(h.new_zeros(len(h), h.shape[2], 0)), lengths)
        layers.append(LayerQueries(scores.flatten(1, 2), each.flatten(1, 2), batch, heads))
    return layers


def _at(batch: IsingBatch, positions: Int[Tensor, " chosen"], context: int) -> IsingBatch:
    """The models of queries at these positions; queries of a group are ordered by position."""
    sequences = torch.arange(batch.num_queries // context)
    # By sequence, then by position, as scores and weights are.
    chosen = (positions * len(sequences) + sequences[:, None]).flatten()
    lengths = torch.from_numpy(batch.num_active[:, chosen].copy())
    J = batch.J.to(torch.float64) if isinstance(batch.J, Couplings) else batch.J.double()
    return IsingBatch(batch.h[:, chosen].double(), J, lengths, batch.beta)
