"""How far heads work from their critical temperature, before and after training."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.experiments.measures.members import betas_of, compact, members, untrained
from qattn.ising.batch import IsingBatch
from qattn.thermodynamics import critical_betas_of_heads
from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder
from qattn.transformer import Transformer

SEQUENCES = 64
"""Validation sequences of whose queries a sample is taken."""

BETAS = torch.logspace(-5, 5, 41, base=2, dtype=torch.float64)
"""Where a peak is looked for: four points an octave, from 1/32 to 32 times 1/√d."""


@torch.no_grad()
def criticality(config: TrainConfig, run: RunFolder) -> dict[str, Any]:
    r"""The critical β of each head beside the β at which it works, in units of 1/√d.

    β_c is the peak of C/n of softmax attention, and of the spin-glass susceptibility of arms with
    couplings, means over queries (:func:`qattn.thermodynamics.critical_betas_of_heads`).

    Args:
        config: Settings of the run.
        run: Its folder.

    Returns:
        Of softmax and of arms with couplings, None where there is no peak between 1/32 and 32,

        - ``beta``, ``critical_beta``, and ``log_ratio`` = \|ln β/β_c\|, [member][layer][head];
        - ``critical_beta_at_start`` and ``log_ratio_at_start`` of the models as they were drawn,
          with β = 1 unless it is fixed at another number;
        - ``found``, the share of heads that have a β_c after training, [member];
        - ``approach``, by how much \|ln β/β_c\| fell in training, [member]: the mean over the heads
          that have a β_c before and after it.
    """
    if config.attention != "softmax" and config.structure is None:
        return {}
    each: list[dict[str, Tensor]] = []
    for member, (model, task) in enumerate(members(config, run)):
        tokens = task.validation()[0][:SEQUENCES]
        fresh = untrained(config, member, task)
        critical, start = critical_betas(model, tokens), critical_betas(fresh, tokens)
        beta = betas_of(model)
        log_ratio = (beta / critical).log().abs()
        at_start = (betas_of(fresh) / start).log().abs()
        one = {
            "beta": beta,
            "critical_beta": critical,
            "log_ratio": log_ratio,
            "critical_beta_at_start": start,
            "log_ratio_at_start": at_start,
            "found": critical.isfinite().double().mean(),
            "approach": (at_start - log_ratio).nanmean(),
        }
        each.append(one)
    return {name: compact(torch.stack([one[name] for one in each])) for name in each[0]}


def critical_betas(
    model: Transformer, tokens: Int[Tensor, "batch T"]
) -> Float[Tensor, "layers heads"]:
    """β_c of every head; NaN where it has none."""
    heads = betas_of(model).shape[1]
    models: list[Tensor | IsingBatch] = [
        IsingBatch(batch.h, batch.J, batch.lengths, validate=False)
        for batch in model.ising_batches(tokens)
    ]
    found = [
        critical_betas_of_heads(layer, num_heads=heads, betas=BETAS.tolist())
        for layer in models or model.scores(tokens)
    ]
    return torch.stack(found).double()
