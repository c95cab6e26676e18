"""A small experiment of its own, and the command line on it as a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import time

from qattn.experiments.experiment import parse_experiment

TINY = """
title = "A small experiment"
seeds = 2

[settings]
task = "brackets"
context = 6
width = 8
heads = 2
layers = 1
batch_size = 8
steps = 40
log_every = 5
eval_every = 20
checkpoint_every = 10

[arms]
softmax = { attention = "softmax" }
boltzmann = { attention = "boltzmann" }
"""


def tiny(name="tiny", text=TINY):
    return parse_experiment(name, text)


def environment(**variables):
    return os.environ | {"OMP_NUM_THREADS": "1", "QATTN_TRACEBACK": ""} | variables


def command(*words):
    return [sys.executable, "-m", *map(str, words)]


def start(*words, cwd, log):
    """A process in a session of its own, as a terminal's, which writes to a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command(*words), cwd=cwd, env=environment(), stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip


def until(condition, seconds=120):
    """Wait for a condition, and return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {condition}")


def end(process):
    """End a process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
