r"""The base class of simulated quantum annealers: a batch is programmed, annealed and read."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qattn._clock import sampling_clock
from qattn.backends.base import Backend, drawn_seed
from qattn.backends.options import option
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.ising.states import invert_cdf
from qattn.simulators.calibration.calibration_file import load_settings
from qattn.simulators.problems_by_size import EqualSizedProblems, problems_by_size
from qattn.simulators.settings import AnnealSettings

BLOCK_BYTES = 1 << 28
"""Bytes of probabilities that are held at once while reads are drawn."""

PROBABILITIES_LIMIT = 8 * 2**30
"""Bytes of the result of ``probabilities``; assign to ``quantum_annealing.PROBABILITIES_LIMIT``."""

JUDGED_PROBLEMS = 8
"""Problems of each size whose divergence is computed at every call."""


class DivergenceWarning(UserWarning):
    """The anneal is outside the regime in which it samples from the target distribution."""


class QuantumAnnealingSimulator(Backend):
    r"""A simulated diabatic anneal, used as a sampler of Boltzmann distributions.

    A batch is programmed so that, to first order, reads have its distribution: with the effective
    inverse temperatures of :func:`~qattn.simulators.effective_beta.effective_betas` (fields
    and couplings see different temperatures),

    - field_encoding "direct": h/β_h and J/β_J;
    - field_encoding "ghost": one more spin carries the fields, so that every term is a coupling
      and (h, J)/β_J is programmed; reads are multiplied by it. The only way on a QPU whose fast
      anneal allows no fields.

    The mean Kullback-Leibler divergence of the reads from the target is exact, over at most
    :data:`JUDGED_PROBLEMS` problems per size. It is in ``info``, and a warning is given where it
    exceeds ``warn_divergence`` (``math.inf`` switches the warning off).

    Raises:
        ValueError: An argument has another value, or a schedule file is of the wrong form.
        FileNotFoundError: There is no such file.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(AnnealSettings):
        """The anneal, and how a batch is programmed; what is not given is the calibration's."""

        calibration: str | Path | None = option(
            None, "File that `qattn calibrate` wrote; it recommends the settings above."
        )
        warn_divergence: float = option(
            0.1, "Mean divergence from the target, in nats, above which a warning is given."
        )

        def anneal_settings(self) -> AnnealSettings:
            """The settings; reads the calibration.

            Raises:
                FileNotFoundError: There is no such calibration.
                ValueError: It is not the calibration of a simulated annealer.
            """
            calibration = self.calibration
            settings = AnnealSettings() if calibration is None else load_settings(calibration)
            return settings.replaced(
                **{name: getattr(self, name) for name in AnnealSettings.__dataclass_fields__}
            )

    options: Options

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.settings = self.options.anneal_settings()
        self.schedule = self.settings.make_schedule()
        self.beta_h, self.beta_J = self.settings.effective_betas(self.schedule)

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
        generator = torch.Generator(batch.h.device).manual_seed(drawn_seed(seed))
        G, Q, n = batch.h.shape
        uniforms = torch.rand(
            G * Q, num_reads, generator=generator, dtype=torch.float64, device=batch.h.device
        )
        spins = torch.zeros(G * Q, num_reads, n, dtype=torch.int8, device=batch.h.device)
        judged: list[Tensor] = []
        with sampling_clock.running(batch.h.device):
            for problems, block, probabilities in self._blocks(batch):
                if block.start == 0:
                    judged.append(problems.divergence(probabilities[:JUDGED_PROBLEMS]))
                states = invert_cdf(probabilities, uniforms[problems.index[block]])
                # Spin j of a state is up where bit j of its number is set.
                bits = (states.unsqueeze(-1) >> torch.arange(problems.n, device=states.device)) & 1
                spins[problems.index[block], :, : problems.n] = (2 * bits - 1).to(torch.int8)
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

        State i has spin j up where bit j of i is set (:func:`qattn.ising.states`); states
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
        result = batch.h.new_zeros(G * Q, 1 << n)
        result[:, 0] = 1.0
        for problems, block, probabilities in self._blocks(batch):
            result[problems.index[block], : 1 << problems.n] = probabilities
        return result.view(G, Q, -1)

    @torch.no_grad()
    def divergence(self, batch: IsingBatch) -> Float[Tensor, "groups queries"]:
        r"""Exact Kullback-Leibler divergence Σ_s P(s) log(P(s)/p(s)) from the target, in nats."""
        result = batch.h.new_zeros(batch.h.shape[:2]).flatten()
        for problems, block, probabilities in self._blocks(batch):
            result[problems.index[block]] = problems.divergence(probabilities, block.start)
        return result.view(batch.h.shape[:2])

    def _blocks(self, batch: IsingBatch) -> Iterator[tuple[EqualSizedProblems, slice, Tensor]]:
        """Probabilities of the targets' spins, a block of problems of one size at a time."""
        encoding = self.settings.encoding
        for problems in problems_by_size(batch, (self.beta_h, self.beta_J), encoding):
            h, J = problems.h, problems.J
            solve = self._solver(h, J)
            size = max(1, BLOCK_BYTES // (h.element_size() << h.shape[1]))
            for start in range(0, len(h), size):
                block = slice(start, min(start + size, len(h)))
                yield problems, block, encoding.decode_probabilities(solve(h[block], J[block]))

    def _warn(self, divergence: float, problems: int) -> None:
        limit = self.options.warn_divergence
        if divergence > limit:
            warnings.warn(
                f"Reads of backend {self.name!r} are expected to diverge from the Boltzmann "
                f"distribution by {divergence:.2g} nats (mean of {problems} problems), more than "
                f"`warn_divergence` = {limit:g}: these fields and couplings are too "
                f"strong for schedule {self.schedule.name!r} at {self.schedule.annealing_time:g} "
                f"ns with field_encoding={self.settings.encoding.value!r}. `qattn calibrate` "
                f"compares settings; refine_sweeps brings reads nearer.",
                DivergenceWarning,
                stacklevel=3,
            )
