"""Trackers of experiments: TensorBoard, and what trackio and Weights & Biases have in common."""

import json
import logging
import os
import sys
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from qattn._atomic import write_atomically

log = logging.getLogger("qattn.training")

TRACKERS = ("tensorboard", "trackio", "wandb")
"""Names of the trackers: of their packages, and of the extras that install these."""

Record = dict[str, Any]
"""A line of metrics.jsonl."""


class Tracker(Protocol):
    """Where numbers of a run are sent."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Add numbers by name."""

    def finish(self) -> None:
        """Write what is held back, and close."""


class TensorBoard:
    """Event files in the folder ``tensorboard`` of a run.

    Args:
        folder: The run's folder.
        settings: The run's settings as TOML, which stand on the page of texts.
        last: The step after which a viewer forgets what earlier files say; None for a new run.
    """

    def __init__(self, folder: Path, settings: str, last: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = None if last is None else last + 1
        self.writer: Any = SummaryWriter(folder / "tensorboard", purge_step=purge)
        if last is None:
            self.writer.add_text("settings", f"```\n{settings}```")

    def log(self, values: dict[str, float], step: int) -> None:
        """Add points, which are on the disk at once: lines of metrics are rare."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def finish(self) -> None:
        """Close the file."""
        self.writer.close()


class Wandb:
    """A run of Weights & Biases, or of trackio, which has its interface.

    Their own environment variables say where numbers go (``WANDB_MODE=offline``, ``WANDB_PROJECT``;
    ``TRACKIO_DIR``, ``TRACKIO_SPACE_ID``), and hold the keys of accounts.

    Args:
        package: "wandb" or "trackio".
        name: The run's name, which no other run has: by it trackio knows a run that goes on.
        own: The run's id, by which W&B does.
        settings: The run's settings.
    """

    def __init__(self, package: str, name: str, own: str, settings: dict[str, Any]) -> None:
        project = os.environ.get(f"{package.upper()}_PROJECT", "qattn")
        options = {"id": own} if package == "wandb" else {"embed": False}  # no page in a notebook
        self.package: Any = import_module(package)
        self.run = self.package.init(
            project=project, name=name, config=settings, resume="allow", **options
        )

    def log(self, values: dict[str, float], step: int) -> None:
        """Add a row."""
        self.run.log(values, step=step)

    def finish(self) -> None:
        """Send what is held back."""
        self.package.finish()


class Trackers:
    """What is added to metrics.jsonl, sent to trackers too.

    metrics.jsonl stays the truth: a tracker that fails is left out with a warning, and the training
    goes on. A resumed run goes on in its trackers without points that stand there twice; a tracker
    that is new to it gets its earlier lines first.

    Args:
        track: Names of the trackers, with commas; None for none.
        folder: The run's folder. Its file tracked.json has an id for each tracker that knows the
            run.
        settings: The run's settings as TOML.
    """

    def __init__(self, track: str | None, folder: Path, settings: str) -> None:
        self.names, self.folder, self.settings = trackers_of(track), folder, settings
        self.opened: dict[str, Tracker] = {}
        self.sent: dict[str, set[frozenset[str]]] = {}
        self.kept: list[Record] = []
        self.dropped: list[Record] = []
        self.ids_file = folder / "tracked.json"

    def resumed(self, kept: list[Record], dropped: list[Record]) -> None:
        """The run goes on: these lines stand, and those will come again."""
        self.kept, self.dropped = kept, dropped

    def add(self, record: Record) -> None:
        """Send a line; the first one opens the trackers."""
        for name in self.names:
            with self._going_on_without(name):
                if name not in self.opened:
                    self._open(name)
                if _key(record) not in self.sent[name]:
                    self.opened[name].log(scalars(record), record["step"])

    def finish(self) -> None:
        """Close the trackers."""
        for name, tracker in [*self.opened.items()]:
            with self._going_on_without(name):
                tracker.finish()
        self.opened = {}

    def _open(self, name: str) -> None:
        ids = json.loads(self.ids_file.read_text()) if self.ids_file.is_file() else {}
        knows = name in ids
        own = ids.setdefault(name, uuid.uuid4().hex[:8])
        self.sent[name] = set()
        if name == "tensorboard":
            last = max((record["step"] for record in self.kept), default=-1) if knows else None
            self.opened[name] = TensorBoard(self.folder, self.settings, last)
        else:
            called = f"{self.folder.resolve().name}-{own}"
            self.opened[name] = Wandb(name, called, own, tomllib.loads(self.settings))
            if knows:  # they keep what was sent
                self.sent[name] = {_key(record) for record in self.dropped}
        if not knows:
            for record in self.kept:
                self.opened[name].log(scalars(record), record["step"])
            write_atomically(self.ids_file, f"{json.dumps(ids)}\n".encode())

    @contextmanager
    def _going_on_without(self, name: str) -> Iterator[None]:
        """A tracker that fails is said to, once, and asked no more."""
        try:
            with redirect_stdout(sys.stderr):  # the command's output is its own
                yield
        except Exception as error:  # whatever a service's client may raise
            self.names = tuple(other for other in self.names if other != name)
            self.opened.pop(name, None)
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            log.warning(
                "Tracking with %s fails, and ends: %s. metrics.jsonl has all lines.", name, reason
            )


def scalars(record: Record) -> dict[str, float]:
    """The numbers of a line of metrics by name.

    Members of an ensemble, layers and heads are numbered from 0.

    Example:
        >>> scalars({"step": 9, "loss": 2.5, "loss_interval": [2.0, 3.0], "loss_members": [3, 2]})
        {'loss': 2.5, 'loss_interval/low': 2.0, 'loss_interval/high': 3.0,
         'loss_members/0': 3.0, 'loss_members/1': 2.0}
    """
    found: dict[str, float] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, list):
            ends = ("low", "high") if name.endswith("_interval") else range(len(value))
            for end, each in zip(ends, value, strict=True):
                add(f"{name}/{end}", each)
        elif isinstance(value, int | float):
            found[name] = float(value)

    for name, value in record.items():
        if name != "step":
            add(name, value)
    return found


def _key(record: Record) -> frozenset[str]:
    """What is the same of a line that a resumed run writes again."""
    return frozenset([str(record["step"]), *record])


def trackers_of(track: str | None) -> tuple[str, ...]:
    """The names in a text such as "tensorboard,wandb"; a ValueError if there is another."""
    names = tuple(dict.fromkeys(name.strip() for name in (track or "").split(",") if name.strip()))
    if unknown := [name for name in names if name not in TRACKERS]:
        raise ValueError(
            f"Argument `track` must have names of {', '.join(TRACKERS)}, with commas, but has "
            f"{unknown[0]!r}."
        )
    return names


def check_installed(track: str | None) -> None:
    """Raise an ImportError if the package of a tracker is missing."""
    for name in trackers_of(track):
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name is no package
            raise ImportError(
                f"Tracking with {name} needs its package: pip install 'boltzmann-attention[{name}]'"
            )
