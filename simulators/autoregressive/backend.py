"""Reads from an autoregressive sampler, with ln q and weights, as a backend."""

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from qattn._clock import sampling_clock
from qattn.backends.base import Backend, drawn_seed
from qattn.backends.options import check_words, option
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.simulators.autoregressive.checkpoint import load_sampler
from qattn.simulators.autoregressive.importance import importance
from qattn.simulators.autoregressive.sampling import (
    Draws,
    Sampler,
    anneal,
    metropolis,
    normalised,
    resampled,
)
from qattn.simulators.autoregressive.sampling.lost_states import least_ess
from qattn.simulators.autoregressive.sampling.pilot import choose, largest_eigenvalue
from qattn.simulators.autoregressive.sampling.population_annealing import START_ESS
from qattn.simulators.autoregressive.sampling.sampler import as_groups
from qattn.simulators.autoregressive.settings import Logit, NetSettings, Order

LOW_ESS = 0.1
"""Effective share of the reads below which there is a warning."""

LOW_ESS_OF_FAMILIES = 0.01
"""The same of annealed reads: a family's reads are far from equal."""

ANNEALED_ESS = 0.3
"""Effective share below which `anneal` "auto" anneals a problem."""

CHUNK_ELEMENTS = 1 << 24
"""Numbers in the couplings and spins of problems that are annealed at a time."""


class EssWarning(UserWarning):
    """Reads of an autoregressive sampler have weights that are too uneven to tell much."""


