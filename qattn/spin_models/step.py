r"""Parallel mean-field dynamics of kinetic spin models."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from qattn.spin_models import binary, vector

MEAN_FIELDS = ("naive", "tap")
"""The orders of the mean-field theory: the mean field alone, and with its fluctuations."""


class SpinKind(NamedTuple):
    """What a mean-field step needs to know of a spin."""

    mean_spin: Callable[..., Tensor]
    """Mean of a spin of given field, inverse temperature and variance of the field."""
    spin_variance: Callable[[Tensor], Tensor]
    """Variance of a spin of given mean."""


SPINS = {
    "vector": SpinKind(vector.mean_spin, vector.spin_variance),
    "binary": SpinKind(binary.mean_spin, binary.spin_variance),
}
"""The kinds of spins by name."""


def kinetic_step(
    x: Float[Tensor, "*#batch spins components"],
    J: Float[Tensor, "*#batch spins sources"],
    m: Float[Tensor, "*#batch sources components"],
    *,
    spins: str = "vector",
    mean_field: str = "naive",
    beta: float = 1.0,
) -> Float[Tensor, "*batch spins components"]:
    r"""One step of the mean magnetisations m(t-1) → m(t) of a kinetic Ising or vector-spin model.

    .. math::
        s_i(t) \sim e^{\beta\, s \cdot \theta_i}, \quad
        \theta_i = x_i + \sum_j J_{ij} s_j(t-1), \qquad
        m_i(t) = \varphi\Big(x_i + \sum_j J_{ij} m_j(t-1)\Big)

    All spins are drawn at once, given those of the step before; J need not be symmetric, so that
    there is no energy and no equilibrium. "naive" mean field puts the mean into the field. The
    field's fluctuations, of variance :math:`\Delta_i = \sum_j J_{ij}^2 \operatorname{Var} s_j(t-1)`
    for independent spins, come in at second order ("tap", after Thouless, Anderson and Palmer):

    - "binary": each component is a spin ±1 of its own, φ = tanh βθ; with fluctuations
      :math:`m_i = \tanh(\beta\theta_i - \beta^2 m_i \sum_j J_{ij}^2 (1 - m_j(t-1)^2))`, solved for
      m_i (Aguilera, Moosavi and Shimazaki, Nature Communications 12, 1197, 2021);
    - "vector": the D > 2 components are one spin on a sphere of radius √(D/2 - 1); see
      :func:`vector_mean_spin` for φ, what it neglects, and its fluctuations.

    Args:
        x: External field of each spin.
        J: J_ij, from spin j at the step before to spin i.
        m: Magnetisations at the step before.
        spins: "vector" or "binary".
        mean_field: "naive" or "tap".
        beta: Inverse temperature, of field and couplings.

    Raises:
        ValueError: There is no such kind or order, or vector spins have not more than 2 components.

    Warns:
        NotConvergedWarning: The TAP equation of binary spins was not solved.

    Source: M. Bal, "Spin-Model Transformers" (2023).

    >>> import torch
    >>> x, m = torch.full((2, 1), 0.2), torch.ones(2, 1)
    >>> J = torch.tensor([[0.0, 0.5], [-0.5, 0.0]])
    >>> kinetic_step(x, J, m, spins="binary").flatten()
    tensor([ 0.6044, -0.2913])
    """
    kind = check_spin_model(spins, mean_field)
    theta = x + J @ m
    if mean_field == "naive":
        return kind.mean_spin(theta, beta)
    return kind.mean_spin(theta, beta, J.square() @ kind.spin_variance(m))


def check_spin_model(spins: str, mean_field: str) -> SpinKind:
    """The kind of spins of this name; a ValueError unless there are both."""
    for name, value, known in (("spins", spins, SPINS), ("mean_field", mean_field, MEAN_FIELDS)):
        if value not in known:
            names = ", ".join(repr(name) for name in known)
            raise ValueError(f"Argument `{name}` must be one of {names}, but is {value!r}.")
    return SPINS[spins]
