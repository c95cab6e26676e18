"""Couplings that were learned: by distance, as a map, and how far they scatter."""

from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn.couplings import Banded, Block, Couplings
from qattn.experiments.measures.members import compact, members, untrained
from qattn.layers import MultiheadAttention
from qattn.layers.position_bias import position_bias
from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder
from qattn.transformer import Transformer

LARGEST_MAP = 64
"""Number of positions up to which the map of couplings is kept."""

SEQUENCES = 16
"""Validation sequences over which couplings that depend on the input are averaged."""


@torch.no_grad()
def couplings(config: TrainConfig, run: RunFolder) -> dict[str, Any]:
    r"""Couplings J at the end and at the start, and the bias of position where there is one.

    .. math::
        \bar J(d) = \frac{1}{T - d} \sum_{j = d}^{T - 1} J_{j,j-d}

    Args:
        config: Settings of the run.
        run: Its folder.

    Returns:
        Of an arm whose couplings are matrices, with pairs outside of a band or block left out,

        - ``by_distance``: J̄(d) averaged over layers and heads, [member][d - 1];
        - ``by_distance_of_layers``: averaged over heads, [layer][member][d - 1];
        - ``sd``: standard deviation of J_jk over pairs and heads, [member][layer];
        - the same before the first step, ending in ``_at_start``;
        - ``map``: J averaged over members and heads, [layer][T][T], for T up to 64.

        Of an arm with a bias of position, relative or absolute, ``position_bias``: its mean over
        layers, heads and the pairs of query and key at each distance, [member][distance].
    """
    ends, starts, biases = [], [], []
    pairs = torch.ones(config.context, config.context).tril(-1).bool()
    for member, (model, task) in enumerate(members(config, run)):
        tokens = task.validation()[0][: SEQUENCES if config.content else 1]
        if config.structure is not None and config.has_matrix:
            first = untrained(config, member, task)
            ends.append(matrices(model, tokens))
            starts.append(matrices(first, tokens))
            pairs &= coupled(model.couplings(tokens)[0])
        if config.position_bias != "none":
            biases.append(bias_by_distance(model, config.context))
    found: dict[str, Any] = {}
    for when, layers in {"": ends, "_at_start": starts}.items():
        if layers:
            J = torch.stack(layers)  # (members, layers, groups, T, T)
            profiles = by_distance(J.mean(2), pairs)
            found[f"by_distance{when}"] = compact(profiles.mean(1))
            found[f"by_distance_of_layers{when}"] = compact(profiles.transpose(0, 1))
            found[f"sd{when}"] = compact(J[..., pairs].flatten(2).std(2))
            if config.context <= LARGEST_MAP and not when:
                found["map"] = compact(J.mean((0, 2)))
    if biases:
        found["position_bias"] = compact(torch.stack(biases))
    return found


def matrices(model: Transformer, tokens: Tensor) -> Float[Tensor, "layers groups T T"]:
    """J of every layer and head; and of every sequence, if couplings depend on the input."""
    layers = model.couplings(tokens)
    return torch.stack([J.dense() if isinstance(J, Couplings) else J for J in layers])


def coupled(J: Tensor | Couplings) -> Bool[Tensor, "T T"]:
    """The pairs that the structure couples: all but those outside of a band or a block."""
    if isinstance(J, Banded | Block):
        return J.with_values(torch.ones_like(J.values)).dense()[0] != 0
    size = J.num_spins if isinstance(J, Couplings) else J.shape[-1]
    return torch.ones(size, size, dtype=torch.bool)


def by_distance(
    J: Float[Tensor, "*many T T"], pairs: Bool[Tensor, "T T"]
) -> Float[Tensor, "*many distances"]:
    """Mean of J_{j,j-d} over the pairs at each distance d = 1, 2, … at which there are some."""
    counts = [int(pairs.diagonal(-d).sum()) for d in range(1, len(pairs))]
    sums = [(J * pairs).diagonal(-d, -2, -1).sum(-1) for d in range(1, len(pairs))]
    means = [total / count for total, count in zip(sums, counts, strict=True) if count]
    return torch.stack(means, -1)


def bias_by_distance(model: Transformer, context: int) -> Float[Tensor, " distances"]:
    """Mean bias of the scores of query i and key i - d, over layers, heads and i."""
    layers = [module for module in model.modules() if isinstance(module, MultiheadAttention)]
    values = [cast(Tensor, layer.position_bias_values) for layer in layers]
    B = torch.stack([position_bias(v, context, context) for v in values])
    means = [B.diagonal(-d, -2, -1).mean() for d in range(context)]
    return torch.stack(means)
