"""Where a few positions come to dominate softmax attention as β is turned, and what predicts it."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.experiments.measures.members import betas_of, compact, members, scores_of, untrained
from qattn.experiments.measures.thresholds import gap_threshold, rem_threshold
from qattn.thermodynamics import softmax_curves
from qattn.thermodynamics.critical import peaks
from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder

SEQUENCES = 128
"""Validation sequences whose queries count."""

BETAS = torch.logspace(-6, 6, 97, base=2, dtype=torch.float64)
"""Where curves are computed: eight points an octave, from 1/64 to 64 times 1/√d."""

UPPER = 8.0
"""The range in which a peak is looked for ends at this multiple of 1/√d."""


@torch.no_grad()
def dominance(config: TrainConfig, run: RunFolder) -> dict[str, Any]:
    r"""Heat capacity and largest weight of softmax attention against β, head by head.

    Means are over the last queries of 128 validation sequences, which see all n = T positions. β_c
    is at the peak of the mean heat capacity C; β multiplies q·k/√d, and the trained model works
    at that of its layers, 1 unless set otherwise.

    Args:
        config: Settings of the run.
        run: Its folder.

    Returns:
        Of softmax attention, and nothing of others,

        - ``betas``, and there ``heat_capacity`` and ``largest_weight``, averaged over members,
          [layer][head][β];
        - for every [member][layer][head], None where C has no peak between 1/64 and 64:
          ``critical_beta``; ``inside``, 1 where it is below 8, else 0; ``peak``, the height of C;
          ``log_ratio``, \|ln β_c/β\| at the working β; ``order_log_ratio``, \|ln β_w/β_c\| with
          β_w where the largest weight rises fastest in ln β; ``rem_beta`` and ``gap_beta``,
          predictions (``qattn.experiments.measures.thresholds``), with ``rem_error`` and
          ``gap_error``, their \|ln β/β_c\|, and ``gain_of_gaps``, the first minus the second;
        - ``log_ratio_at_start`` of the models before their first step, and ``approach``, by how
          much \|ln β_c/β\| fell in training, the mean over heads, [member];
        - ``growth``, the slope of ln C at the peak in ln n over queries that see n = 4, 6, … T
          positions, and ``growth_gained``, by how much it is above that of independent Gaussian
          scores, means over heads, [member].
    """
    if config.attention != "softmax":
        return {}
    sizes = range(4, config.context + 1, 2)
    noise = torch.Generator().manual_seed(0)
    chance = growth([torch.randn(1, 1, 8 * SEQUENCES, n, generator=noise) for n in sizes])
    each: list[dict[str, Tensor]] = []
    for member, (model, task) in enumerate(members(config, run)):
        tokens = task.validation()[0][:SEQUENCES]
        scores, fresh = scores_of(model, tokens), untrained(config, member, task)
        start = thresholds_of(scores_of(fresh, tokens)[..., -1, :], betas_of(fresh))
        one = thresholds_of(scores[..., -1, :], betas_of(model))
        one["log_ratio_at_start"] = start["log_ratio"]
        one["approach"] = (start["log_ratio"] - one["log_ratio"]).nanmean()
        one["growth"] = growth([scores[..., n - 1, :n] for n in sizes])
        one["growth_gained"] = one["growth"] - chance
        each.append(one)
    found = {name: torch.stack([one[name] for one in each]) for name in each[0]}
    curves = {name: found.pop(name).mean(0) for name in ("heat_capacity", "largest_weight")}
    return {name: compact(values) for name, values in ({"betas": BETAS} | curves | found).items()}


def thresholds_of(
    scores: Float[Tensor, "layers heads queries n"], beta: Float[Tensor, "layers heads"]
) -> dict[str, Tensor]:
    """Curves, their peaks and the predictions of each head, from scores as they are before β."""
    curves = softmax_curves(scores, BETAS)
    heat_capacity, largest = curves.heat_capacity.mean(2), curves.largest_weight.mean(2)
    log_betas = BETAS.log()
    log_critical, height = inner_peaks(heat_capacity)
    steepest, _ = inner_peaks(torch.gradient(largest, spacing=(log_betas,), dim=-1)[0])
    rem, gaps = rem_threshold(scores), gap_threshold(scores)
    critical = log_critical.exp()
    rem_error, gap_error = ((each.log() - log_critical).abs() for each in (rem, gaps))
    inside = (critical < UPPER).double()
    return {
        "heat_capacity": heat_capacity,
        "largest_weight": largest,
        "critical_beta": critical,
        "inside": inside,
        "peak": height,
        "log_ratio": (log_critical - beta.log()).abs(),
        "order_log_ratio": (steepest - log_critical).abs(),
        "rem_beta": rem,
        "gap_beta": gaps,
        "rem_error": rem_error,
        "gap_error": gap_error,
        "gain_of_gaps": rem_error - gap_error,
    }


def inner_peaks(
    curves: Float[Tensor, "*heads betas"],
) -> tuple[Float[Tensor, "*heads"], Float[Tensor, "*heads"]]:
    """The ln β and the height of each curve's peak; NaN where it is highest at an end."""
    places, heights, inside = peaks(BETAS.log(), curves)
    return places.masked_fill(~inside, torch.nan), heights.masked_fill(~inside, torch.nan)


def growth(scores: Sequence[Float[Tensor, "layers heads queries _"]]) -> Float[Tensor, ""]:
    """Slope of ln C at the peak in ln n, mean over heads; from queries of several sizes n."""
    curves = [softmax_curves(each, BETAS).heat_capacity.mean(2) for each in scores]
    heights = torch.stack([inner_peaks(each)[1].log() for each in curves], -1)
    logs = torch.tensor([each.shape[-1] for each in scores], dtype=torch.float64).log()
    centred = logs - logs.mean()
    return ((heights * centred).sum(-1) / centred.square().sum()).nanmean()
