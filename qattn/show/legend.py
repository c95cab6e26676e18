"""What the numbers of a page mean, in the conventions of the package."""

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from qattn.show.layer import LayerAttention

WEIGHTS = "w_ij = (1 + ⟨s_j⟩_i)/2 is the weight of position j for query i"

LEGENDS = {
    "ising": (
        "The pattern of query i is an Ising model: "
        "p(s) ∝ exp(β(Σ_j h_ij s_j + Σ_{j<k} J_jk s_j s_k)) "
        f"over the positions that it sees; {WEIGHTS}. Fields h_ij = score/2, "
        f"score = q_i·k_j/√d + b + bias of position. Positive J is cooperative. At J = 0, with the "
        f"same fields, w = σ(2βh): sigmoid attention."
    ),
    "potential": (
        "The pattern of query i is p(n) ∝ φ(Σ_j n_j)^β^ exp(β Σ_j score_ij n_j), n_j = 0 or 1, "
        "with a potential φ on the number of attended positions in the place of couplings; "
        "w_ij = ⟨n_j⟩_i, score = q_i·k_j/√d + b + bias of position, h = score/2. Without it "
        "(J = 0) w = σ(2βh): sigmoid attention. The dashed line is the sum of the weights."
    ),
    "sigmoid": (
        "Sigmoid attention: w_ij = σ(β score), score = q_i·k_j/√d + b + bias of position; that is "
        "Boltzmann attention with fields h = score/2 and J = 0."
    ),
    "softmax": (
        "Softmax attention: w_ij = softmax_j(β score), score = q_i·k_j/√d + bias of position."
    ),
    "spin-model": (
        "The weights are the couplings J_ij = softmax_j(β score) of a kinetic spin model, "
        "score = q_i·k_j/√d + bias of position."
    ),
}
"""By the kind of a layer, or "potential" where that is in the place of J."""

INTERACTIONS = {
    "occupation": "J acts between occupations: Σ_{j<k} 4 J_jk n_j n_k, n = (1 + s)/2.",
    "field": "J acts as a field only: h_ij − Σ_k J_jk, without an interaction.",
}
"""What is added where J does not act between spins."""

PULL = {
    "spin": "Σ_k J_jk ⟨s_k⟩",
    "occupation": "Σ_k 2 J_jk ⟨n_k⟩",
    "field": "−Σ_k J_jk",
}
"""The mean field of the couplings on a spin, by what J acts between."""


TOKENS = (
    "Click a token to choose the query (black frame); the green of a token is the weight that the "
    "query gives to it, grey ones it does not see. Point at a token (yellow frame) for its numbers."
)

PARTNERS = (
    " The line under a token is its coupling to that one: red cooperative, blue competitive, the "
    "five strongest."
)


def legend(layers: Sequence[LayerAttention]) -> list[Markup]:
    """The lines that say what the numbers of these layers mean, as HTML."""
    kinds = {"potential" if layer.potential is not None else layer.kind for layer in layers}
    coupled = dict.fromkeys(layer.interaction for layer in layers if layer.couplings is not None)
    lines = [line for kind, line in LEGENDS.items() if kind in kinds]
    lines += [INTERACTIONS[name] for name in coupled if name in INTERACTIONS]
    pulls = " or ".join(PULL[name] for name in coupled)
    if pulls:
        lines.append(
            f"Pull of the couplings: the mean field {pulls} on position j, of the positions k that "
            f"the query sees."
        )
    return [html(line) for line in lines]


def html(line: str) -> Markup:
    """A line with its indices below and its exponents above.

    >>> html("J_jk < Σ_{j<k} φ^β^")
    Markup('J<sub>jk</sub> &lt; Σ<sub>j&lt;k</sub> φ<sup>β</sup>')
    """
    text = re.sub(r"_(?:\{(.+?)\}|(\w+))", r"<sub>\1\2</sub>", str(escape(line)))
    return Markup(re.sub(r"\^(.+?)\^", r"<sup>\1</sup>", text))
