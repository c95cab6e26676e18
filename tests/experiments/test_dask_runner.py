"""Trainings on a Dask cluster that lives in this process: failures, stops and what is refused."""

import json
import os
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from _support.experiments import TINY, tiny
from _support.trainings import assert_same_end
from filelock import FileLock

from qattn.experiments import Store, dask_cluster, dask_runner
from qattn.experiments.dask_runner import run_trainings
from qattn.experiments.dask_task import Folder, Outcome
from qattn.training import Interrupted, train

LONG = TINY.replace("steps = 40", "steps = 100000").replace("every = 10", "every = 5000")


@pytest.mark.usefixtures("as_users_call")
def test_one_that_fails_does_not_stop_the_others(tmp_path, one_worker_here):
    arms = 'diverging = { attention = "softmax", lr = 1e30 }\n'
    arms += 'half_begun = { attention = "sigmoid" }\nanother = { attention = "couplings" }\n'
    trainings = tiny(text=TINY.replace("[arms]\n", f"[arms]\n{arms}")).trainings()
    store = Store(tmp_path)
    folder = {t.arm: store.run(t).path for t in trainings}
    by_arm = {t.arm: t for t in trainings}

    # One process died between making the folder and writing config.toml.
    folder["half_begun"].mkdir(parents=True)
    (folder["half_begun"] / "config.toml.partial").write_text("task = ")
    # Somebody put another run into the folder of this name.
    another = by_arm["another"].config.to_toml().replace("seed = 0", "seed = 7")
    folder["another"].mkdir()
    (folder["another"] / "config.toml").write_text(another)

    failed = run_trainings(trainings, store, scheduler=one_worker_here)
    assert failed.keys() == {by_arm["diverging"].name, by_arm["another"].name}
    assert "diverged at step" in failed[by_arm["diverging"].name]
    told = failed[by_arm["another"].name]
    assert "Its config.toml must have seed = 0, but says 7. Move '" in told
    assert str(folder["another"]) in told
    assert {t.arm for t in trainings if store.is_done(t)} == {"half_begun", "softmax", "boltzmann"}
    assert "diverged" in store.failure_file(by_arm["diverging"]).read_text()

    # Done ones are not trained again; a run that is done and not what is asked for is named too.
    noted = (folder["softmax"] / "provenance.json").read_text()
    (folder["softmax"] / "config.toml").write_text(
        by_arm["softmax"].config.to_toml().replace("lr = 0.001", "lr = 0.002")
    )
    again = run_trainings([by_arm["softmax"], by_arm["boltzmann"]], store, scheduler="nowhere")
    assert again.keys() == {by_arm["softmax"].name}
    assert (folder["softmax"] / "provenance.json").read_text() == noted


def test_ctrl_c_and_going_on(tmp_path, one_worker_here):
    (training, _) = tiny(text=LONG).trainings()
    store = Store(tmp_path)
    run = store.run(training)

    def interrupt(workers):
        assert workers == 1
        if run.metrics_file.is_file() and len(run.read_metrics()) > 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="Stopped: what was training has written its checkpoint"):
        run_trainings(
            tiny(text=LONG).trainings(), store, scheduler=one_worker_here, watch=interrupt
        )
    step = run.read_checkpoint()["progress"]["step"]
    assert step >= 5
    assert step % 5000 != 0  # one that was due only because of the stop

    # The rest of it, shortened, ends as a run that nobody disturbed.
    state = run.read_checkpoint()
    config = replace(training.config, steps=step + 7)
    state["config"] = config.to_toml()
    run.write_config(config)
    run.write_checkpoint(state)
    train(config, run.path, resume=True, quiet=True)
    train(config, tmp_path / "alone", quiet=True)
    assert_same_end(tmp_path / "alone", run.path)


def test_who_waits_for_a_lock_can_be_stopped(tmp_path):
    (training, _) = tiny().trainings()
    store = Store(tmp_path)
    (tmp_path / "runs").mkdir()
    with (
        FileLock(f"{store.run(training).path}.lock"),
        pytest.raises(Interrupted, match="Stopped waiting for whoever trains in"),
    ):
        store.train(training, stop=lambda: True)
    assert not store.run(training).path.exists()


def test_a_worker_that_does_not_share_the_folder(tmp_path, one_worker_here, monkeypatch):
    folder = Folder(str(tmp_path), "no-such-marker")
    with pytest.raises(FileNotFoundError, match=r"does not see the folder .* put --out on storage"):
        folder.check()
    monkeypatch.setattr(dask_cluster.Folder, "__new__", lambda *_: folder)
    with pytest.raises(FileNotFoundError, match="does not see the folder"):
        run_trainings(tiny().trainings(), Store(tmp_path), scheduler=one_worker_here)
    # A worker that came after that check finds out for itself, and nothing goes on.
    monkeypatch.setattr(dask_runner, "check_workers", lambda *_: None)
    with pytest.raises(FileNotFoundError, match="does not see the folder"):
        run_trainings(tiny().trainings(), Store(tmp_path), scheduler=one_worker_here)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("as_users_call")
