"""Gibbs sampling and parallel tempering at the target β, until the reads are in equilibrium."""

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Int8
from torch import Tensor

from qattn._clock import sampling_clock
from qattn.backends.base import Backend, drawn_seed
from qattn.backends.options import check_words, option
from qattn.chains import Chains, equilibrium
from qattn.chains.equilibrium import warn_of
from qattn.chains.neighbours import sweepable
from qattn.chains.settle import LEAST_CHAINS, enough_chains, opposite_starts, settle
from qattn.chains.store import ChainStore
from qattn.chains.tempering import Moves
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.simulators.chain_options import ChainOptions


class GibbsBackend(Backend):
    r"""Reads from independent Gibbs chains, with parallel tempering where these are too slow.

    Half of the chains of each query start with all spins up, half with all spins down. They are
    swept at the target β until the halves agree (:func:`qattn.quality.equilibrium`), and then as
    many times again. Where 160 sweeps are not enough, the problems that do not agree go on from
    there by parallel tempering between β = 0 and the target, with all others of their groups, on a
    ladder of temperatures that adapts to the rejected swaps. It ends when the configurations of
    every problem have made round trips through the ladder and the halves agree. Reads that are
    still not known to be in equilibrium at `max_sweeps` give an
    :class:`~qattn.quality.EquilibriumWarning` that names their problems.

    Each chain gives one read, so reads are independent; they alternate between the two starts.
    In float32, on the device of the batch; on the CPU by a compiled kernel where there is one.

    >>> import torch
    >>> from qattn import IsingBatch
    >>> batch = IsingBatch(h=torch.full((1, 1, 3), 9.0), J=torch.zeros(1, 3, 3))
    >>> samples = GibbsBackend().sample(batch, num_reads=2, seed=0)
    >>> samples.spins.tolist(), samples.info["num_sweeps"]
    ([[[[1, 1, 1], [1, 1, 1]]]], 10)

    Raises:
        ValueError: A number is not positive, or `persistent` goes without a number of sweeps.
    """

    name: ClassVar[str] = "gibbs"
    takes_structure: ClassVar[bool] = True
    description: ClassVar[str] = "Gibbs sampling and parallel tempering, any size"

    @dataclass(frozen=True)
    class Options(ChainOptions):
        """How the chains are swept."""

        persistent: bool = option(
            False,
            "Start chains where those of the last call of the same shape ended (needs a number of "
            "sweeps).",
        )
        proposals: Literal["none", "autoregressive"] = option(
            "none",
            "Global moves of tempered replicas: none, or draws of an autoregressive sampler.",
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            check_words(self)
            if self.persistent and self.num_sweeps == "auto":
                raise ValueError(
                    "Argument `num_sweeps` must be a number with `persistent`, but is 'auto': "
                    "chains that all go on from where they were do not tell when they have "
                    "forgotten it."
                )

    options: Options

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._store = ChainStore()

    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw reads; see :meth:`Backend.sample`.

        ``info`` holds ``num_sweeps`` and ``seconds``; of chains that started up and down ``z2`` (1
        in equilibrium; mean over the batch), ``worst_z2`` and ``worst_query`` as (group, query);
        with "auto" whether the reads are ``in_equilibrium``, how many problems were ``tempered``,
        the sweeps and ``temperatures`` of that, and the least ``round_trips`` of a query's sets.
        """
        start = time.perf_counter()
        generator = torch.Generator(batch.h.device).manual_seed(drawn_seed(seed))
        models = sweepable(batch)
        with sampling_clock.running(batch.h.device):
            if self.options.num_sweeps == "auto":
                spins, info = self._in_equilibrium(models, num_reads, generator)
            else:
                spins, info = self._swept(models, num_reads, generator)
        info["seconds"] = time.perf_counter() - start
        return SpinSamples(spins[:, :, :num_reads].contiguous(), info=info)

    def _in_equilibrium(
        self, models: IsingBatch, num_reads: int, generator: torch.Generator
    ) -> tuple[Int8[Tensor, "g q reads n"], dict[str, Any]]:
        """Reads of chains that were swept, and tempered, until they settled, or a warning."""
        settled = settle(
            models,
            enough_chains(num_reads),
            max_sweeps=self.options.max_sweeps,
            generator=generator,
            moves=None if self.options.proposals == "none" else _global_moves,
        )
        assert settled.test is not None
        info = settled.test.summary() | {
            "num_sweeps": settled.num_sweeps,
            "in_equilibrium": not settled.doubtful,
        }
        if settled.tempered:
            info |= {
                "tempered": settled.tempered,
                "tempering_sweeps": settled.tempering_sweeps,
                "temperatures": settled.temperatures,
                "round_trips": settled.round_trips,
            }
        if settled.doubtful:
            warn_of(
                settled.doubtful,
                f"after {settled.num_sweeps} sweeps and {settled.tempering_sweeps} of parallel "
                f"tempering ({settled.statistic}): raise max_sweeps, or weaken the couplings.",
            )
        return settled.spins, info

    def _swept(
        self, models: IsingBatch, num_reads: int, generator: torch.Generator
    ) -> tuple[Int8[Tensor, "g q reads n"], dict[str, Any]]:
        """Reads after a given number of sweeps."""
        assert self.options.num_sweeps != "auto"
        info: dict[str, Any] = {"num_sweeps": self.options.num_sweeps}
        kept = self._store.find(models, num_reads) if self.options.persistent else None
        chains = Chains(models, opposite_starts(models, num_reads) if kept is None else kept)
        chains.sweep(self.options.num_sweeps, generator)
        if self.options.persistent:
            self._store.keep(models, chains.spins)
        if kept is None and num_reads >= LEAST_CHAINS:
            info |= equilibrium(SpinSamples(chains.spins), models).summary()
        return chains.spins, info

    def state_dict(self) -> dict[str, Any]:
        """The persistent chains."""
        return self._store.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._store.load_state_dict(state)


def _global_moves(models: IsingBatch) -> Moves:
    from qattn.simulators.autoregressive.sampling import GlobalMoves, Sampler
    from qattn.simulators.autoregressive.settings import NetSettings

    return GlobalMoves(Sampler(NetSettings()), models)
