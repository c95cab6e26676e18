"""Going on with a run: after edits, full disks and damaged files, and without paying again."""

import errno
import os
import resource
import shutil

import pytest
import tomli_w
import torch
from _support.command_line import run
from _support.qpu_backends import credentials_of
from _support.trainings import EVERY, SMALL, assert_same_end
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn.hardware.emulator import EmulatedQPU
from qattn.training import Interrupted, Learner, RunFolder, TrainConfig, loop, read_settings, train
from qattn.training.config import SETTINGS
from qattn.training.resuming import check_resumes, resume_command

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "journal.jsonl")
TINY = {**SMALL, "context": 4, "batch_size": 4, "num_reads": 20}


class Killed(BaseException):
    """What no part of a run catches."""


def fails_at(monkeypatch, owner, name, when, error):
    """The first call of `owner.name` for which `when(*arguments)` raises; later ones do not."""
    real, errors = getattr(owner, name), [error]

    def called(*arguments):
        if errors and when(*arguments):
            raise errors.pop()
        return real(*arguments)

    monkeypatch.setattr(owner, name, called)


def dies_at(monkeypatch, step):
    fails_at(monkeypatch, Learner, "step", lambda learner, number: number == step, Killed())


@pytest.fixture
def qpu():
    with EmulatedQPU(shape=(2, 4)) as running:
        yield running


@pytest.fixture
def paid(qpu, packings_are_kept):
    """Settings of a training on an emulated QPU."""
    beta = qpu.settings.beta_J
    credentials = str(credentials_of(qpu, packings_are_kept))
    known = {"betas": (beta, beta), "annealing_time": 5.0, "credentials": credentials}
    return {**TINY, **known, "sampler": "dwave", "follow_betas": False}


