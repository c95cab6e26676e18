r"""Newton's method for the pseudo-likelihood of Ising models, and the sandwich at its maximum.

The regression's features of spin i of a read are x = 2 s_i (h_i, Σ_j J_ij s_j), with h and J in the
exponent's sign, times a basis of the space of (β_h, β_J) that is searched. The log-likelihood of
β is Σ log σ(β·x), its slope Σ σ(-β·x) x, and its curvature -Σ σ(-β·x) σ(β·x) x xᵀ.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CLUSTERS = ("reads", "problems")

STEPS = 200
"""Maximum number of Newton steps; a handful suffices unless the states are separable, with no
maximum."""

SINGULAR = 1e-12
"""Ratio of the eigenvalues of the curvature, in units of its diagonal, that counts as zero."""

CHUNK_ELEMENTS = 1 << 22
"""Features that are held at a time."""


class Terms(NamedTuple):
    """Problems, their weighted states, and the space of (β_h, β_J) that is searched.

    Attributes:
        h: Fields.
        J: Couplings.
        spins: States of each problem, or one set shared by all.
        weights: Weight of each state.
        active: Which spins count.
        basis: Columns span the (β_h, β_J) that are searched.
    """

    h: Float[Tensor, "problems n"]
    J: Float[Tensor, "problems n n"]
    spins: Float[Tensor, "*problems reads n"]
    weights: Float[Tensor, "problems reads"]
    active: Bool[Tensor, "problems n"]
    basis: Float[Tensor, "two k"]

    def features(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Chunks of the problems, with features (p, k, reads · n) and shares (p, reads).

        Shares of a problem's reads sum to one, and features of absent spins are zero.
        """
        size = max(1, CHUNK_ELEMENTS // (2 * self.weights.shape[1] * self.h.shape[1]))
        for start in range(0, len(self.h), size):
            part = slice(start, start + size)
            s = (self.spins if self.spins.ndim == 2 else self.spins[part]).double()
            s = s * self.active[part].unsqueeze(1)
            of_h = s * self.h[part].double().unsqueeze(1)
            of_J = s * (s @ self.J[part].double())
            both = 2 * torch.stack([of_h.expand_as(of_J), of_J], 1).flatten(2)
            weights = self.weights[part].double()
            total = weights.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
            yield part, self.basis.mT.to(both) @ both, weights / total


@torch.no_grad()
def maximum(terms: Terms, of: Literal["one", "each"], clusters: str) -> tuple[Tensor, Tensor, int]:
    """The maximum of the pseudo-likelihood of all problems together, or of each by itself.

    Returns:
        Coefficients, shape (1 or problems, k), and their covariance, shape (1 or problems, k, k):
        nan for those that the data do not fix; and the number of clusters of all problems.
    """
    problems, k = len(terms.h), terms.basis.shape[1]
    sets = 1 if of == "one" else problems
    # Mean square of each feature over the reads, and over the spins of a set; features that are
    # zero everywhere (no fields, say) fix no coefficient, whose curvature is set to 1 below.
    size = torch.zeros(problems, k, dtype=torch.float64, device=terms.h.device)
    for part, x, share in terms.features():
        size[part] = (x.square().unflatten(2, (share.shape[1], -1)).sum(3) * share[:, None]).sum(2)
    counted = int((size > 0).any(1).sum())
    spins = _over_sets(terms.active.sum(1, keepdim=True), sets).clamp_min(1)
    scale = (_over_sets(size, sets) / spins).sqrt()
    free = scale > 0
    scale = torch.where(free, scale, 1.0)
    fixed = torch.diag_embed((~free).double())

    # Newton's steps, with coefficients in units of 1/scale so that limits have no units.
    beta = torch.zeros_like(scale)
    lost = ~free.any(1)
    moving = torch.ones(sets, dtype=torch.bool, device=beta.device)
    for _ in range(STEPS):
        slope, curvature = (_over_sets(x, sets) for x in _derivatives(terms, beta / scale))
        slope, curvature = slope / scale, curvature / (scale.unsqueeze(1) * scale.unsqueeze(2))
        curvature = curvature + fixed
        # A singular curvature: multiples of each other, or separable states. Such a set is given
        # up and stops, while the others go on.
        lost |= _singular(curvature)
        curvature[lost] = torch.eye(k, dtype=torch.float64, device=beta.device)
        step = torch.linalg.solve(curvature, slope).masked_fill(lost.unsqueeze(1), 0.0)
        # No component moves by more than 1: far from the maximum a full step may overshoot.
        largest = step.abs().amax(1, keepdim=True)
        beta = beta + step / largest.clamp_min(1.0)
        moving = largest.squeeze(1) > 1e-10
        if not bool(moving.any()):
            break
    beta = (beta / scale).masked_fill(~free | (lost | moving).unsqueeze(1), torch.nan)
    # Godambe's sandwich H⁻¹ V H⁻¹, with m clusters and the factor m/(m - 1).
    reads = terms.weights.double().sum(1)
    number = reads.new_tensor([counted]) if clusters == "problems" else _over_sets(reads, sets)
    spread = _over_sets(_spread(terms, beta.nan_to_num(0.0), clusters), sets)
    curvature = _over_sets(_derivatives(terms, beta.nan_to_num(0.0))[1], sets) + fixed
    inverse = torch.linalg.pinv(curvature, hermitian=True)
    correction = torch.where(number > 1, number / (number - 1), 1.0).reshape(-1, 1, 1)
    covariance = correction * inverse @ spread @ inverse
    # Slopes that are the same in all clusters, as of reads that are all equal, show no spread: the
    # error is then unknown, not zero.
    of_one = spread.diagonal(dim1=1, dim2=2) / scale.square() * number.clamp_min(1).unsqueeze(1)
    covariance[of_one.sum(1) < SINGULAR * spins.squeeze(1).square()] = torch.nan
    covariance[(beta.unsqueeze(1) * beta.unsqueeze(2)).isnan()] = torch.nan
    total = counted if clusters == "problems" else max(2, round(float(reads.sum())))
    return beta.cpu(), covariance.cpu(), total


def _derivatives(terms: Terms, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Slope (problems, k) and minus the curvature (problems, k, k) of each problem's mean read."""
    problems, k = len(terms.h), terms.basis.shape[1]
    slope = torch.zeros(problems, k, dtype=torch.float64, device=terms.h.device)
    curvature = slope.new_zeros(problems, k, k)
    of_problem = beta.expand(problems, k)
    for part, x, share in terms.features():
        # The probability of the spin's other value, weighted by the share of its read.
        miss = torch.sigmoid(-of_problem[part].unsqueeze(1) @ x)
        measure = share.repeat_interleave(x.shape[2] // share.shape[1], 1).unsqueeze(1)
        slope[part] = (x @ (miss * measure).mT).squeeze(2)
        curvature[part] = (x * (miss * (1 - miss) * measure)) @ x.mT
    return slope, curvature


def _spread(terms: Terms, beta: Tensor, clusters: str) -> Float[Tensor, "problems k k"]:
    """Sum of the squares of the slopes of each problem's clusters."""
    problems, k = len(terms.h), terms.basis.shape[1]
    spread = torch.zeros(problems, k, k, dtype=torch.float64, device=terms.h.device)
    reads = terms.weights.double().sum(1).clamp_min(torch.finfo(torch.float64).tiny)
    of_problem = beta.expand(problems, k)
    for part, x, share in terms.features():
        # Slopes of each read: the sum over its spins, which are not independent.
        terms_of_read = (x * torch.sigmoid(-of_problem[part].unsqueeze(1) @ x)).unflatten(
            2, (share.shape[1], -1)
        )
        slopes = terms_of_read.sum(3)
        if clusters == "problems":
            slope = (slopes * share.unsqueeze(1)).sum(2)
            spread[part] = slope.unsqueeze(1) * slope.unsqueeze(2)
        else:
            spread[part] = (slopes * (share / reads[part, None]).unsqueeze(1)) @ slopes.mT
    return spread


def _over_sets(values: Tensor, sets: int) -> Tensor:
    """Sum over the problems for one set of all, or the values of each problem for itself."""
    summed: Tensor = values.sum(0, keepdim=True) if sets == 1 else values
    return summed


def _singular(curvature: Float[Tensor, "sets k k"]) -> Bool[Tensor, " sets"]:
    """Where the smallest eigenvalue, with the diagonal scaled to 1, is zero up to rounding."""
    diagonal = curvature.diagonal(dim1=1, dim2=2)
    tiny = torch.finfo(torch.float64).tiny
    root = diagonal.clamp_min(tiny).sqrt()
    eigenvalues = torch.linalg.eigvalsh(curvature / (root.unsqueeze(1) * root.unsqueeze(2)))
    singular: Tensor = (eigenvalues[:, 0] < SINGULAR) | (diagonal <= tiny).any(1)
    return singular
