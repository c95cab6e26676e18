r"""Heads as one composite system, and the network as one Ising model.

Given an input, the heads of a layer share nothing: the energy is :math:`H = \sum_h H_h`, Z is a
product, and F, U, S and C add, by arithmetic. What can fail is that heads are independent over
inputs: then the variance of the total energy would be the sum of theirs, and no head's energy would
say anything of another's.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn import exact
from qattn.experiments.measures.members import betas_of, compact, members, scores_of
from qattn.ising.batch import IsingBatch
from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder
from qattn.transformer import Transformer

SEQUENCES = 512
"""Validation sequences, of each the query that sees all positions."""


@torch.no_grad()
def composite(config: TrainConfig, run: RunFolder) -> dict[str, Any]:
    r"""How far heads are independent over inputs, and how well one model stands for all.

    With U the energy of a head at its working β for the last query of each of 512 validation
    sequences, and averages over the sequences:

    .. math::
        r_{hh'} = \mathrm{corr}(U_h, U_{h'}), \qquad
        x = \frac{\mathrm{Var}(\sum_h U_h)}{\sum_h \mathrm{Var}(U_h)} - 1

    The one model of a network with couplings has the means of all heads' fields and couplings. With
    m its ⟨s⟩, M the mean over heads of theirs, and δ deviations from the mean over sequences, it
    explains the share :math:`R^2 = (\sum δm\, δM)^2 / (\sum δm^2 \sum δM^2)` of the variance,
    the scale being free.

    Args:
        config: Settings of the run.
        run: Its folder.

    Returns:
        Of softmax and of arms with dense couplings,

        - ``correlations``: \|r\| of all heads, layer by layer, mean over members, [head][head];
        - ``correlation``: mean of \|r\| over pairs of heads of a layer, [member][layer];
        - ``correlation_of_layers``: over pairs of heads of different layers, [member];
        - ``excess``: \|x\| over the heads of a layer, [member][layer].

        Of the latter also R², [member]: ``one_model``, and ``one_model_uncoupled`` of the
        mean fields without couplings; and ``one_model_gain``, the difference.
    """
    if config.attention != "softmax" and config.structure != "dense":
        return {}
    found: dict[str, list[Tensor]] = {}
    for model, task in members(config, run):
        tokens = task.validation()[0][:SEQUENCES]
        batches = last_queries(model, tokens)
        one = dependence(ising_energies(batches) if batches else softmax_energies(model, tokens))
        for name, value in (one | (one_model(batches) if batches else {})).items():
            found.setdefault(name, []).append(value)
    stacked = {name: torch.stack(values) for name, values in found.items()}
    return {n: compact(v.mean(0) if n == "correlations" else v) for n, v in stacked.items()}


def last_queries(model: Transformer, tokens: Int[Tensor, "batch T"]) -> list[IsingBatch]:
    """Ising models of the queries that see all positions, layer by layer; [] of softmax."""
    size = len(tokens)
    return [
        # Queries are ordered by position: the last position's sequences are the last ones.
        IsingBatch(batch.h[:, -size:].double(), batch.matrix.double(), None, batch.beta)
        for batch in model.ising_batches(tokens)
    ]


def ising_energies(batches: list[IsingBatch]) -> Float[Tensor, "layers heads queries"]:
    """⟨E⟩ of each query, at β = 1 in units of the scores."""
    energies = []
    for batch in batches:
        fields = (batch.h * exact.mean_spins(batch)).sum(-1)
        pairs = (exact.pair_correlations(batch) * batch.matrix.unsqueeze(1)).sum((-1, -2)) / 2
        energies.append(-fields - pairs)
    return torch.stack(energies)


def softmax_energies(
    model: Transformer, tokens: Int[Tensor, "batch T"]
) -> Float[Tensor, "layers heads queries"]:
    """-Σ p z of the last queries."""
    scores = scores_of(model, tokens)[..., -1, :]
    p = (betas_of(model)[:, :, None, None] * scores).softmax(-1)
    return -(p * scores).sum(-1)


def dependence(energies: Float[Tensor, "layers heads queries"]) -> dict[str, Tensor]:
    """Correlations of energies over queries, and the excess of the total's variance."""
    layers, heads, _ = energies.shape
    r = energies.flatten(0, 1).corrcoef()
    blocks = r.abs().view(layers, heads, layers, heads)
    apart = ~torch.eye(layers, dtype=torch.bool)
    within = torch.stack([blocks[layer, :, layer] for layer in range(layers)])
    others = ~torch.eye(heads, dtype=torch.bool)
    total, each = energies.sum(1).var(-1), energies.var(-1).sum(-1)
    return {
        "correlations": r.abs(),
        "correlation": within[:, others].mean(-1),
        "correlation_of_layers": blocks.transpose(1, 2)[apart].mean(),
        "excess": (total / each - 1).abs(),
    }


def one_model(batches: list[IsingBatch]) -> dict[str, Tensor]:
    """R² of one Ising model with the mean fields and couplings of all heads."""
    mean = torch.stack([exact.mean_spins(batch).mean(0) for batch in batches]).mean(0)
    scaled = zip(*[batch.scaled_structure() for batch in batches], strict=True)
    h, J = (torch.cat(each).mean(0, keepdim=True) for each in scaled)
    theirs = mean - mean.mean(0)

    def explained(couplings: Tensor) -> Tensor:
        (found,) = exact.mean_spins(IsingBatch(h, couplings))
        ours = found - found.mean(0)
        size = ours.square().sum() * theirs.square().sum()
        share: Tensor = (ours * theirs).sum().square() / size
        return share

    coupled, uncoupled = explained(J), explained(torch.zeros_like(J))
    return {
        "one_model": coupled,
        "one_model_uncoupled": uncoupled,
        "one_model_gain": coupled - uncoupled,
    }
