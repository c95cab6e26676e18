"""What a process of several does of a training, and one checkpoint of all."""

import pytest
import torch
from _support.trainings import SMALL
from hypothesis import given
from hypothesis import strategies as st

from qattn.hardware.calls.journal import journal_of_rank
from qattn.hardware.service.budget import BudgetExceeded, QPUBudget
from qattn.training import Learner, TrainConfig
from qattn.training.environment import SMALL_TENSOR, choose_threads
from qattn.training.ranks import BatchShare, Ranks, Share, share_of
from qattn.training.ranks.states import joined, own_chances, own_members
from qattn.training.resuming import check_processes, resume_command


@given(size=st.integers(1, 9), more=st.integers(0, 20))
def test_every_member_is_one_ranks(size, more):
    shares = [Share(Ranks(rank, size), size + more).members for rank in range(size)]
    assert [member for members in shares for member in members] == list(range(size + more))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(size=st.integers(1, 5), each=st.integers(1, 3))
def test_every_sequence_is_one_ranks(size, each):
    batch = torch.arange(size * each * 2).view(1, size * each, 2)
    parts = [BatchShare(Ranks(rank, size)).rows(batch) for rank in range(size)]
    assert torch.equal(torch.cat(parts, 1), batch)
    assert {part.shape[1] for part in parts} == {each}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ensemble": 3}, r"`ensemble` must be at least 4, a member for each process, but is 3"),
        ({"batch_size": 6}, r"`batch_size` must be a multiple of the 4 processes, .* but is 6\."),
    ],
)
def test_what_cannot_be_divided_is_refused(settings, message):
    config = TrainConfig(**SMALL | settings)
    with pytest.raises(ValueError, match=message):
        share_of(config, Ranks(1, 4))
    assert share_of(config, Ranks()).members == range(config.ensemble)


@pytest.mark.parametrize("sizes", [(2, 1), (1, 1, 1)])
def test_a_checkpoint_of_several_has_the_format_of_one(sizes):
    """States of slices of the members, joined, are that of all in one process, and come apart."""
    config = TrainConfig(ensemble=3, beta="critical", attention="softmax", **SMALL)
    whole = Learner(config)
    whole.step(0)
    one, start, states = whole.state_dict(), 0, []
    for rank, size in enumerate(sizes):
        state = own_members(one, range(start, start + size), 3)
        states.append(state | {"rng": torch.full((2,), rank), "samplers": {"neal": {"rank": rank}}})
        start += size
    joint = joined(states, members=True)
    others = joint.pop("ranks")
    assert joint.keys() == one.keys()
    assert len(others) == len(sizes) - 1
    leaves = [torch.utils._pytree.tree_leaves(s[k]) for s in (joint, one) for k in COMMON]
    for a, b in zip(leaves[: len(COMMON)], leaves[len(COMMON) :], strict=True):
        for x, y in zip(a, b, strict=True):
            assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
    joint["ranks"], start = others, 0
    for rank, size in enumerate(sizes):
        again = own_members(own_chances(joint, rank), range(start, start + size), 3)
        assert torch.equal(again["rng"], torch.full((2,), rank))
        assert again["samplers"] == {"neal": {"rank": rank}}
        for name, value in again["parameters"].items():
            assert torch.equal(value, one["parameters"][name][start : start + size])
        start += size


COMMON = ("parameters", "optimizer", "beta_found")


def test_each_rank_has_a_stream_of_its_own():
    streams = [[Ranks(rank, 4).stream(seed) for rank in range(4)] for seed in range(50)]
    assert [of_seed[0] for of_seed in streams] == list(range(50))  # as in one process
    assert len({stream for of_seed in streams for stream in of_seed}) == 200
    assert Ranks(3, 4).stream(7) == Ranks(3, 8).stream(7)
    draws = []
    for rank in range(3):
        Learner(TrainConfig(**SMALL | {"batch_size": 9}), Ranks(rank, 3))
        draws.append(torch.randint(2**31, (4,)).tolist())
    assert len({number for drawn in draws for number in drawn}) == 12


def test_gpus_are_those_of_the_ranks(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    assert Ranks(5, 6, 1, 2).device("cuda") == torch.device("cuda:1")
    assert Ranks(5, 6, 1, 2).device("cpu") == torch.device("cpu")
    assert Ranks().device("cuda:3") == torch.device("cuda:3")
    with pytest.raises(ValueError, match=r"must be 'cuda' in several processes.* is 'cuda:0'"):
        Ranks(1, 2, 1, 2).device("cuda:0")
    with pytest.raises(ValueError, match="for 3 processes and 2 GPUs: start fewer"):
        Ranks(0, 3, 0, 3).device("cuda")


def test_the_budget_and_the_records_of_a_qpu_are_divided(tmp_path):
    budgets = [QPUBudget(6.0, parts=3) for _ in range(3)]
    for budget in budgets:
        budget.reserve(1.8)
        with pytest.raises(BudgetExceeded, match="budget of 2 s of each of 3 processes does not"):
            budget.reserve(0.2)
    assert sum(budget.spent + budget.reserved for budget in budgets) <= 6.0
    assert QPUBudget(None, parts=3).left == float("inf")
    folders = [journal_of_rank(tmp_path / "journal", rank) for rank in range(3)]
    assert [folder.name for folder in folders] == ["journal", "journal-1", "journal-2"]


def test_cores_are_divided(monkeypatch):
    monkeypatch.setattr("qattn.training.environment.cores", lambda: 8)
    width = SMALL_TENSOR // (4 * 64 * 16)
    config = TrainConfig(width=8 * width, batch_size=64, context=16, heads=1)
    assert [choose_threads(config, processes) for processes in (1, 2, 4, 16)] == [8, 4, 2, 1]


def test_a_run_goes_on_in_as_many_processes(tmp_path):
    check_processes(None, 3, tmp_path)
    check_processes({"environment": {}}, 1, tmp_path)  # from before there could be several
    state = {"environment": {"processes": 2}}
    check_processes(state, 2, tmp_path)
    for now in (1, 3):
        message = rf"{now} instead of 2: .* torchrun --nproc-per-node 2 -m qattn train --resume \S+"
        with pytest.raises(ValueError, match=message):
            check_processes(state, now, tmp_path)
    with pytest.raises(ValueError, match=r"2 instead of 1: .* with: qattn train --resume "):
        check_processes({"environment": {"processes": 1}}, 2, tmp_path)
    assert resume_command(tmp_path, "--x").startswith("qattn train")
