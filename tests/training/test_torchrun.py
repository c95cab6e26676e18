"""Trainings in two processes that ``torchrun`` starts, which talk by gloo."""

import json
import os
import signal
import subprocess
import time

import pytest
import torch
from _support import on_ranks
from _support.torchrun import command_of, torchrun
from _support.trainings import EVERY, SMALL, assert_same_end, timeless

import qattn
from qattn.training import RunFolder, TrainConfig, train

FLAGS = [f"--{k.replace('_', '-')}={v}" for k, v in (SMALL | EVERY).items()]
QPU = [
    "--context=4", "--batch-size=4", "--num-reads=20", "--sampler=dwave", "--emulate-qpu",
    "--betas", "11.2", "11.2", "--annealing-time=5", "--steps=4", "--log-every=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """The folder of what two processes did, and what each found, before one of them was killed."""
    folder = tmp_path_factory.mktemp("ranks")
    done = torchrun(on_ranks.__file__, "all_checks", folder, check=False)
    assert (folder / "rank-1.pt").is_file(), done.stderr
    assert "Another process of the training is gone. Stopped at step 2" in done.stderr
    return folder, [torch.load(folder / f"rank-{rank}.pt") for rank in range(2)]


def test_words_between_processes(checked):
    for rank, found in enumerate(checked[1]):
        words = found["words"]
        assert words["gather"] == ["of 0", "of 1"]
        assert words["collect"] == ([] if rank else [0, 1])
        assert words["any"] == [True, False]
        assert words["union"] == [1, 2, 3]
        assert words["mean"].tolist() == [1.0, 1.0]
        assert words["figures"] == {"qpu_seconds": 4.0, "rate": 0.5, "late": 5.0}
        assert words["first"] == "of 0"


def test_an_error_of_one_process_is_one_of_all(checked):
    for failing in ("one", "both"):
        of_0, of_1 = (found[failing] for found in checked[1])
        assert len(of_0) == len(of_1) == len(on_ranks.ERRORS)
        where = "Rank 1: " if failing == "one" else ""
        for (_, text, flags), (_, other, other_flags) in zip(of_0, of_1, strict=True):
            assert flags == other_flags
            if "KeyError" not in text and not text.startswith("'"):
                assert text == where + other
        wanted = ["BackendStopped", "NotFinite", "FileNotFoundError", "ValueError"]
        for kind, found, other in zip(wanted, of_0, of_1, strict=False):
            assert kind in found[0]
            assert kind in other[0]
        assert of_0[0][2] == "--more"
    assert checked[1][0]["one"][-1][1] == "Rank 1: KeyError: 'a defect'"
    assert checked[1][1]["one"][-1][0][0] == "KeyError"  # with its own traceback


def test_no_two_processes_draw_the_same_reads(checked):
    for what in ("ensemble", "one model"):
        seeds = [found["seeds"][what] for found in checked[1]]
        assert len(seeds[0]) == len(seeds[1]) == 3
        assert len({seed for each in seeds for seed in each}) == 6


@pytest.mark.parametrize("arm", on_ranks.ARMS)
def test_parts_of_a_batch_have_the_gradient_of_the_whole(checked, arm):
    """In float64 to 1e-12, along four steps; both processes have the same to the bit."""
    (two, one), (other, _) = (found["parts"][arm] for found in checked[1])
    for number, (here, there, alone) in enumerate(zip(two, other, one, strict=True)):
        for place in range(2):  # loss, exact gradient
            torch.testing.assert_close(here[place], alone[place], atol=1e-12, rtol=0)
            assert torch.equal(here[place], there[place])
        assert here[2].keys() == alone[2].keys()
        for name, gradient in here[2].items():
            torch.testing.assert_close(gradient, alone[2][name], atol=1e-12, rtol=0)
            assert torch.equal(gradient, there[2][name])
        assert (alone[1] - one[number - 1][1]).abs().max() > 1e-4  # other steps have others
    if two[-1][3] is not None:
        torch.testing.assert_close(two[-1][3], one[-1][3], atol=1e-12, rtol=0)


def test_an_ensemble_of_four_is_that_of_one_process(checked, tmp_path):
    """To 1e-6, not to the bit: two members fill other vectors of the processor than four."""
    folder = RunFolder(checked[0] / "ensemble")
    train(TrainConfig(**on_ranks.ENSEMBLE), tmp_path / "one", quiet=True)
    alone = RunFolder(tmp_path / "one")
    states = [each.read_checkpoint()["learner"] for each in (folder, alone)]
    assert states[0].keys() == states[1].keys() | {"ranks"}
    for part in ("parameters", "optimizer"):
        torch.testing.assert_close(states[0][part], states[1][part], atol=1e-6, rtol=0)
    lines = [timeless(each.read_metrics()) for each in (folder, alone)]
    for line, other in zip(*lines, strict=True):
        assert line.keys() == other.keys()
        for name, value in line.items():
            if "gradient_error" not in name:  # which is rounding alone
                torch.testing.assert_close(
                    torch.tensor(value), torch.tensor(other[name]), atol=1e-5, rtol=0
                )
    summaries = [json.loads(each.summary_file.read_text()) for each in (folder, alone)]
    assert summaries[0].pop("processes") == 2
    assert summaries[0].keys() == summaries[1].keys()
    for member in range(4):
        model, _ = qattn.load(folder.path, member=member)
        for name, value in model.named_parameters():
            other = states[1]["parameters"][name][member]
            torch.testing.assert_close(value.detach(), other, atol=1e-6, rtol=0)
    members = [states[0]["parameters"]["read_out.weight"][i] for i in (0, 2)]
    assert (members[0] - members[1]).abs().max() > 1e-2  # of other seeds


def assert_goes_on_to_the_bit(folder, ensemble, **processes):
    assert RunFolder(folder / "parts").read_checkpoint()["progress"]["step"] == 20
    torchrun(on_ranks.__file__, "resumed", folder, ensemble, **processes)
    assert_same_end(folder / "whole", folder / "parts")


def test_an_ensemble_of_which_a_process_was_killed_goes_on_to_the_bit(checked):
    assert_goes_on_to_the_bit(checked[0], 3)  # two members and one, with reads of their own


@pytest.mark.slow
def test_one_model_of_which_a_process_was_killed_goes_on_to_the_bit(tmp_path):
    three = {"processes": 3}  # the order of whose sums is not always the same
    assert torchrun(on_ranks.__file__, "killed", tmp_path, 1, check=False, **three).returncode != 0
    assert_goes_on_to_the_bit(tmp_path, 1, **three)


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", [1, 3])
def test_a_signal_ends_all_at_one_step(tmp_path, ensemble):
    out = tmp_path / "run"
    long = ["--steps=100000", "--checkpoint-every=100000", f"--ensemble={ensemble}"]
    process = subprocess.Popen(
        command_of("-m", "qattn", "train", *FLAGS, *long, f"--out={out}"),
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = RunFolder(out)
    deadline = time.monotonic() + 200
    while len(lines.read_metrics()) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    _, messages = process.communicate(timeout=200)
    state = lines.read_checkpoint()
    said = (
        f"Stopped at step {state['progress']['step']} of 100000; checkpoint written. Continue "
        f"with: torchrun --nproc-per-node 2 -m qattn train --resume {out}"
    )
    assert messages.count(said) == 1
    for value in state["learner"]["optimizer"]["state"].values():
        assert value["step"] == state["progress"]["step"]


@pytest.mark.slow
def test_errors_are_said_once(tmp_path):
    out = tmp_path / "run"
    done = torchrun("-m", "qattn", "train", *FLAGS, "--batch-size=7", "--out", out, check=False)
    assert done.returncode == 1
    assert done.stderr.count("Error: Argument `batch_size` must be a multiple of the 2") == 1
    assert not out.exists()
    torchrun("-m", "qattn", "train", *FLAGS, "--steps=2", "--out", out)
    done = torchrun("-m", "qattn", "train", "--resume", out, processes=3, check=False)
    assert done.stderr.count("Error: Cannot resume") == 1
    assert "3 instead of 2" in done.stderr
    with pytest.raises(ValueError, match="1 instead of 2: "):
        train(RunFolder(out).read_config(), out, resume=True, quiet=True)


@pytest.mark.slow
@pytest.mark.usefixtures("packings_are_kept")
@pytest.mark.parametrize("ensemble", [1, 2])
def test_two_processes_share_the_budget_of_a_qpu(tmp_path, ensemble):
    """A step takes about 10 ms of each process, so that 60 ms for both end it after two."""
    out = tmp_path / "run"
    flags = [*FLAGS[1:4], *QPU, f"--ensemble={ensemble}", "--out", out]
    done = torchrun("-m", "qattn", "train", *flags, "--qpu-budget=60ms", check=False)
    assert "budget of 30 ms of each of 2 processes does not allow" in done.stderr
    assert "Stopped at step 2 of 4; checkpoint written." in done.stderr
    spent = RunFolder(out).read_metrics()[-1]
    assert spent["qpu_seconds"] + spent["qpu_seconds_left"] == pytest.approx(0.06)
    torchrun("-m", "qattn", "train", "--resume", out, "--qpu-budget=10s")
    answers = [len([*(out / name / "answers").iterdir()]) for name in ("journal", "journal-1")]
    assert answers == [4, 4]  # nothing was bought twice
    weights = RunFolder(out).read_checkpoint()["learner"]["parameters"]
    # The journals, played again, give the same run.
    again = tmp_path / "again"
    replay = [*FLAGS[1:4], *QPU[:3], "--steps=4", "--log-every=1", "--sampler=replay"]
    replay += [f"--journal={out}", f"--ensemble={ensemble}", "--out", again]
    torchrun("-m", "qattn", "train", *replay)
    for name, value in RunFolder(again).read_checkpoint()["learner"]["parameters"].items():
        assert torch.equal(value, weights[name])
