"""Processes of one training, started as users start them."""

import os
import subprocess
import sys
from pathlib import Path

import torch

CHECKS = Path(__file__).with_name("on_ranks.py")


def torchrun(*arguments, processes=2, check=True):
    """What `torchrun --nproc-per-node N ARGUMENTS` does, at a port that is free."""
    of_others = ("RANK", "WORLD_SIZE", "MASTER_", "LOCAL_", "GROUP_", "ROLE_", "TORCHELASTIC_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(of_others)}
    command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [sys.executable, *command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=kept | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def results_of(name, folder):
    """What a function of on_ranks.py returned on each rank."""
    done = torchrun(CHECKS, name, folder)
    found = sorted(folder.glob("rank-*.pt"))
    assert found, done.stderr
    return [torch.load(file) for file in found]
