"""Running a comparison: every sampler on every set of problems, with seeds of its own making."""

import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from qattn.backends import Backend, refine
from qattn.compare.results import (
    CompareSettings,
    Comparison,
    SamplerResult,
    SetResult,
    Sweep,
    SweepPoint,
)
from qattn.compare.samplers import SamplerSpec
from qattn.ising import IsingBatch
from qattn.problems import with_strength
from qattn.quality import Floor, Quality, Reference, judge, noise_floor, reference_of
from qattn.quality.apart import reads_apart, total_weights
from qattn.samples import SpinSamples

FAILURES = (ValueError, RuntimeError, OSError, MemoryError, NotImplementedError)
"""What a sampler may raise without ending the comparison of the others."""

Progress = Callable[[str], None]


@dataclass(eq=False)
class _Bench:
    """Problems with their reference, and the floors that were made for them."""

    batch: IsingBatch
    reference: Reference
    settings: CompareSettings
    progress: Progress

    def __post_init__(self) -> None:
        self._floors: dict[bytes, Floor] = {}

    def floor(self, counts: torch.Tensor) -> Floor:
        """The floor of so many reads of each problem."""
        key = counts.numpy().tobytes()
        if key not in self._floors:
            self._floors[key] = noise_floor(
                self.reference,
                counts,
                repeats=self.settings.floor_repeats,
                seed=self.settings.seed + 1,
                estimator=self.settings.estimator,
                progress=self.progress,
            )
        return self._floors[key]

    def judge(self, samples: SpinSamples) -> Quality:
        return judge(
            samples,
            self.batch,
            reference=self.reference,
            floor=self.floor(total_weights(reads_apart(samples, self.batch))),
            estimator=self.settings.estimator,
        )


def compare(
    samplers: Sequence[SamplerSpec],
    problems: Mapping[str, IsingBatch],
    settings: CompareSettings,
    *,
    folder: Path | None = None,
    progress: Progress = lambda _: None,
) -> Comparison:
    """Judge samplers on sets of problems.

    All samplers are asked with the same seed, so that recorded reads are found again. One that
    fails is noted with its reason; the others go on.

    Args:
        samplers: What to compare.
        problems: Sets of problems by name.
        settings: How.
        folder: Where backends may keep records (a QPU's journal).
        progress: Is told what is being done.

    Raises:
        ValueError: There is no such sampler or option, or no problems.
        ImportError: A package that a sampler needs is missing.
    """
    if not problems:
        raise ValueError("Argument `problems` must hold a set of problems, but is empty.")
    backends = {spec.label: spec.build() for spec in samplers}
    with ExitStack() as ending:
        failed: dict[str, str] = {}
        for label, backend in backends.items():
            try:
                backend.open(folder)
            except FAILURES as error:
                failed[label] = _reason(error)
            ending.callback(backend.close)
        sets = []
        for name, batch in problems.items():

            def told(text: str, name: str = name) -> None:
                progress(f"{name}: {text}")

            reference = reference_of(batch, seed=settings.seed, progress=told)
            bench = _Bench(batch, reference, settings, told)
            results: list[SamplerResult] = []
            for spec in samplers:
                if spec.label in failed:
                    results.append(SamplerResult(spec.label, None, None, failed[spec.label]))
                    continue
                results += _sampled(spec.label, backends[spec.label], bench)
            counts = torch.full((reference.num_problems,), float(settings.num_reads)).double()
            sweeps = _sweeps([s for s in samplers if s.label not in failed], backends, bench)
            sets.append(SetResult(name, reference, bench.floor(counts), results, sweeps))
    return Comparison(settings, sets)


def _sampled(label: str, backend: Backend, bench: _Bench) -> list[SamplerResult]:
    """The sampler's reads judged, and the same reads after Gibbs sweeps if asked for."""
    settings, batch = bench.settings, bench.batch
    bench.progress(f"{label}: {settings.num_reads} reads")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        try:
            samples = backend.sample(batch, num_reads=settings.num_reads, seed=settings.seed)
            seconds = time.perf_counter() - start
            quality = bench.judge(samples)
        except FAILURES as error:
            return [SamplerResult(label, None, None, _reason(error))]
    notes = tuple(dict.fromkeys(" ".join(str(w.message).split()) for w in caught))
    apart = reads_apart(samples, batch)
    found = [SamplerResult(label, apart, quality, "", seconds, samples.info, notes)]
    if settings.refine_sweeps and label != "exact":
        bench.progress(f"{label}: {settings.refine_sweeps} Gibbs sweeps")
        start = time.perf_counter()
        # Sweeps with equal draws make reads of different samplers equal: a seed for each.
        seed = zlib.crc32(f"{settings.seed} {label}".encode())
        refined = refine(samples, batch, settings.refine_sweeps, seed)
        seconds += time.perf_counter() - start
        label = f"{label} + {settings.refine_sweeps} sweeps"
        apart, quality = reads_apart(refined, batch), bench.judge(refined)
        found.append(SamplerResult(label, apart, quality, "", seconds, samples.info, notes))
    return found


def _sweeps(
    samplers: Sequence[SamplerSpec], backends: Mapping[str, Backend], bench: _Bench
) -> dict[str, Sweep]:
    settings, sweeps = bench.settings, {}
    reads = settings.num_reads
    if settings.annealing_times:
        timed = [spec for spec in samplers if spec.takes("annealing_time")]
        sweep: Sweep = {}
        for spec in timed:
            label = spec.with_options(annealing_time=None).label
            sweep[label] = [
                _timed(spec, annealing_time, bench) for annealing_time in settings.annealing_times
            ]
        sweeps["annealing_time"] = sweep
    if settings.reads_sweep:
        sweeps["num_reads"] = {
            spec.label: [
                _point(backends[spec.label], bench, n, float(n), spec.label)
                for n in settings.reads_sweep
            ]
            for spec in samplers
        }
    if settings.strengths:
        sweep = {spec.label: [] for spec in samplers}
        for strength in settings.strengths:
            batch = with_strength(bench.batch, strength)
            reference = reference_of(batch, seed=settings.seed, progress=bench.progress)
            stronger = _Bench(batch, reference, settings, bench.progress)
            for spec in samplers:
                point = _point(backends[spec.label], stronger, reads, strength, spec.label)
                sweep[spec.label].append(point)
        sweeps["strength"] = sweep
    return sweeps


def _timed(spec: SamplerSpec, annealing_time: float, bench: _Bench) -> SweepPoint:
    """At another annealing time, with the betas that go with it."""
    try:
        backend = spec.with_options(annealing_time=annealing_time, betas=None).build()
        backend.open(None)
    except FAILURES as error:
        return SweepPoint(annealing_time, None, _reason(error))
    try:
        label = f"{spec.name} at {annealing_time:g} ns"
        return _point(backend, bench, bench.settings.num_reads, annealing_time, label)
    finally:
        backend.close()


def _point(backend: Backend, bench: _Bench, num_reads: int, value: float, label: str) -> SweepPoint:
    bench.progress(f"{label}: {num_reads} reads at {value:g}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the figures say it, and the first run has warned
        try:
            samples = backend.sample(bench.batch, num_reads=num_reads, seed=bench.settings.seed)
            return SweepPoint(value, bench.judge(samples))
        except FAILURES as error:
            return SweepPoint(value, None, _reason(error))


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
