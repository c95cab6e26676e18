"""From `qattn emulate-qpu` to a trained model, with the commands of the README."""

import json
import os
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("packings_are_kept")]

TASK = "--task brackets --context 8 --layers 1 --heads 2 --batch-size 16 --steps 400 --lr 3e-3"


def qattn(*arguments):
    """What a command prints; it must succeed."""
    command = [sys.executable, "-m", "qattn", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout + found.stderr


@pytest.fixture
def emulator(packings_are_kept):
    """A running `qattn emulate-qpu` whose credentials are in the working folder."""
    command = [sys.executable, "-m", "qattn", "emulate-qpu", "--shape", "6,4"]
    command += ["--beta-h", "9", "--beta-J", "11", "--drift", "0.02"]
    command += ["--credentials", "credentials.toml", "--account", "account.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        while not os.path.exists("credentials.toml"):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield process
        process.terminate()


@pytest.mark.usefixtures("emulator")
def test_doctor_calibrate_train(nobodys_machine):
    """Training on the emulated QPU ends within 0.03 accuracy of exact, both evaluated exactly."""
    assert "EMULATED" in qattn("doctor")
    printed = qattn("calibrate", "--sampler", "dwave", "--annealing-time", "5", "--out", "cal.toml")
    assert "EMULATED" in printed
    assert "calibration" in qattn("doctor", "--calibration", "cal.toml")
    accuracy = {}
    for sampler in (["exact"], ["dwave", "--calibration", "cal.toml", "--qpu-budget", "2min"]):
        out = f"run-{sampler[0]}"
        qattn("train", *TASK.split(), "--sampler", *sampler, "--out", out)
        summary = json.loads((nobodys_machine / out / "summary.json").read_text())
        accuracy[sampler[0]] = summary["accuracy"]
    assert accuracy["exact"] > 0.95
    assert abs(accuracy["dwave"] - accuracy["exact"]) <= 0.03
    account = json.loads((nobodys_machine / "account.json").read_text())
    spent = summary["qpu_seconds"]
    assert 0 < spent <= 120
    journals = ("run-dwave/journal", "cal-journal")
    jobs = sum(
        (nobodys_machine / name / "journal.jsonl").read_text().count('"event": "accepted"')
        for name in journals
    )
    assert jobs == len(account["jobs"])
