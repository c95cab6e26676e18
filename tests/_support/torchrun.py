"""Processes of one training, started as users start them."""

import os
import subprocess
import sys

OF_OTHERS = ("RANK", "WORLD_SIZE", "MASTER_", "LOCAL_", "GROUP_", "ROLE_", "TORCHELASTIC_")
"""Beginnings of the names of variables that torchrun sets, and that may be those of another one."""


def command_of(*arguments, processes=2):
    """What `torchrun --nproc-per-node N ARGUMENTS` is, at a port that is free."""
    started = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, *started, *map(str, arguments)]


def torchrun(*arguments, processes=2, check=True):
    """The end of such a command."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OF_OTHERS)}
    done = subprocess.run(
        command_of(*arguments, processes=processes),
        capture_output=True,
        text=True,
        timeout=300,
        env=kept | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done
