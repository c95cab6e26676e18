"""Problems and data files that the annealing tests share."""

import os
from pathlib import Path

import pytest
import torch

from qattn.ising.batch import IsingBatch

DATA = Path(
    os.environ.get(
        "QATTN_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    )
)
ADVANTAGE2 = (
    DATA / "dwave_schedules" / "09-1323A-D_Advantage2_system4_annealing_schedule.xlsx"
).resolve()


def advantage2() -> Path:
    """The published table of Advantage2_system4, or a skip that says what is missing."""
    if not ADVANTAGE2.is_file():
        pytest.skip(f"no schedule table at {ADVANTAGE2}: set QATTN_TEST_DATA to its folder")
    pytest.importorskip("openpyxl", reason="reading xlsx needs openpyxl")
    return ADVANTAGE2


def problems(
    n: int,
    *,
    groups: int = 2,
    queries: int = 2,
    fields: float = 1.0,
    couplings: float = 0.3,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    lengths: torch.Tensor | None = None,
    beta: float = 1.0,
) -> IsingBatch:
    """Gaussian fields and couplings of these standard deviations."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(groups, queries, n, generator=generator, dtype=torch.float64) * fields
    J = torch.randn(groups, n, n, generator=generator, dtype=torch.float64).triu(1) * couplings
    return IsingBatch(h.to(dtype), (J + J.mT).to(dtype), lengths, beta)


def total_variation(p: torch.Tensor, q: torch.Tensor) -> float:
    """Largest total variation over the queries."""
    return float((p - q).abs().sum(-1).max()) / 2
