"""Connections to a Dask cluster: one on this machine's cores, or one that exists."""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from qattn.experiments.dask_task import Folder
from qattn.training.environment import changes, cores, environment

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("qattn.experiments")

CONNECT = 10.0
"""Seconds within which a scheduler must answer."""


CONFIG = {
    # A worker takes a training when it has none: waiting ones are nobody's.
    "distributed.scheduler.worker-saturation": 1.0,
    # Dask's profiler can block a worker of many threads for good in Python 3.11 (CPython issue
    # 106883), such as one that trains with a QPU.
    "distributed.worker.profile.enabled": False,
}
"""What a cluster of this machine's own is configured with."""


@contextmanager
def connected(scheduler: str | None = None, workers: int | None = None) -> Iterator["Client"]:
    """A client of the scheduler at an address, or of a cluster on this machine for the time.

    Args:
        scheduler: The address; None for a cluster of this machine's own.
        workers: Number of its processes, of one thread each; by default one for each core that
            this process may use.

    Raises:
        ImportError: Dask distributed is not installed.
        ConnectionError: No scheduler answers at the address.
        ValueError: The number of workers is not positive, or given with an address.
    """
    if workers is not None and (workers < 1 or scheduler is not None):
        raise ValueError(
            f"Argument `workers` must be at least 1, and goes without `scheduler`, whose workers "
            f"are there, but is {workers}."
        )
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise ImportError(
            "Experiments need Dask distributed: pip install 'boltzmann-attention[experiments]'"
        ) from None
    with _silent():
        if scheduler is not None:
            try:
                client = Client(scheduler, timeout=CONNECT, set_as_default=False)
            except OSError:
                raise ConnectionError(
                    f"No Dask scheduler answers at {scheduler}: `dask scheduler` starts one, and "
                    f"prints its address."
                ) from None
            with client:
                _say_dashboard(client)
                yield client
            return
        with dask.config.set(CONFIG):
            cluster = LocalCluster(
                n_workers=workers or cores(),
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                preload=["qattn.experiments.dask_task"],
            )
        with cluster, Client(cluster, set_as_default=False) as client:
            _say_dashboard(client)
            yield client


@contextmanager
def marked(root: Path) -> Iterator[Folder]:
    """The folder, with a file in it for the time by which workers know it."""
    root.mkdir(parents=True, exist_ok=True)
    marker = root / f".shared-{uuid.uuid4().hex}"
    marker.touch()
    try:
        yield Folder(str(root.absolute()), marker.name)
    finally:
        marker.unlink(missing_ok=True)


def check_workers(client: "Client", folder: Folder) -> None:
    """Check the workers that there are; those that come later find out for themselves.

    Raises:
        FileNotFoundError: One does not see the folder.
        ImportError: One has no qattn.
        ValueError: One has several threads.
    """
    for address, threads in client.nthreads().items():
        if threads != 1:
            raise ValueError(
                f"Workers must have one thread each, but {address} has {threads}: start them with "
                f"`dask worker --nthreads 1 --nworkers {threads}` and the scheduler's address."
            )
    try:
        found = client.run(environment, torch.device("cpu"))
    except ImportError as error:
        raise ImportError(
            f"A worker cannot import qattn ({error}): install the same environment there."
        ) from None
    client.run(folder.check)
    here = environment(torch.device("cpu"))
    for address, there in found.items():
        if other := changes(here | {"threads": there["threads"]}, there):
            log.warning("The worker %s has %s: bits of results depend on it.", address, other)


def _say_dashboard(client: "Client") -> None:
    if "dashboard" in client.scheduler_info()["services"]:
        log.info("Dask's dashboard: %s", client.dashboard_link)
    else:
        log.info("Dask's scheduler shows no dashboard; where it runs, that needs bokeh.")


@contextmanager
def _silent() -> Iterator[None]:
    """Dask keeps to itself what its client would say: it is said in our words."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