def test_a_worker_that_has_another_text_at_the_same_path(tmp_path, one_worker_here):
    text = tmp_path / "text.txt"
    text.write_text("To be, or not to be: that is the question. " * 10)
    (training, _) = tiny(text=TINY.replace("brackets", "shakespeare")).trainings(data=text)
    assert training.name  # which names the text that is here
    text.write_text("Whether 'tis nobler in the mind to suffer. " * 10)
    failed = run_trainings([training], Store(tmp_path), scheduler=one_worker_here)
    assert "has another text at" in failed[training.name]
    assert not (tmp_path / "runs").exists()


def test_no_scheduler_and_no_dask(tmp_path, monkeypatch):
    monkeypatch.setattr(dask_cluster, "CONNECT", 0.3)
    with pytest.raises(ConnectionError, match=r"answers at tcp://127\.0\.0\.1:1:"):
        run_trainings(tiny().trainings(), Store(tmp_path), scheduler="tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'boltzmann-attention\[experiments\]'"):
        run_trainings(tiny().trainings(), Store(tmp_path))


class Futures:
    """A client whose futures end at once as they are told to."""

    status = "running"

    def __init__(self, *ends):
        self.ends, self.submitted = list(ends), []

    def map(self, function, data, names, **options):
        self.submitted.append([each["arm"] for each in data])
        return [self._future(self.ends.pop(0)) for _ in data]

    def _future(self, end):
        def result(timeout):
            if end == "gone":
                raise TimeoutError
            return Outcome()

        return SimpleNamespace(
            status="finished" if end == "gone" else end,
            result=result,
            exception=lambda: RuntimeError("four workers died"),
            cancelled=lambda: end == "cancelled",
        )


def submitted_to(client, trainings, folder):
    named = {training.name: training for training in trainings}
    return dask_runner._Submitted(client, Store(folder), Folder("", ""), named)


def test_trainings_whose_workers_die_are_submitted_again(tmp_path):
    softmax, boltzmann = tiny().trainings()
    client = Futures("error", "finished", "cancelled", "error")
    submitted = submitted_to(client, (softmax, boltzmann), tmp_path)
    assert submitted.take() == {}
    assert submitted.take() == {}
    assert submitted.take() == {softmax.name: "four workers died"}
    assert client.submitted == [["softmax", "boltzmann"], ["softmax"], ["softmax"]]
    assert submitted.futures == {}


@pytest.mark.parametrize("end", ["lost", "gone"])
def test_what_a_worker_takes_along_is_waited_for(tmp_path, end):
    (training, _) = tiny().trainings()
    submitted = submitted_to(Futures(end), [training], tmp_path)
    assert submitted.take() == {}
    assert list(submitted.futures) == [training.name]


def test_a_scheduler_that_is_gone(tmp_path):
    (training, _) = tiny().trainings()
    client = Futures("cancelled")
    client.status = "connecting"
    submitted = submitted_to(client, [training], tmp_path)
    with pytest.raises(
        ConnectionError, match=r"The Dask scheduler is gone\. .*start the scheduler"
    ):
        submitted.take()


@pytest.mark.parametrize("more", [{"workers": 0}, {"workers": 2, "scheduler": "tcp://there"}])
def test_numbers_of_workers_that_are_refused(tmp_path, more):
    with pytest.raises(ValueError, match=f"`workers` must be .*, but is {more['workers']}"):
        run_trainings(tiny().trainings(), Store(tmp_path), **more)
    assert list(tmp_path.iterdir()) == []


def test_workers_with_several_threads_are_refused(tmp_path):
    client = SimpleNamespace(nthreads=lambda: {"tcp://there": 8})
    with pytest.raises(ValueError, match="must have one thread each, but tcp://there has 8"):
        dask_cluster.check_workers(client, Folder("", ""))


def test_provenance_has_each_session(tmp_path):
    (training, _) = tiny().trainings()
    store = Store(tmp_path)
    left = iter([False] * 12 + [True])
    with pytest.raises(Interrupted, match="Stopped at step 12 of 40; checkpoint written"):
        store.train(training, stop=lambda: next(left), quiet=True)
    assert not store.is_done(training)
    summary = store.train(training, quiet=True)
    assert store.train(training, stop=lambda: True) == summary
    noted = json.loads((store.run(training).path / "provenance.json").read_text())
    assert [session.keys() for session in noted["sessions"]] == [
        {"started"},
        {"started", "ended"},
    ]
    assert noted["started"] == noted["sessions"][0]["started"]
    assert {"host", "versions"} < noted.keys()
    train(training.config, tmp_path / "alone", quiet=True)
    assert_same_end(tmp_path / "alone", store.run(training).path)


def test_workers_of_this_machine_have_no_profiler():
    with dask_cluster.connected(workers=1) as client:
        tasks = client.run(lambda dask_worker: list(dask_worker.periodic_callbacks))
        assert all("heartbeat" in names and "profile" not in names for names in tasks.values())
