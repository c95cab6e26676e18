"""Regimes of a trained model's queries: over how many positions each spreads its attention."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.experiments.measures.members import compact, members, untrained
from qattn.thermodynamics import REGIMES, positions_held, regimes_by_head
from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder
from qattn.transformer import Transformer

SEQUENCES = 64
"""Validation sequences whose queries count."""


@torch.no_grad()
def regimes(config: TrainConfig, run: RunFolder) -> dict[str, Any]:
    r"""The least number k of positions that hold 0.9 of a query's weight, and what regime that is.

    See :func:`qattn.thermodynamics.regimes_by_head`. Means and shares are over the queries of 64
    validation sequences that see four positions or more; k/n is the share of the n seen ones.

    Args:
        config: Settings of the run.
        run: Its folder.

    Returns:
        With the shares of queries in the regimes ``classes``:

        - ``shares``: averaged over heads, [member][layer][class];
        - ``shares_of_heads``: [member][layer][head][class];
        - ``median``: median of k over the queries that see all positions, [member][layer][head];
        - ``spread``: mean of k/n over queries and heads, [member][layer];
        - the same of the models before their first step, ending in ``_at_start``;
        - ``spread_lost``: how much smaller k/n is in the last layer than in the first, [member];
        - ``averaging_lost``: how much smaller the share of averaging queries is at the end than at
          the start, [member].
    """
    each: dict[str, list[dict[str, Tensor]]] = {"": [], "_at_start": []}
    for member, (model, task) in enumerate(members(config, run)):
        tokens = task.validation()[0][:SEQUENCES]
        each[""].append(regimes_of_model(model, tokens))
        each["_at_start"].append(regimes_of_model(untrained(config, member, task), tokens))
    found = {
        f"{name}{when}": torch.stack([one[name] for one in every])
        for when, every in each.items()
        for name in every[0]
    }
    found["spread_lost"] = found["spread"][:, 0] - found["spread"][:, -1]
    averaging = (found[f"shares{when}"][..., 0].mean(1) for when in ("_at_start", ""))
    found["averaging_lost"] = next(averaging) - next(averaging)
    return {"classes": list(REGIMES)} | {name: compact(values) for name, values in found.items()}


def regimes_of_model(model: Transformer, tokens: Int[Tensor, "batch T"]) -> dict[str, Tensor]:
    """Shares of regimes, and k, of a model's queries on these tokens."""
    weights = model.attention_weights(tokens)
    shares = regimes_by_head(weights)
    k = torch.stack([positions_held(layer) for layer in weights])  # layers, batch, heads, queries
    return {
        "shares": shares.nanmean(1),
        "shares_of_heads": shares,
        "median": k[..., -1].double().median(1).values,
        "spread": spread(k),
    }


def spread(k: Int[Tensor, "layers batch heads queries"]) -> Float[Tensor, " layers"]:
    """Mean of k/n over the queries that see n ≥ 4 positions."""
    seen = torch.arange(1, k.shape[-1] + 1)
    return (k / seen)[..., seen >= 4].flatten(1).mean(1)
