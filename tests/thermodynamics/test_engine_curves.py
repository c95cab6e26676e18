"""Curves by the engines of structures and by tree decomposition, against enumeration."""

import pytest
import torch

from qattn import IsingBatch
from qattn.couplings import Banded, Block, Cardinality, LowRank
from qattn.thermodynamics import thermodynamic_curves
from qattn.thermodynamics.curves import engines, enumeration
from qattn.thermodynamics.curves.jackknife import standard_error
from qattn.thermodynamics.curves.quantities import Moments

BETAS = torch.tensor([0.0, 0.5, 1.5], dtype=torch.float64)
EVERYWHERE = {"log_Z", "energy", "m", "m_variance", "spin_glass_susceptibility"}
EVERYWHERE.add("cross_susceptibility")
OF_COUNTS = {"abs_m", "m2", "m4"}


def couplings(kind, n=8):
    torch.manual_seed(3)
    upper = torch.randn(2, 2, n // 2, n // 2, dtype=torch.float64).triu(1)
    band = Banded(torch.randn(2, n, 2, dtype=torch.float64))
    return {
        "tree": band.dense(),
        "banded": band,
        "low_rank": LowRank(0.4 * torch.randn(2, n, dtype=torch.float64)),
        "block": Block(upper + upper.mT, n),
        "cardinality": Cardinality(torch.randn(2, n + 1, dtype=torch.float64), n),
        "subset": Cardinality.subset(2, num_groups=2, num_spins=n, dtype=torch.float64),
    }[kind]


@pytest.mark.parametrize("kind", ["tree", "banded", "low_rank", "block", "cardinality", "subset"])
def test_engines_agree_with_enumeration(kind):
    J = couplings(kind)
    h = torch.randn(2, 3, 8, dtype=torch.float64)
    h[:, 1] = 0.3
    batch = IsingBatch(h, J, torch.tensor([8, 6, 2]), 0.8)
    expected = enumeration.moments(batch, BETAS)
    found, error = engines.moments(batch, BETAS, 460, seed=0)
    exactly = EVERYWHERE | (OF_COUNTS if kind in ("cardinality", "subset") else set())
    for name, values, right in zip(Moments._fields, found, expected, strict=True):
        if name == "energy_variance":
            C, right_C = BETAS**2 * values[0], BETAS**2 * right
            torch.testing.assert_close(C, right_C, rtol=1e-7, atol=1e-8)
            assert bool(((C - right_C).abs() <= error + 1e-9).all())
            assert bool((error < 1e-4).all())
        elif name in exactly:
            torch.testing.assert_close(values[0], right, rtol=1e-9, atol=1e-10)
            assert bool((values == values[:1]).all())
        else:
            # At 6 sigma: 18 values of up to six moments, whose errors are themselves estimated.
            sigma = standard_error(values[1:])
            assert bool(((values[0] - right).abs() <= 6 * sigma + 1e-9).all()), name


def test_spins_in_equal_fields_need_no_pairs(monkeypatch):
    batch = IsingBatch(torch.full((2, 1, 8), 0.3).double(), couplings("cardinality"))
    monkeypatch.setattr(engines, "PAIRED_SPINS", 0)
    found, _ = engines.moments(batch, BETAS, 0, seed=None)
    expected = enumeration.moments(batch, BETAS)
    for name in ("spin_glass_susceptibility", "cross_susceptibility"):
        torch.testing.assert_close(getattr(found, name)[0], getattr(expected, name))


def test_without_reads_what_needs_them_is_unknown():
    J = Banded(torch.full((1, 22, 1), 0.5, dtype=torch.float64))
    batch = IsingBatch(torch.zeros(1, 1, 22, dtype=torch.float64), J)
    curves = thermodynamic_curves(batch, [1.0], num_reads=0)
    assert curves.method == "transfer matrices"
    assert bool(curves.binder.isnan().all())
    assert bool(curves.heat_capacity.isfinite().all())
    with_reads = thermodynamic_curves(batch, [1.0], num_reads=100, seed=0)
    assert with_reads.method == "transfer matrices, and 100 independent reads"
    assert bool((with_reads.errors["binder"] > 0).all())
    assert bool((with_reads.errors["log_Z"] == 0).all())


def test_dense_couplings_of_many_spins_need_a_backend():
    J = torch.ones(1, 40, 40).triu(1)
    batch = IsingBatch(torch.zeros(1, 1, 40), J + J.mT)
    with pytest.raises(ValueError, match="Argument `backend` must name a backend for dense"):
        thermodynamic_curves(batch, [1.0])