class AutoregressiveBackend(Backend):
    r"""Reads drawn spin by spin from q(s) = Π_i q(s_i | s_{<i}), with weights that make them p's.

    The conditionals come from mean-field theory or message passing and need no training; a fitted
    sampler (`checkpoint`) is nearer to p. As ln q is known, weights

    .. math:: w_r = R\, \frac{e^{-\beta E_r} / q(s_r)}{\sum_t e^{-\beta E_t} / q(s_t)}

    make estimates from R reads consistent for every q: weighted means err by O(1/R). They are worth
    ESS · R independent reads, in (0, 1], though the weights sum to R. ``weighted=False``
    leaves the weights out (reads of q, which are biased), and ``resample=True`` draws R whole reads
    by the weights, as things need that count reads: some of them are then equal.

    Where the ESS is below 0.1, which strong couplings bring about, there is an :class:`EssWarning`.
    Population annealing from q (`anneal`) and Metropolis steps help, as `refine_sweeps` do.

    >>> import torch
    >>> from qattn import IsingBatch
    >>> batch = IsingBatch(torch.full((1, 1, 3), 0.5), torch.zeros(1, 3, 3))
    >>> samples = AutoregressiveBackend().sample(batch, num_reads=4, seed=0)
    >>> samples.weights.round(decimals=6).tolist()  # without couplings q is p
    [[[1.0, 1.0, 1.0, 1.0]]]
    """

    name: ClassVar[str] = "autoregressive"
    description: ClassVar[str] = "spin by spin with ln q, weighted reads, any size"

    @dataclass(frozen=True)
    class Options(Backend.Options):
        """How reads are drawn, and what becomes of them."""

        weighted: bool = option(True, "Give reads importance weights; without, they are of q.")
        resample: bool = option(
            False, "Draw whole reads by the weights instead, of which some are equal."
        )
        checkpoint: str | Path | None = option(
            None, "Folder of a fitted sampler, which `qattn fit-sampler` wrote."
        )
        anneal: Literal["never", "auto", "always"] = option(
            "never",
            "Population annealing from q at a lower β: never, of problems with a low ESS here or "
            "there (auto), or always.",
        )
        anneal_sweeps: int = option(2, "Gibbs sweeps at each of its temperatures.")
        metropolis_steps: int = option(
            0, "Gibbs sweeps, each with a Metropolis step to a draw of q after it, of whole reads."
        )
        logit: Logit = option("auto", "Physics in the logit: auto, pair, tap, bp or tables.")
        iterations: int = option(
            0, "Steps of TAP or of message passing; 0: a pilot chooses, where reads are many."
        )
        order: Order = option(
            "auto", "Order of drawing: auto, natural, min-fill or nested-dissection."
        )
        exact_width: int = option(
            NetSettings.exact_width,
            "Spins that depend on at most so many are drawn exactly, where J is sparse.",
        )

        def __post_init__(self) -> None:
            check_words(self)
            for name, least in (
                ("anneal_sweeps", 1),
                *((name, 0) for name in ("metropolis_steps", "iterations", "exact_width")),
            ):
                value = getattr(self, name)
                if value < least:
                    raise ValueError(f"Argument `{name}` must be at least {least}, but is {value}.")

    options: Options

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        o = self.options
        fitted = None if o.checkpoint is None else load_sampler(o.checkpoint)
        settings = NetSettings(o.logit, o.iterations, o.order, o.exact_width)
        self._sampler = Sampler(settings, fitted)
        self._last: dict[str, float] = {}

    @torch.no_grad()
    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw reads; see :meth:`Backend.sample`.

        ``info`` holds, of each query, ``ess``, ``log_Z`` with ``log_Z_error``, the variational
        ``log_Z_bound`` ≤ ln Z with ``log_Z_bound_error``, and whether it ``is_annealed``; of each
        group the ``least_ess`` at lower β, and the ``logits`` and ``iterations`` that were chosen;
        of each read ``log_q`` and ``energies`` (βE); the most ``levels`` in which spins were drawn;
        ``mean_ess``, ``worst_ess`` and ``worst_query``, (group, query); the ``acceptance`` of
        Metropolis steps; ``seconds``. Annealed problems have nan for ``log_q``, and an ESS of
        families, in at most so many ``temperatures``.
        """
        start = time.perf_counter()
        generator = torch.Generator(batch.h.device).manual_seed(drawn_seed(seed))
        with sampling_clock.running(batch.h.device):
            samples, info = self._drawn(batch, num_reads, generator)
        worst = int(info["ess"].argmin())
        info["worst_query"] = divmod(worst, batch.num_queries)
        self._last = {"ess": float(info["ess"].mean()), "worst_ess": float(info["ess"].min())}
        if self.options.anneal == "auto":
            self._last["annealed"] = float(info["is_annealed"].double().mean())
        info["mean_ess"], info["worst_ess"] = self._last["ess"], self._last["worst_ess"]
        info["seconds"] = time.perf_counter() - start
        self._warn(info)
        return SpinSamples(samples.spins, samples.weights, info)

    def _drawn(
        self, batch: IsingBatch, num_reads: int, generator: torch.Generator
    ) -> tuple[SpinSamples, dict[str, Any]]:
        strength = largest_eigenvalue(batch, generator)
        settings = choose(self._sampler, batch, strength, num_reads, generator)
        draws = self._sampler.draw(batch, num_reads, generator, settings)
        log_w = draws.log_weights
        info: dict[str, Any] = dict(vars(importance(draws.log_q, draws.energies)))
        info |= {
            "logits": [s.logit for s in settings],
            "iterations": [s.iterations for s in settings],
            "levels": max(len(net.plan.levels) for _, net in self._sampler.nets(batch, settings)),
        }
        info["least_ess"] = least_ess(self._sampler, batch, strength, generator, settings)
        info["is_annealed"] = torch.full_like(info["ess"], self.options.anneal == "always").bool()
        if self.options.anneal == "auto":
            dips = (info["least_ess"] < START_ESS).unsqueeze(1)
            info["is_annealed"] = dips | (info["ess"] < ANNEALED_ESS)
        if bool(info["is_annealed"].any()):
            draws, log_w = self._annealed(batch, draws, info, settings, generator)
        weights = None
        if self.options.resample or self.options.metropolis_steps:
            index = resampled(log_w, generator)
            spins = draws.spins.gather(2, index.unsqueeze(-1).expand_as(draws.spins))
            draws = Draws(spins, draws.log_q.gather(2, index), draws.energies.gather(2, index))
        elif self.options.weighted:
            weights = normalised(log_w)
        if self.options.metropolis_steps:
            steps = self.options.metropolis_steps
            moved = metropolis(self._sampler, batch, draws.spins, steps, generator, settings)
            draws = self._sampler.log_q(batch, moved[0], settings)
            info["acceptance"] = moved[1]
        info |= {"log_q": draws.log_q, "energies": draws.energies}
        return SpinSamples(draws.spins, weights), info

    def _annealed(
        self,
        batch: IsingBatch,
        draws: Draws,
        info: dict[str, Any],
        settings: list[NetSettings],
        generator: torch.Generator,
    ) -> tuple[Draws, Float[Tensor, "g q reads"]]:
        """Draws with annealed ones in place of those of some problems, and ln of all weights."""
        log_w = draws.log_weights
        problems = info["is_annealed"].nonzero().cpu()
        info["temperatures"] = 0
        n, reads = batch.num_spins, log_w.shape[2]
        for part in problems.split(max(1, CHUNK_ELEMENTS // (n * (n + reads)))):
            g, q = part.T
            models = as_groups(batch, part)
            found = anneal(
                self._sampler,
                models,
                reads,
                generator,
                sweeps=self.options.anneal_sweeps,
                settings=[settings[i] for i in g.tolist()],
            )
            info["temperatures"] = max(info["temperatures"], found.temperatures)
            draws.spins[g, q] = found.spins[:, 0]
            draws.log_q[g, q] = torch.nan
            draws.energies[g, q] = found.energies[:, 0]
            log_w[g, q] = found.log_weights[:, 0]
            for name in ("ess", "log_Z", "log_Z_error"):
                info[name][g, q] = getattr(found, name)
        return draws, log_w

    def _warn(self, info: dict[str, Any]) -> None:
        annealed = info["is_annealed"]
        low = info["ess"] < torch.where(annealed, LOW_ESS_OF_FAMILIES, LOW_ESS)
        lost = (info["least_ess"] < LOW_ESS).unsqueeze(1) & ~annealed
        if not bool((low | lost).any()):
            return
        found = [
            f"the ESS is {info['worst_ess']:.2g} of the reads in (group, query) "
            f"{info['worst_query']} and low in {int(low.sum())} of {low.numel()} problems"
        ] * bool(low.any())
        found += [
            f"in {int(lost.sum())} it is low at lower β, down to {info['least_ess'].min():.2g}, so "
            f"that q may have lost states, which its own draws do not show"
        ] * bool(lost.any())
        annealing = "more `anneal_sweeps`"
        if self.options.anneal == "never":
            annealing = "population annealing (`anneal=auto`)"
        fitting = "fit a sampler (`qattn fit-sampler`), " * (self.options.checkpoint is None)
        warnings.warn(
            f"Few effective reads: {'; '.join(found)}. Use {annealing} or `resample=true` with "
            f"`refine_sweeps`, {fitting}or take the backend gibbs, which tempers.",
            EssWarning,
            stacklevel=5,
        )

    def metrics(self) -> dict[str, float]:
        """Mean and worst ESS of the problems of the last call, and of annealed ones the share."""
        return dict(self._last)

    def state_dict(self) -> dict[str, Any]:
        """The metrics: of reads that a resumed training does not draw again."""
        return dict(self._last)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._last = dict(state)
