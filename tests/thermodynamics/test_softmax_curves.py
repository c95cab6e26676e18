"""Softmax attention as a Boltzmann distribution over positions."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from qattn import IsingBatch
from qattn.couplings import Cardinality
from qattn.thermodynamics import softmax_curves, thermodynamic_curves

BETAS = [0.0, 0.5, 1.0, 3.0]


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=8), st.floats(-5, 5))
def test_shifted_and_permuted_scores_have_the_same_weights(scores, shift):
    z = torch.tensor(scores, dtype=torch.float64)
    one, other = softmax_curves(z, BETAS), softmax_curves(z.flip(0) + shift, BETAS)
    for name in ("entropy", "heat_capacity", "participation", "largest_weight"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(other.energy, one.energy - shift, rtol=1e-9, atol=1e-9)


def test_identities_and_limits():
    z = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)).double()
    curves = softmax_curves(z, [*BETAS, 200.0])
    beta = curves.betas
    entropy = beta * (curves.energy - curves.free_energy)
    torch.testing.assert_close(curves.entropy[:, 1:], entropy[:, 1:], rtol=1e-9, atol=1e-9)
    assert torch.allclose(curves.entropy[:, 0], torch.tensor(math.log(9)).double())
    assert torch.allclose(curves.participation[:, 0], torch.tensor(9.0).double())
    assert torch.allclose(curves.largest_weight[:, -1], torch.tensor(1.0).double())
    p = (3.0 * z).softmax(-1)
    torch.testing.assert_close(curves.participation[:, 3], 1 / (p**2).sum(-1))
    torch.testing.assert_close(curves.log_Z[:, 3], (3.0 * z).logsumexp(-1))


def test_absent_positions_are_as_if_they_were_not_there():
    z = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(4, 6, dtype=torch.bool).tril()
    masked = softmax_curves(z, BETAS, mask)
    infinite = softmax_curves(z.masked_fill(~mask, -torch.inf), BETAS)
    assert masked.num_positions.tolist() == infinite.num_positions.tolist() == [1, 2, 3, 4]
    for query in range(4):
        alone = softmax_curves(z[query, : query + 1], BETAS)
        for name in ("log_Z", "energy", "entropy", "heat_capacity", "participation"):
            for curves in (masked, infinite):
                torch.testing.assert_close(getattr(curves, name)[query], getattr(alone, name))
    nobody = softmax_curves(torch.full((1, 3), -torch.inf), BETAS)
    assert bool((nobody.log_Z == -torch.inf).all())
    assert bool((nobody.participation == 0).all())


def test_softmax_is_an_ising_model_of_exactly_one_spin_up():
    # Scores 2h, up to a constant: U differs by Σ h, all else is the same.
    h = torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(2)).double()
    one_up = Cardinality.subset(1, num_groups=1, num_spins=6, dtype=torch.float64)
    spins = thermodynamic_curves(IsingBatch(h, one_up), BETAS)
    positions = softmax_curves(2 * h, BETAS)
    torch.testing.assert_close(spins.entropy, positions.entropy, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(spins.heat_capacity, positions.heat_capacity, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(spins.energy, positions.energy + h.sum(-1, keepdim=True))
