"""Running trainings on a Dask cluster, until each is at its end or has failed by itself."""

import time
from asyncio import CancelledError
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from qattn.experiments.dask_cluster import check_workers, connected, marked
from qattn.experiments.dask_task import Folder, Outcome, plain, train_one
from qattn.experiments.experiment import Training
from qattn.experiments.store import Store
from qattn.training import Interrupted
from qattn.training.resuming import stop_requests

if TYPE_CHECKING:
    from distributed import Client

SUBMISSIONS = 3
"""How often a training is submitted whose workers die; each time, Dask tries four of them."""

POLL = 0.5
"""Seconds between looks at what has come."""

FETCH = 10.0
"""Seconds within which a worker must hand over what a task returned."""

PATIENCE = 60.0
"""Seconds within which trainings that are asked to stop should have written their checkpoints."""


def run_trainings(
    trainings: Iterable[Training],
    store: Store,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    watch: Callable[[int], None] = lambda workers: None,
) -> dict[str, str]:
    """Bring all trainings to their ends that are not there yet; returns what failed.

    Trainings that are done are left alone, and those that were interrupted go on from their last
    checkpoints. One that fails, or whose workers die, does not keep the others from going on.

    Args:
        trainings: What is trained; those of equal settings are trained once.
        store: The folder of their runs, which the workers must share.
        scheduler: Address of a Dask scheduler; None for a cluster on this machine's cores.
        workers: Number of processes of that cluster, by default one for each core.
        watch: Called twice a second, with the number of workers.

    Returns:
        What kept a training from its end, by the training's name.

    Raises:
        Interrupted: SIGINT or SIGTERM came: the trainings have written checkpoints and stopped.
        ConnectionError: No scheduler answers, or it went away.
        FileNotFoundError: A worker does not see the store's folder.
        ImportError: Dask distributed is not installed here, or qattn where a worker is.
        ValueError: A worker has several threads, which would disturb each other's trainings; or
            `workers` is not positive, or is given with a scheduler.
    """
    waiting: dict[str, Training] = {}
    failed = {}
    for training in trainings:
        if not store.is_measured(training):
            twin = waiting.get(training.name, training)  # the same one in another part
            measures = tuple({*training.measures, *twin.measures})
            waiting[training.name] = replace(training, measures=measures)
            continue
        try:
            store.check(training)
        except ValueError as error:
            failed[training.name] = str(error)
    if waiting:
        with (
            marked(store.root) as folder,
            connected(scheduler, workers) as client,
            stop_requests() as signals,
        ):
            check_workers(client, folder)
            submitted = _Submitted(client, store, folder, waiting)
            while submitted.futures and not signals:
                failed |= submitted.take()
                watch(submitted.workers())
                time.sleep(POLL)
            if signals:
                submitted.stop()
                raise Interrupted("Stopped: what was training has written its checkpoint.")
    return failed


class _Submitted:
    """The trainings that a cluster has, as futures by name."""

    def __init__(
        self, client: "Client", store: Store, folder: Folder, trainings: dict[str, Training]
    ) -> None:
        self.client, self.store, self.folder, self.trainings = client, store, folder, trainings
        self.futures: dict[str, Any] = {}
        self.times = dict.fromkeys(trainings, 0)
        self.submit(list(trainings))

    def submit(self, names: list[str]) -> None:
        """Submit trainings, all at once: then Dask keeps those in a queue that must wait."""
        data = [plain(self.trainings[name]) for name in names]
        futures = self.client.map(
            train_one, data, names, folder=self.folder, pure=False, key="training"
        )
        self.futures |= zip(names, futures, strict=True)
        for name in names:
            self.times[name] += 1

    def workers(self) -> int:
        """Number of workers."""
        try:
            return len(self.client.nthreads())
        except OSError:  # the next look at the futures says more
            return 0

    def take(self) -> dict[str, str]:
        """Forget what has ended, and submit again what its worker's death ended; the failures."""
        failed, died = {}, []
        for name, future in list(self.futures.items()):
            if self.client.status != "running":
                raise ConnectionError(
                    "The Dask scheduler is gone. What is in the checkpoints is kept: start the "
                    "scheduler and its workers anew."
                )
            # What a worker has returned is lost with it, and another one is asked again.
            if future.status in ("pending", "lost"):
                continue
            if future.status == "finished":
                outcome = self.outcome(name)
                if outcome is None:
                    continue
                if not outcome.shared:
                    raise FileNotFoundError(outcome.error)
                if outcome.error:
                    failed[name] = outcome.error
            elif self.times[name] < SUBMISSIONS:
                died.append(name)
            else:
                failed[name] = "its workers died" if future.cancelled() else f"{future.exception()}"
            del self.futures[name]
        if died:
            self.submit(died)
        return failed

    def outcome(self, name: str) -> Outcome | None:
        """How a task ended; None if its worker is gone, so that another one is asked again."""
        if self.store.is_measured(self.trainings[name]):
            return Outcome()
        try:
            outcome: Outcome = self.futures[name].result(timeout=FETCH)
        except (TimeoutError, CancelledError):
            return None
        return outcome

    def stop(self) -> None:
        """Take all back, and wait until those that were training have stopped."""
        running = {key for keys in self.client.processing().values() for key in keys}
        names = [name for name, future in self.futures.items() if future.key in running]
        self.client.cancel(list(self.futures.values()), force=True)
        deadline = time.monotonic() + PATIENCE
        for name in names:
            lock = FileLock(f"{self.store.run(self.trainings[name]).path}.lock")
            try:
                with lock.acquire(timeout=max(deadline - time.monotonic(), 0)):
                    pass
            except Timeout:
                raise Interrupted(
                    f"Stopped, but '{name}' did not write a checkpoint within {PATIENCE:.0f} s: "
                    f"it goes on from the one before."
                ) from None