class TestPaying:
    def test_a_run_that_repeats_itself_buys_nothing_again(self, qpu, paid, monkeypatch, tmp_path):
        config = TrainConfig(steps=6, checkpoint_every=2, checkpoint_seconds=1e6, **paid)
        dies_at(monkeypatch, 5)
        with pytest.raises(Killed):
            train(config, tmp_path / "run")
        assert RunFolder(tmp_path / "run").read_checkpoint()["progress"]["step"] == 4
        before = len(qpu.jobs)
        train(config, tmp_path / "run", resume=True)
        assert len(qpu.jobs) - before == before // 5  # five steps were paid for, one was not

    def test_one_that_does_not_stops_before_it_buys(self, qpu, paid, monkeypatch, tmp_path):
        config = TrainConfig(steps=6, checkpoint_every=2, checkpoint_seconds=1e6, **paid)
        folder = RunFolder(tmp_path / "run")
        dies_at(monkeypatch, 5)
        with pytest.raises(Killed):
            train(config, folder.path)
        # As another number of threads may leave it: one weight is another in its last bits.
        state = folder.read_checkpoint()
        weights = state["learner"]["parameters"]
        name = next(name for name in weights if "qkv" in name)
        weights[name].view(-1)[:] *= 1 + 1e-6
        folder.write_checkpoint(state)
        before, written = len(qpu.jobs), folder.checkpoint_file.read_bytes()
        message = (
            r"holds 1 calls past this step, 0\.\d+ s of QPU time, .* would buy them again\. "
            r"Nothing was bought\. .*Stopped at step 4 of 6; the checkpoint of step 4 stands\. "
            r"Continue with: qattn train --resume .*run --buy-again$"
        )
        for _ in range(2):  # the second time as the first: the way back is kept
            with pytest.raises(Interrupted, match=message):
                train(config, folder.path, resume=True)
            assert len(qpu.jobs) == before
            assert folder.checkpoint_file.read_bytes() == written
        train(config, folder.path, resume=True, buy_again=True)
        assert len(qpu.jobs) - before == 2 * (before // 5)

    def test_without_a_checkpoint_the_journal_is_played_from_the_start(
        self, qpu, paid, monkeypatch, tmp_path
    ):
        config = TrainConfig(steps=4, **paid)
        dies_at(monkeypatch, 3)
        with pytest.raises(Killed):
            train(config, tmp_path / "run")
        RunFolder(tmp_path / "run").checkpoint_file.unlink()
        before = len(qpu.jobs)
        with pytest.raises(ValueError, match=r"Cannot resume .* with seed = 1"):
            train(TrainConfig(steps=4, **paid | {"seed": 1}), tmp_path / "run", resume=True)
        train(config, tmp_path / "run", resume=True)
        assert len(qpu.jobs) - before == before // 3

    def test_checkpoints_follow_the_clock(self, paid, monkeypatch, tmp_path):
        assert loop.CHECKPOINT_SECONDS[True] <= 10
        monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", {True: 0.0, False: 1e6})
        for sampler, last in (("dwave", 3), ("exact", 0)):
            config = TrainConfig(steps=5, **paid) if last else TrainConfig(steps=5, **TINY)
            dies_at(monkeypatch, 3)
            with pytest.raises(Killed):
                train(config, tmp_path / sampler)
            monkeypatch.undo()
            monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", {True: 0.0, False: 1e6})
            folder = RunFolder(tmp_path / sampler)
            assert folder.read_checkpoint()["progress"]["step"] == last

    def test_a_budget_says_how_to_go_on(self, paid, tmp_path):
        config = TrainConfig(steps=5, qpu_budget="1ms", **paid)
        with pytest.raises(Interrupted, match=r"--resume \S+run --qpu-budget MORE$"):
            train(config, tmp_path / "run")

    def test_a_replay_of_another_seed_leaves_nothing(self, paid, tmp_path):
        train(TrainConfig(steps=2, **paid), tmp_path / "run")
        replay = {**TINY, "sampler": "replay", "journal": str(tmp_path / "run")}
        train(TrainConfig(steps=2, **replay), tmp_path / "again")
        with pytest.raises(Interrupted, match=r"before the first step; nothing was written\.$"):
            train(TrainConfig(steps=2, **replay | {"seed": 1}), tmp_path / "other")
        assert not (tmp_path / "other").exists()


def test_other_threads_and_versions_are_said_in_one_line(tmp_path, caplog):
    config = TrainConfig(steps=4, **SMALL | {"threads": 2})
    train(config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert folder.read_checkpoint()["environment"]["threads"] == 2
    state = folder.read_checkpoint()
    state["environment"] |= {"torch": "1.0", "numpy": "1.1"}
    folder.write_checkpoint(state)
    longer = TrainConfig(steps=6, **SMALL | {"threads": None})
    assert train(longer, tmp_path / "run", resume=True)["threads"] == 2  # the checkpoint's
    (line,) = [r.getMessage() for r in caplog.records if "instead" in r.getMessage()]
    assert f"Resuming with torch {torch.__version__} instead of 1.0, numpy " in line
    assert "threads" not in line


@pytest.mark.parametrize(
    ("owner", "name", "when"),
    [
        (Learner, "step", lambda learner, number: number == 13),
        (Learner, "step", lambda learner, number: number == 20),  # a validation stands there
        (Learner, "step", lambda learner, number: number == 21),  # and here a line of the loss
        (Learner, "evaluate", lambda learner: True),
        (RunFolder, "append_metrics", lambda folder, record: record["step"] == 21),
        (RunFolder, "append_metrics", lambda folder, record: record["step"] == 20),
        (RunFolder, "write_checkpoint", lambda folder, state: state["progress"]["step"] == 30),
        (RunFolder, "write_summary", lambda folder, summary: True),
    ],
)
def test_a_full_disk_ends_with_a_checkpoint_and_the_run_goes_on(
    tmp_path, monkeypatch, owner, name, when
):
    # Validations draw reads: what they take from the generator must come back when they fail.
    config = TrainConfig(steps=45, eval_sampler="neal:num_sweeps=1", num_reads=2, **SMALL, **EVERY)
    train(config, tmp_path / "whole")
    fails_at(monkeypatch, owner, name, when, FULL)
    with pytest.raises(Interrupted, match=r"No space left .* Stopped at step \d+ of 45; checkp"):
        train(config, tmp_path / "parts")
    train(config, tmp_path / "parts", resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.usefixtures("as_users_call")
def test_the_command_line_says_it_in_one_line(tmp_path, monkeypatch, capsys):
    fails_at(monkeypatch, Learner, "step", lambda learner, number: number == 3, FULL)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    status, _, errors = run(monkeypatch, capsys, "train", *flags, "--out", tmp_path / "my run")
    assert status == 1
    assert errors.splitlines()[-1].endswith(
        f"Continue with: qattn train --resume '{tmp_path}/my run'"
    )


def test_a_checkpoint_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(
        RunFolder, "write_checkpoint", lambda folder, state: (_ for _ in ()).throw(FULL)
    )
    with pytest.raises(Interrupted, match=r"no checkpoint can be written .*, the last is none\. C"):
        train(TrainConfig(steps=4, **SMALL), tmp_path / "run")


def test_half_a_line_of_metrics_is_taken_back(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append_metrics({"step": 1, "loss": 1.0})
    whole = folder.metrics_file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, limits[1]))
    try:
        with pytest.raises(OSError, match=r"\[Errno"):
            folder.append_metrics({"step": 2, "loss": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert folder.metrics_file.read_bytes() == whole


def damaged(content):
    """What power losses and disks leave of a file."""
    middle = len(content) // 2
    yield from (b"", content[:100], content[:-1], content[:middle], b"\0" * len(content))
    yield from (content[:middle] + b"\0" * 200 + content[middle + 200 :], b"not a checkpoint")


def test_a_damaged_checkpoint_goes_back_to_the_one_before(tmp_path, caplog):
    config = TrainConfig(steps=20, **SMALL, **EVERY)
    train(config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    content = folder.checkpoint_file.read_bytes()
    for broken in damaged(content):
        folder.checkpoint_file.write_bytes(broken)
        caplog.clear()
        assert folder.read_checkpoint()["progress"]["step"] == 10
        assert "going back to checkpoint.previous.pt" in caplog.text
        assert "\n" not in caplog.messages[0]
    train(config, tmp_path / "run", resume=True)
    train(config, tmp_path / "whole")
    assert_same_end(tmp_path / "whole", tmp_path / "run")
    for broken in damaged(content):
        folder.checkpoint_file.write_bytes(broken)
        folder.previous_file.write_bytes(broken)
        with pytest.raises(ValueError, match=r"Cannot read the checkpoint .*: delete it to resume"):
            train(config, tmp_path / "run", resume=True)
    torch.save({"learner": {}}, folder.previous_file)
    with pytest.raises(ValueError, match="it is not one of this version"):
        folder.read_checkpoint()
    folder.checkpoint_file.unlink()
    folder.previous_file.unlink()
    train(config, tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "run")


EDITS = {
    "lr = 0.5": "with lr = 0.5, from a flag or its config.toml: it was started with lr = 0.001",
    "width = 16": "it was started with width = 8",
    "steps = 10": "Only --steps may grow",
    "sampler = 'neal'": "it was started with sampler = exact",
    "betas = [1.0, 2.0]": "it was started with betas = None",
    "lr = 'fast'": "must be of type float, but is 'fast'. Put it right, or delete",
    "lr = -1.0": "must be positive and finite",
    "colour = 'red'": "unknown setting `colour`",
    "[model]": "not in tables",
    "steps = 20\nsteps = 30": "is not a TOML file",
    "\0": "is not a TOML file",
    f"seed = {10**30}": "`seed` must be at most",
}


@pytest.mark.usefixtures("as_users_call")
def test_an_edited_configuration_is_refused_or_honoured(tmp_path, monkeypatch, capsys):
    train(TrainConfig(steps=20, **SMALL, **EVERY), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    written = folder.config_file.read_text()
    files = {p.name: p.read_bytes() for p in folder.path.iterdir()}
    capsys.readouterr()
    for edit, message in EDITS.items():
        name = edit.partition(" ")[0]
        kept = [line for line in written.splitlines() if not line.startswith(f"{name} ")]
        folder.config_file.write_text("\n".join([*kept, edit]))
        status, _, errors = run(monkeypatch, capsys, "train", "--resume", folder.path)
        assert status == 1, edit
        assert message in errors
        assert len(errors.splitlines()) == 1
    for whole in ("", "# nothing"):  # the defaults, which are other settings
        folder.config_file.write_text(whole)
        status, _, errors = run(monkeypatch, capsys, "train", "--resume", folder.path)
        assert (status, "Cannot resume" in errors) == (1, True)
    folder.config_file.write_text(written)
    assert {p.name: p.read_bytes() for p in folder.path.iterdir()} == files
    # Honoured: more steps, and whatever may change.
    more = written.replace("steps = 20", "steps = 30") + "checkpoint_seconds = 7.0\n"
    folder.config_file.write_text(more)
    assert run(monkeypatch, capsys, "train", "--resume", folder.path)[0] == 0
    assert folder.read_checkpoint()["progress"]["step"] == 30
    assert folder.trained_config(folder.read_checkpoint()).checkpoint_seconds == 7.0
    # Gone: the checkpoint has it.
    folder.config_file.unlink()
    assert run(monkeypatch, capsys, "train", "--resume", folder.path)[0] == 0
    assert "steps = 30" in folder.config_file.read_text()


SOMETHING = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.booleans(),
    st.lists(st.one_of(st.integers(0, 9), st.text(max_size=2)), max_size=3),
)  # fmt: skip


@settings(max_examples=100)
@given(name=st.sampled_from([field.name for field in SETTINGS]), value=SOMETHING)
def test_any_edit_is_a_value_error_or_a_setting(tmp_path_factory, name, value):
    started = TrainConfig(steps=20, **SMALL)
    path = tmp_path_factory.getbasetemp() / "edited.toml"
    text = tomli_w.dumps({**read_settings_of(started, path), name: value})
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        edited = TrainConfig(**read_settings(path))
        check_resumes(started, edited, path.parent)
    except ValueError:
        return  # whose one line the command line prints
    changed = {f.name for f in SETTINGS if getattr(started, f.name) != getattr(edited, f.name)}
    assert changed <= {name}
    assert name == "steps" or not changed or may_change(name)


def read_settings_of(config, path):
    path.write_text(config.to_toml())
    return read_settings(path)


def may_change(name):
    return next(field for field in SETTINGS if field.name == name).metadata["may_change"]


def test_a_run_is_loaded_as_it_was_trained(tmp_path):
    train(TrainConfig(steps=3, **SMALL), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    copy = tmp_path / "copy"
    shutil.copytree(folder.path, copy)
    (copy / "config.toml").write_text("width = 4096\n")
    import qattn

    a, b = (qattn.load(path).model.state_dict() for path in (folder.path, copy))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_command_quotes_what_a_shell_would_split(tmp_path):
    assert resume_command(tmp_path / "a b", "--buy-again").endswith("a b' --buy-again")
    assert resume_command(RunFolder(tmp_path).path) == f"qattn train --resume {tmp_path}"
