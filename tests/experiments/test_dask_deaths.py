"""Scheduler and workers as processes of their own, and kill -9 of each in mid-run."""

import json
import os
import signal
import socket

import pytest
from _support.experiments import TINY, end, start, tiny, until
from _support.trainings import assert_same_end

from qattn.experiments import Store
from qattn.experiments.standing import last_step
from qattn.training import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_users_call")]

STEPS = 1500
LONG = TINY.replace("steps = 40", f"steps = {STEPS}\ncheckpoint_seconds = 0.5").replace(
    "every = 10", "every = 5000"
)


@pytest.fixture
def processes():
    started = []
    yield started
    for process in started:
        end(process)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def sessions(store, training):
    file = store.run(training).path / "provenance.json"
    return json.loads(file.read_text())["sessions"] if file.is_file() else []


def test_kill_9_of_a_worker_and_of_the_scheduler(tmp_path, processes):
    log = tmp_path / "log.txt"
    text = LONG + "\n[grid]\nlr = [1e-3, 2e-3, 4e-3]\n"
    (tmp_path / "long.toml").write_text(text)
    trainings = tiny("long", text).trainings()
    store = Store(tmp_path / "experiments")
    address = f"tcp://127.0.0.1:{free_port()}"

    def begin(*words):
        processes.append(start(*words, cwd=tmp_path, log=log))
        return processes[-1]

    def cluster():
        port = address.rpartition(":")[2]
        scheduler = begin("distributed.cli.dask_scheduler", "--host=127.0.0.1",
                          f"--port={port}", "--no-dashboard")  # fmt: skip
        workers = [
            begin("distributed.cli.dask_worker", address, "--nthreads=1", "--no-nanny",
                  "--no-dashboard", "--death-timeout=20")
            for _ in range(3)
        ]  # fmt: skip
        return scheduler, workers

    def run():
        return begin("qattn", "experiment", "run", "long.toml", "--scheduler", address)

    def in_mid_run(number):
        """The trainings that have a checkpoint and are not at their ends, if as many as that."""
        found = [
            t for t in trainings
            if store.run(t).checkpoint_file.is_file() and not store.is_done(t)
        ]  # fmt: skip
        return found if len(found) >= number else None

    scheduler, workers = cluster()
    client = run()
    until(lambda: in_mid_run(3))
    os.kill(workers[0].pid, signal.SIGKILL)
    (orphan,) = until(lambda: [t for t in trainings if len(sessions(store, t)) == 2])
    assert client.poll() is None
    until(lambda: in_mid_run(2))
    os.kill(scheduler.pid, signal.SIGKILL)
    assert client.wait(60) == 1
    said = log.read_text()
    assert "The Dask scheduler is gone." in said
    assert f"Go on with: qattn experiment run long.toml --scheduler {address}\n" in said
    for worker in workers:
        worker.wait(90)  # those of the dead scheduler end by themselves
    assert not all(map(store.is_done, trainings))
    before = {t.name: last_step(store.run(t).metrics_file)[0] for t in trainings}
    cluster()
    assert run().wait(300) == 0, log.read_text()

    # Each training came to its end once, in two sessions or three where it was cut short.
    for training in trainings:
        noted = sessions(store, training)
        assert [("ended" in session) for session in noted][-1:] == [True]
        assert sum("ended" in session for session in noted) == 1
        assert len(noted) <= 3
    assert len(sessions(store, orphan)) >= 2
    assert 0 < max(before.values()) <= STEPS

    # The same command again trains nothing.
    noted = {t.name: sessions(store, t) for t in trainings}
    assert run().wait(120) == 0
    assert noted == {t.name: sessions(store, t) for t in trainings}

    # To the bit what `train` makes undisturbed.
    for training in trainings:
        alone = tmp_path / "alone" / training.name
        train(training.config, alone, quiet=True)
        assert_same_end(alone, store.run(training).path)
