"""Masks with reads: every backend draws the smaller models of what is present."""

import itertools
import math

import pytest
import torch
from _support.brute_force import random_couplings

from qattn import boltzmann_weights
from qattn.backends import get_backend

B, H, Q, N, READS = 2, 2, 2, 4, 2000
MASK = torch.rand(B, 1, Q, N, generator=torch.Generator().manual_seed(4)) < 0.7
BIAS = {"diabatic": 0.12, "qutip": 0.12}
"""Of ⟨s⟩ of backends that are not exact, as their conformance tests allow it."""


@pytest.mark.parametrize(
    ("name", "estimator"),
    [
        *itertools.product(["exact", "neal", "gibbs", "tree"], ["moment", "callen"]),
        *((name, "callen") for name in ("autoregressive", *BIAS)),
    ],
)
def test_reads_of_masked_calls_have_the_exact_weights(name, estimator):
    torch.manual_seed(0)
    query, key = torch.randn(B, H, Q, 3), torch.randn(B, H, N, 3)
    J = random_couplings(H, N, 0.4)
    warn = {"warn_divergence": math.inf} if name in BIAS else {}
    found, pulled = (
        boltzmann_weights(
            query,
            key,
            J,
            attn_mask=mask,
            backend=get_backend(name, **warn),
            num_reads=READS,
            estimator=estimator,
        )
        for mask in (MASK, torch.zeros(MASK.shape).masked_fill(~MASK, -30.0))
    )
    exact = boltzmann_weights(query, key, J, attn_mask=MASK)
    assert (found[~MASK.expand(found.shape)] == 0).all()
    # Of independent reads, a mean of n has variance w(1 - w)/N, and one of σ(2h + …) less. 5 sigma,
    # for a third of the reads in effect.
    sigma = (exact * (1 - exact) / (READS / 3)).sqrt()
    bound = 5 * sigma + BIAS.get(name, 0.0) / 2 + 1e-6
    assert ((found - exact).abs() <= bound)[MASK.expand(found.shape)].all()
    # A field of -15 in a mask's place pulls the neighbours down.
    if name not in BIAS:
        assert ((pulled - exact).abs() > bound)[MASK.expand(found.shape)].any()
