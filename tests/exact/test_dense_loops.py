"""Dense moments by the compiled loops against their PyTorch twin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from _support.brute_force import random_couplings

from qattn import IsingBatch, exact, kernels

pytestmark = pytest.mark.skipif(kernels.level() is None, reason="no compiled loops here")

MOMENTS = {
    "occupations": exact.occupations,
    "normalised": lambda batch: exact.occupations(batch, normalize=True),
    "log Z": exact.log_partition,
}


def problem(n, kind, *, groups=3, queries=37):
    torch.manual_seed(n)
    J, h = random_couplings(groups, n, 0.3).float(), 2 * torch.randn(groups, queries, n)
    lengths = {
        "all spins": None,
        "mixed": torch.arange(queries) % (n + 1),
        "by group": torch.randint(0, n + 1, (groups, queries)),
    }
    return h, J, lengths[kind]


def run(moment, h, J, lengths):
    h, J = h.clone().requires_grad_(), J.clone().requires_grad_()
    value = MOMENTS[moment](IsingBatch(h, J, lengths, validate=False))
    slope = torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    return value.detach(), *torch.autograd.grad(value, (h, J), slope)


def with_twin(moment, h, J, lengths):
    with kernels.disabled():
        return run(moment, h, J, lengths)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ["all spins", "mixed", "by group"])
@pytest.mark.parametrize("n", range(1, 17))
def test_values_and_gradients_are_those_of_the_twin(n, kind, moment):
    data = problem(n, kind)
    for found, wanted in zip(run(moment, *data), with_twin(moment, *data), strict=True):
        # A normalised occupation of one spin is 1, and its gradient 0.
        assert (found - wanted).abs().max() <= 2e-5 * wanted.abs().max().clamp_min(0.1)
    if moment != "log Z":
        found, wanted = run(moment, *data)[0], with_twin(moment, *data)[0]
        assert ((found - wanted).abs() <= 1e-5 * wanted).all()  # however small a weight


@pytest.mark.parametrize("level", kernels.LEVELS[1:])
def test_lower_levels_of_instructions(level):
    here = f"{Path(__file__)}::{test_values_and_gradients_are_those_of_the_twin.__name__}"
    choice = "(5 or 12) and mixed"  # of 15 spins too
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", here, "-k", choice],
        env=os.environ | {"QATTN_KERNELS": level},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    assert "9 passed" in result.stdout


def test_any_order_of_memory_and_of_queries():
    h, J, lengths = problem(9, "mixed")
    wanted = run("occupations", h, J, lengths)
    other = run("occupations", h.mT.contiguous().mT, J, lengths)
    assert all(map(torch.equal, wanted, other))
    order = lengths.argsort()
    value, grad_h, _ = run("occupations", h[:, order], J, lengths[order])
    assert torch.equal(value, wanted[0][:, order])
    assert grad_h.shape == h.shape


def test_the_number_of_threads_changes_nothing():
    before, data = torch.get_num_threads(), problem(11, "mixed", queries=150)
    try:
        torch.set_num_threads(1)
        wanted = run("occupations", *data)
        torch.set_num_threads(3)
        for _ in range(3):
            assert all(map(torch.equal, wanted, run("occupations", *data)))
    finally:
        torch.set_num_threads(before)


def test_nan_stays_in_its_query_and_strong_couplings_take_the_twin():
    h, J, lengths = problem(8, "mixed")
    h[1, 8, 3] = torch.nan  # of eight spins
    value = exact.occupations(IsingBatch(h, J, lengths, validate=False))
    assert value[1, 8].isnan().all()
    assert value.isnan().sum() == 8
    J[:, 0, 1] = J[:, 1, 0] = 200.0
    found, wanted = run("log Z", h[:, :8], J, None)[0], with_twin("log Z", h[:, :8], J, None)[0]
    assert torch.equal(found, wanted)
