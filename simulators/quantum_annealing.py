r"""What the simulated annealers share: programming a batch, drawing its reads, judging them."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from qattn._clock import sampling_clock
from qattn.backends.base import Backend, check_num_reads, drawn_seed
from qattn.ising import IsingBatch
from qattn.samples import SpinSamples
from qattn.simulators.encoding import Programmed, program, without_ghost_states
from qattn.simulators.schedules import AnnealSchedule
from qattn.simulators.settings import AnnealerSettings, load_settings
from qattn.states import invert_cdf

BLOCK_BYTES = 1 << 28
"""Bytes of probabilities that are held at once while reads are drawn."""

PROBABILITIES_LIMIT = 8 * 2**30
"""Bytes of the result of ``probabilities``; assign to ``annealer.PROBABILITIES_LIMIT``."""

JUDGED_PROBLEMS = 8
"""Problems of each size whose divergence is computed at every call."""


class DivergenceWarning(UserWarning):
    """The anneal is outside the regime in which it samples from the target distribution."""


class SimulatedAnnealer(Backend):
    r"""A simulated diabatic anneal, used as a sampler of Boltzmann distributions.

    A batch is programmed so that, to first order, reads have its distribution: with the effective
    inverse temperatures of :func:`~qattn.simulators.effective_beta.effective_betas` (fields
    and couplings see different temperatures),

    - field_encoding "direct": h/β_h and J/β_J;
    - field_encoding "ghost": one more spin carries the fields, so that every term is a coupling
      and (h, J)/β_J is programmed; reads are multiplied by it. The only way on a QPU whose fast
      anneal allows no fields.

    Args:
        schedule: An :class:`AnnealSchedule`, the name of an analytic form, or the file of a
            published table; None takes "linear".
        annealing_time: Duration in ns; None keeps the schedule's own.
        sheet: "fast" or "standard", where the schedule is an xlsx file.
        field_encoding: "direct" or "ghost"; None takes "direct".
        betas: (β_h, β_J) by which to divide instead of the schedule's; with "ghost", β_h is that
            of the couplings to the ghost spin.
        calibration: A file that ``qattn calibrate`` wrote; its recommendation replaces defaults
            of the arguments above.
        warn_divergence: Warn when the mean Kullback-Leibler divergence from the target exceeds
            this (nats). It is exact, over at most :data:`JUDGED_PROBLEMS` problems per size.
            ``math.inf`` switches the warning off, not the figure in ``info``.

    Raises:
        ValueError: An argument has another value, or a schedule file is of the wrong form.
        FileNotFoundError: There is no such file.
    """

    def __init__(
        self,
        schedule: AnnealSchedule | str | Path | None = None,
        annealing_time: float | None = None,
        *,
        sheet: str | None = None,
        field_encoding: str | None = None,
        betas: tuple[float, float] | None = None,
        calibration: str | Path | None = None,
        warn_divergence: float = 0.1,
    ) -> None:
        settings = AnnealerSettings() if calibration is None else load_settings(calibration)
        self.settings = settings.replaced(
            schedule=schedule,
            annealing_time=annealing_time,
            sheet=sheet,
            field_encoding=field_encoding,
            betas=betas,
        )
        self.schedule = self.settings.make_schedule()
        self.beta_h, self.beta_J = self.settings.effective_betas(self.schedule)
        self.warn_divergence = warn_divergence

    @abstractmethod
    def _solver(
        self, h: Float[Tensor, "problems n"], J: Float[Tensor, "problems n n"]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """A function that takes (h, J) of some of these problems to their final probabilities.

        h and J are in D-Wave's signs and the schedule's units.
        """

    @torch.no_grad()
    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw independent reads of |ψ|²; see :meth:`Backend.sample`.

        ``info`` holds the settings and the mean ``divergence`` from the target in nats (of the
        judged problems; nan without any).
        """
        check_num_reads(num_reads)
        generator = torch.Generator(batch.h.device).manual_seed(drawn_seed(seed))
        G, Q, n = batch.h.shape
        uniforms = torch.rand(
            G * Q, num_reads, generator=generator, dtype=torch.float64, device=batch.h.device
        )
        spins = torch.zeros(G * Q, num_reads, n, dtype=torch.int8, device=batch.h.device)
        judged: list[Tensor] = []
        with sampling_clock.running(batch.h.device):
            for some in self._programmed(batch):
                first = True
                for block, probabilities in self._blocks(some):
                    if first:
                        judged.append(some.divergence(probabilities[:JUDGED_PROBLEMS]))
                        first = False
                    states = invert_cdf(probabilities, uniforms[some.index[block]])
                    bits = (states.unsqueeze(-1) >> torch.arange(some.n, device=states.device)) & 1
                    spins[some.index[block], :, : some.n] = (2 * bits - 1).to(torch.int8)
        divergence = float(torch.cat(judged).mean()) if judged else float("nan")
        self._warn(divergence, sum(map(len, judged)))
        info = self.settings.to_dict() | {
            "backend": self.name,
            "schedule": self.schedule.name,
            "annealing_time": self.schedule.annealing_time,
            "beta_h": self.beta_h,
            "beta_J": self.beta_J,
            "divergence": divergence,
        }
        return SpinSamples(spins.view(G, Q, num_reads, n), info=info)

    @torch.no_grad()
    def probabilities(self, batch: IsingBatch) -> Float[Tensor, "groups queries states"]:
        """Exact distribution of the reads of every query over its 2^n states.

        State i has spin j up where bit j of i is set (:func:`qattn.states.states`); states
        in which an absent spin is up have probability 0.

        Raises:
            MemoryError: The result needs more than :data:`PROBABILITIES_LIMIT`.
        """
        G, Q, n = batch.h.shape
        need = G * Q * batch.h.element_size() << n
        if need > PROBABILITIES_LIMIT:
            raise MemoryError(
                f"The probabilities of {G} groups x {Q} queries x 2^{n} states need "
                f"{need / 2**30:.3g} GiB, and the limit is {PROBABILITIES_LIMIT / 2**30:.3g} GiB: "
                f"draw reads, or take fewer queries at a time."
            )
        found = batch.h.new_zeros(G * Q, 1 << n)
        found[:, 0] = 1.0
        for some in self._programmed(batch):
            for block, probabilities in self._blocks(some):
                found[some.index[block], : 1 << some.n] = probabilities
        return found.view(G, Q, -1)

    @torch.no_grad()
    def divergence(self, batch: IsingBatch) -> Float[Tensor, "groups queries"]:
        r"""Exact Kullback-Leibler divergence Σ_s P(s) log(P(s)/p(s)) from the target, in nats."""
        found = batch.h.new_zeros(batch.h.shape[:2]).flatten()
        for some in self._programmed(batch):
            for block, probabilities in self._blocks(some):
                found[some.index[block]] = some.divergence(probabilities, block)
        return found.view(batch.h.shape[:2])

    def _programmed(self, batch: IsingBatch) -> Iterator[Programmed]:
        return program(batch, self.beta_h, self.beta_J, self.settings.field_encoding)

    def _blocks(self, some: Programmed) -> Iterator[tuple[slice, Tensor]]:
        """Probabilities of the original spins, a block of problems at a time."""
        problems = len(some.h)
        solve = self._solver(some.h, some.J)
        size = max(1, BLOCK_BYTES // (some.h.element_size() << some.h.shape[1]))
        for lo in range(0, problems, size):
            block = slice(lo, min(lo + size, problems))
            found = solve(some.h[block], some.J[block])
            yield block, without_ghost_states(found) if some.ghost else found

    def _warn(self, divergence: float, problems: int) -> None:
        if divergence > self.warn_divergence:
            warnings.warn(
                f"Reads of backend {self.name!r} are expected to diverge from the Boltzmann "
                f"distribution by {divergence:.2g} nats (mean of {problems} problems), more than "
                f"`warn_divergence` = {self.warn_divergence:g}: these fields and couplings are too "
                f"strong for schedule {self.schedule.name!r} at {self.schedule.annealing_time:g} "
                f"ns with field_encoding={self.settings.field_encoding!r}. `qattn calibrate` "
                f"compares settings; refine_sweeps brings reads nearer.",
                DivergenceWarning,
                stacklevel=3,
            )
