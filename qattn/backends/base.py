"""What a backend is: something that draws reads of an Ising batch."""

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch

from qattn.backends.options import declared_options, has_dataclass
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples


class BackendStopped(RuntimeError):  # noqa: N818 - an end, not a mistake
    """A backend cannot go on: training stops with a checkpoint.

    ``str(error)`` is one line for people, which says why and what they can do.

    Attributes:
        resume_flags: What the command that resumes the training needs besides; None where it would
            stop in the same place again.
    """

    resume_flags: ClassVar[str | None] = ""


class Backend(ABC):
    r"""A sampler of Ising batches.

    :meth:`sample` draws, for every query of a batch, reads from

    .. math::
        p(s) \propto \exp\Big(\beta\big(\sum_j h_j s_j + \sum_{j<k} J_{jk} s_j s_k\big)\Big),

    as nearly as the backend gets. Scaling a problem to a device's units is the backend's own
    business. A batch or a number of reads that cannot be sampled never reaches it: `sample` of
    every subclass refuses them first. :class:`qattn.testing.BackendConformance` tests a backend
    against this contract.

    A subclass declares its options in a nested frozen dataclass ``Options``, with
    :func:`qattn.backends.option`; the constructor takes them, and checks of names, command lines
    and documentation derive from it. A subclass with an ``__init__`` of its own and no ``Options``
    takes that function's keyword arguments.

    >>> from dataclasses import dataclass
    >>> from qattn import SpinSamples, exact
    >>> from qattn.backends import Backend, option
    >>> class Thinned(Backend):
    ...     "Every k-th of many exact reads."
    ...
    ...     @dataclass(frozen=True)
    ...     class Options(Backend.Options):
    ...         every: int = option(2, "Distance between the reads that are kept.")
    ...
    ...     def sample(self, batch, *, num_reads, seed=None):
    ...         samples = exact.sample(batch, num_reads * self.options.every, seed)
    ...         return SpinSamples(samples.spins[:, :, :: self.options.every])
    >>> Thinned(every=3).options
    Thinned.Options(every=3)

    Attributes:
        options: The options with which it was made.
        name: The name under which it is registered.
        description: One line that says what it is.
        requires: Importable modules that it needs and the pip requirement that brings each, for
            example ``{"qutip": "qutip>=5"}``.
        paid: Whether reads cost money: a training then writes a checkpoint every few seconds.
        takes_structure: Whether `sample` understands couplings with a structure
            (:mod:`qattn.couplings`); otherwise it is given them as a matrix.
    """

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    requires: ClassVar[dict[str, str]] = {}
    paid: ClassVar[bool] = False
    takes_structure: ClassVar[bool] = False

    @dataclass(frozen=True)
    class Options:
        """No options; the base class of all others."""

    options: Options
    __signature__: ClassVar[inspect.Signature | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give the class the signature of its options and, in its docstring, their help texts.

        Its `sample` is made to check what it is asked for.
        """
        super().__init_subclass__(**kwargs)
        if "sample" in vars(cls):
            cls.sample = _checked(vars(cls)["sample"])  # type: ignore[method-assign]
        cls.__signature__ = inspect.signature(cls.Options) if has_dataclass(cls) else None
        if "Options" in vars(cls) and cls.__doc__:
            lines = [f"    {o.name}: {o.help}" for o in declared_options(cls).values()]
            cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__), "", "Args:", *lines, ""])

    def __init__(self, *args: Any, **options: Any) -> None:
        self.options = self.Options(*args, **options)

    @abstractmethod
    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw reads of every query.

        Args:
            batch: The models; their β is part of the target distribution.
            num_reads: Number of reads per query. A backend that aggregates equal reads returns
                fewer rows, with weights that sum to `num_reads`.
            seed: Seed of the draw; None means one from PyTorch's global generator.

        Returns:
            Reads on the device of ``batch.h``, 0 at absent spins.

        Raises:
            ValueError: `num_reads` is not positive, or `batch` is no valid batch, although it was
                made without a look at its values: a field or coupling that is not finite, say.
        """

    def divide(self, rank: int, size: int) -> None:
        """This is the backend of one of several processes that train together.

        Called before :meth:`open`. A backend that has a budget takes its part of it, and one that
        keeps records keeps them apart from those of the others. Does nothing unless overridden.

        Args:
            rank: Number of the process, from 0 on.
            size: Number of processes.
        """
        return

    def open(self, folder: Path | None = None) -> None:
        """Get ready to sample: connect to a service, say. Does nothing unless overridden.

        A training calls it before its first step, and before it makes the run's folder.

        Args:
            folder: The run's folder, in which the backend may keep records; None outside a run.

        Raises:
            BackendStopped: What the backend needs is not available.
        """
        return

    def close(self) -> None:
        """Give back what :meth:`open` took; the backend may be opened again."""
        return

    def state_dict(self) -> dict[str, Any]:
        """Plain values that a checkpoint must hold for reads to continue as without a break."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        return

    def resume(self, *, buy_again: bool = False) -> None:
        """A training goes on from a checkpoint, whose state was loaded, or without one.

        A backend that keeps records of what it was paid for must now refuse (`BackendStopped`) to
        draw anew as long as they hold reads past the checkpoint that are not asked for.

        Args:
            buy_again: Draw anew all the same.
        """
        return

    @property
    def replaying(self) -> bool:
        """Whether records past the checkpoint still answer a resumed training.

        Until that is over no new checkpoint replaces the one from which they can be found.
        """
        return False

    def metrics(self) -> dict[str, float]:
        """Figures for a line of a run's metrics, such as the QPU time spent; empty by default."""
        return {}

    def provenance(self) -> dict[str, Any]:
        """Where the reads came from, for a run's summary: the solver's name, whether emulated."""
        return {}

    @classmethod
    def missing(cls) -> str | None:
        """How to install what the backend needs and is missing; None if nothing is missing."""
        absent = [pip for module, pip in cls.requires.items() if not _importable(module)]
        if not absent:
            return None
        return f"pip install {' '.join(repr(pip) for pip in absent)}"


def _checked(sample: Callable[..., SpinSamples]) -> Callable[..., SpinSamples]:
    """A method `sample` that is not called for what no backend can sample."""

    @functools.wraps(sample)
    def checked(
        self: Backend, batch: IsingBatch, *, num_reads: int, seed: int | None = None
    ) -> SpinSamples:
        check_num_reads(num_reads)
        IsingBatch(batch.h, batch.J, batch.lengths, batch.beta)  # raises for values out of range
        batch = batch if self.takes_structure else batch.dense()
        return sample(self, batch, num_reads=num_reads, seed=seed)

    return checked


def check_num_reads(num_reads: int) -> None:
    """Raise the ValueError that every backend raises for `num_reads` < 1."""
    if num_reads < 1:
        raise ValueError(f"Argument `num_reads` must be positive, but is {num_reads}.")


def drawn_seed(seed: int | None) -> int:
    """`seed`, or one below 2^31 from PyTorch's global generator, so that a run can be repeated."""
    return int(torch.randint(2**31, ())) if seed is None else seed


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is absent
        return False
