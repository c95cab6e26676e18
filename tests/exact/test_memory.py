"""What exact enumeration says that it needs, against what it takes."""

import pytest
import torch
from _support.brute_force import random_couplings
from _support.peak_memory import PeakMemory
from torch.func import vmap

from qattn import IsingBatch, exact, kernels
from qattn.exact import memory
from qattn.exact.dense import layout


def causal(T, batch):
    return torch.arange(1, T + 1).repeat_interleave(batch)


# groups, queries, spins, lengths
SIZES = [
    (2, 300, 14, None),
    (2, 300, 13, None),
    (1, 1, 16, None),
    (1, 1, 17, None),
    (6, 40, 12, None),
    (1, 2000, 10, None),
    (1, 1, 3, None),
    (4, 384, 12, causal(12, 32)),
    (3, 104, 13, causal(13, 8)),
    (2, 32, 16, causal(16, 2)),
    (3, 400, 9, torch.arange(1200).view(3, 400) % 10),
]


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float32, too strong for it", "float64"])
@pytest.mark.parametrize(("groups", "queries", "n", "lengths"), SIZES)
def test_the_estimate_is_above_what_is_used_by_no_more_than_a_quarter(
    groups, queries, n, lengths, dtype, normalize
):
    torch.manual_seed(0)
    to = torch.float64 if dtype == "float64" else torch.float32
    J = random_couplings(groups, n, 0.1).to(to)
    if dtype == "float32, too strong for it":
        J[:, 0, 1] = J[:, 1, 0] = 100.0
    h = torch.randn(groups, queries, n, dtype=to)
    batch = IsingBatch(h.requires_grad_(), J.requires_grad_(), lengths, validate=False)
    # Loading what a first call loads is not the engine's.
    exact.occupations(batch, normalize=normalize).sum().backward()
    with kernels.disabled():
        exact.occupations(batch, normalize=normalize).sum().backward()
    h.grad = J.grad = None
    with PeakMemory() as measured:
        exact.occupations(batch, normalize=normalize).sum().backward()
    need = exact.required_bytes(groups, queries, n, 4 if dtype == "float32" else 8, lengths)
    by_loops = measured.peak
    assert by_loops <= need
    h.grad = J.grad = None
    with kernels.disabled(), PeakMemory() as measured:
        exact.occupations(batch, normalize=normalize).sum().backward()
    # Constant tables were there already, and stay.
    used, lay = measured.peak, layout.cut(lengths, groups, queries, n)
    kind = torch.float32 if dtype == "float32" else torch.float64
    for block in lay.blocks:
        tables = layout.tables(block.num_spins, kind, h.device)
        used += sum(x.nbytes for x in (*tables, *(layout.masks(block, 1, kind, h.device) or ())))
    assert used <= need <= 1.25 * max(used, by_loops), need / used


def test_the_limit_states_the_need_and_the_way_out():
    batch = IsingBatch(torch.zeros(1, 1, 34), torch.zeros(1, 34, 34))
    with pytest.raises(MemoryError, match=r"34 spins in float32 needs .* GiB.*sampling backend"):
        exact.mean_spins(batch)


def test_a_model_beyond_all_memory_is_refused_at_once():
    n = 1500  # 2^1500 is no float
    with pytest.raises(MemoryError, match=r"about 2\^\d{4} GiB.*use fewer spins"):
        memory.check_memory(1, n, n, 4, lengths=torch.arange(1, n + 1))
    memory.check_memory(1, n, n, 4, lengths=torch.arange(1, n + 1).clamp_max(10))


def test_the_limit_holds_for_float64_and_for_the_members_of_a_vmap(monkeypatch):
    h, J = torch.zeros(2, 5, 10), torch.zeros(2, 10, 10)
    need = exact.required_bytes(2, 5, 10, 4)
    monkeypatch.setattr(memory, "MEMORY_LIMIT", need)
    exact.occupations(IsingBatch(h, J))
    strong = J.clone()
    strong[:, 0, 1] = strong[:, 1, 0] = 100.0
    with pytest.raises(MemoryError, match="in float64"):
        exact.occupations(IsingBatch(h, strong))

    def occupations(h):
        return exact.occupations(IsingBatch(h, J, validate=False))

    with pytest.raises(MemoryError, match="6 groups"):
        vmap(occupations)(h.expand(3, 2, 5, 10))
