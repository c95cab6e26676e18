"""Modules in the place of nn.MultiheadAttention, and what they are to give, by enumeration."""

import pytest
import torch
from _support.brute_force import all_states
from torch import nn
from torch.nn import functional as F

from qattn import BoltzmannMultiheadAttention

N, L, S, E, H = 3, 4, 6, 8, 2

NESTED = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
"""PyTorch's encoder makes nested tensors of padding, and says of them that they may change."""


def attention(*, coupled=True, seed=0, **options):
    """A module whose couplings are strong enough to matter, or that has none."""
    torch.manual_seed(seed)
    module = BoltzmannMultiheadAttention(E, H, **{"context": S, "batch_first": True} | options)
    with torch.no_grad():
        for name, values in module.pattern.named_parameters():
            values.normal_(std=0.5) if "coupling" not in name or coupled else values.zero_()
    if module.in_proj_bias is not None:
        nn.init.normal_(module.in_proj_bias)
    return module


def projected(module, query, key, value):
    """Queries, keys and values of the heads, with the module's own projections, in float64."""
    if module.in_proj_weight is None:
        weights = module.q_proj_weight, module.k_proj_weight, module.v_proj_weight
    else:
        weights = module.in_proj_weight.chunk(3)
    biases = torch.zeros(3, E) if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
    return [
        F.linear(x.double(), w.double(), b.double()).unflatten(-1, (H, -1)).transpose(1, 2)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    ]


def enumerated(module, query, key, value, absent):
    """Output and weights from the definition; a masked key is a spin that is not there."""
    q, k, v = projected(module, query, key, value)
    b = module.pattern.field_bias.double().reshape(-1, 1, 1)
    h = (q @ k.mT / (E // H) ** 0.5 + b) / 2
    J = module.pattern.couplings.double()
    weights = torch.zeros(h.shape, dtype=torch.float64)
    absent = absent.expand(h.shape)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in h.shape[:3])).tolist():
        seen = (~absent[*index]).nonzero().flatten()
        states = all_states(len(seen))
        coupling = J[index[1]][seen][:, seen]
        energy = states @ h[*index][seen] + ((states @ coupling) * states).sum(-1) / 2
        weights[*index, seen] = (1 + energy.softmax(0) @ states) / 2
    heads = (weights @ v).transpose(1, 2).flatten(2)
    bias = module.out_proj.bias.double()
    return F.linear(heads, module.out_proj.weight.double(), bias), weights
