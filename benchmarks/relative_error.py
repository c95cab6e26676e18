r"""Relative errors of every arm's weights and gradients in float32, for scores from -80 to +10.

A row has twelve positions whose scores are from one interval, or one from there and eleven from
anywhere (`mixed`); the scores of the couplings arm are its biases, one for all positions of a head.
The reference is a formula in float64: softmax, sigmoid, and where there are couplings (of standard
deviation 0.2), log-sums over all states. Gradients are those of Σ g w in the scores, g random,
relative to w(1 - σ(score)) max|g|: small for a small weight. `torch` is PyTorch's own float32
sigmoid with the same rows. Every entry is the largest of 64 rows: of value, gradient.

    python benchmarks/relative_error.py
"""

from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from qattn.layers import ATTENTION

ROWS, POSITIONS = 64, 12
INTERVALS = [(-80, -60), (-60, -40), (-40, -17), (-17, -5), (-5, 3), (3, 10)]
Weights = Callable[[Tensor], Tensor]


def layer_weights(arm: str, normalize: bool, J: Tensor) -> Weights:
    """The weights of a layer as a function of the scores."""
    heads = ROWS if arm == "couplings" else 1
    layer = ATTENTION[arm](heads, heads, POSITIONS, is_causal=False, normalize=normalize)
    if arm in ("couplings", "boltzmann"):
        row, col = torch.triu_indices(POSITIONS, POSITIONS, 1)
        layer.get_parameter("coupling_values").data = J[row, col].expand(heads, -1)

    couplings = getattr(layer, "couplings", None)

    def weights(scores: Tensor) -> Tensor:
        if arm == "couplings":
            del layer.field_bias
            layer.field_bias = scores[:, 0]
            queries = torch.ones(1, ROWS, POSITIONS, 1)
            return layer._weights(queries, queries, couplings)[0, :, 0]
        if layer.has_field_bias:
            layer.get_parameter("field_bias").data.zero_()
        query = torch.ones(ROWS, 1, POSITIONS, 1)
        return layer._weights(query, scores[:, None, :, None], couplings)[:, 0, 0]

    return weights


def formula(arm: str, normalize: bool, J: Tensor) -> Weights:
    """The same without the layer, in the dtype of the scores."""
    bits = torch.arange(2**POSITIONS)[:, None] >> torch.arange(POSITIONS) & 1
    S = (2 * bits - 1).double()
    pairs = ((S @ J.double()) * S).sum(-1) / 2
    occupied = S.relu()

    def weights(scores: Tensor) -> Tensor:
        if arm == "softmax":
            return scores.softmax(-1)
        if arm == "sigmoid" or not J.any():
            return F.logsigmoid(scores).softmax(-1) if normalize else scores.sigmoid()
        # Up to a constant of the query; in occupations small derivatives keep their digits.
        energies = scores @ occupied.mT + pairs
        up = [energies[:, S[:, j] > 0].logsumexp(-1) for j in range(POSITIONS)]
        log_n = torch.stack(up, -1)
        total = (log_n if normalize else energies).logsumexp(-1, keepdim=True)
        return (log_n - total).exp()

    return weights


def errors(found: Weights, wanted: Weights, scores: Tensor, g: Tensor) -> tuple[float, float]:
    """Largest relative errors of value and gradient."""
    results = []
    for function, dtype in ((found, torch.float32), (wanted, torch.float64)):
        x = scores.to(dtype).requires_grad_()
        w = function(x)
        (grad,) = torch.autograd.grad(w, x, g.to(dtype))
        results.append((w.detach().double(), grad.double()))
    (value, grad), (wanted_value, wanted_grad) = results
    size = wanted_value * (-scores.double()).sigmoid() * g.abs().amax(-1, keepdim=True)
    if scores.stride(1) == 0:  # one score for all positions: its gradient is a sum over them
        grad, wanted_grad, size = (x.sum(-1) for x in (grad, wanted_grad, size))
    return (
        ((value - wanted_value) / wanted_value).abs().max().item(),
        ((grad - wanted_grad) / size).abs().max().item(),
    )


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    upper = (0.2 * torch.randn(POSITIONS, POSITIONS)).triu(1)
    J = upper + upper.mT
    columns = [f"{low} to {high}" for low, high in INTERVALS]
    table = Table("arm", "normalize", "J", "others", *columns)
    cases = [("softmax", 0 * J), ("sigmoid", 0 * J), ("couplings", 0 * J), ("couplings", J)]
    cases += [("boltzmann", 0 * J), ("boltzmann", J), ("torch", 0 * J)]
    for normalize in (False, True):
        for arm, couplings in cases:
            for mixed in (False, True):
                if mixed if arm == "couplings" else arm == "softmax" and not normalize:
                    continue
                reference = formula("sigmoid" if arm == "torch" else arm, normalize, couplings)
                found = reference if arm == "torch" else layer_weights(arm, normalize, couplings)
                row = []
                for low, high in INTERVALS:
                    scores = low + (high - low) * torch.rand(ROWS, POSITIONS)
                    if mixed:
                        scores[:, 1:] = -80 + 90 * torch.rand(ROWS, POSITIONS - 1)
                    if arm == "couplings":
                        scores = scores[:, :1].expand(ROWS, POSITIONS)
                    g = torch.randn(ROWS, POSITIONS)
                    row.append("{:.0e}, {:.0e}".format(*errors(found, reference, scores, g)))
                kind = "0" if not couplings.any() else "0.2"
                table.add_row(arm, str(normalize), kind, "mixed" if mixed else "same", *row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
