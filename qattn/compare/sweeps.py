"""Samplers against annealing time, number of reads and strength of the problems."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from qattn.backends import Backend
from qattn.backends.spec import SamplerSpec
from qattn.compare.bench import FAILURES, Bench, reason
from qattn.compare.results import SamplerResult, Sweep, SweepPoint
from qattn.problems import with_strength
from qattn.quality import Quality, reference_of


def reads_and_strengths(
    backends: Mapping[str, Backend], known: Mapping[str, Quality], bench: Bench
) -> dict[str, Sweep]:
    """Sweeps of reads and strength; points known from the comparison itself are not drawn again."""
    settings, sweeps = bench.settings, {}
    reads = settings.num_reads
    if settings.reads_sweep:
        sweep: Sweep = {label: [] for label in backends}
        for n in settings.reads_sweep:
            for label, backend in backends.items():
                if n == reads and label in known:
                    sweep[label].append(SweepPoint(float(n), known[label]))
                else:
                    sweep[label].append(_point(backend, bench, n, float(n), label))
        sweeps["num_reads"] = sweep
    if settings.strengths:
        sweep = {label: [] for label in backends}
        for strength in settings.strengths:
            if strength == 1.0:
                stronger = bench
            else:
                batch = with_strength(bench.batch, strength)
                reference = reference_of(batch, seed=settings.seed, progress=bench.progress)
                stronger = Bench(batch, reference, settings, bench.progress)
            for label, backend in backends.items():
                if strength == 1.0 and label in known:
                    sweep[label].append(SweepPoint(strength, known[label]))
                else:
                    sweep[label].append(_point(backend, stronger, reads, strength, label))
        sweeps["strength"] = sweep
    return sweeps


def annealing_times(
    samplers: Sequence[SamplerSpec],
    results: Sequence[SamplerResult],
    bench: Bench,
    folder: Path | None,
) -> Sweep:
    """Each sampler at other annealing times, with the betas that go with them."""
    known = {r.label: r.quality for r in results if r.quality is not None}
    sweep: Sweep = {}
    for spec in samplers:
        points = []
        for annealing_time in bench.settings.annealing_times:
            if spec.options.get("annealing_time") == annealing_time and spec.label in known:
                points.append(SweepPoint(annealing_time, known[spec.label]))
            else:
                points.append(_timed(spec, annealing_time, bench, folder))
        sweep[spec.label] = points
    return sweep


def _timed(
    spec: SamplerSpec, annealing_time: float, bench: Bench, folder: Path | None
) -> SweepPoint:
    try:
        backend = spec.with_options(annealing_time=annealing_time, betas=None).build()
        backend.open(folder)
    except FAILURES as error:
        return SweepPoint(annealing_time, None, reason(error))
    try:
        label = f"{spec.name} at {annealing_time:g} ns"
        return _point(backend, bench, bench.settings.num_reads, annealing_time, label)
    finally:
        backend.close()


def _point(backend: Backend, bench: Bench, num_reads: int, value: float, label: str) -> SweepPoint:
    bench.progress(f"{label}: {num_reads} reads at {value:g}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the figures say it, and the first run has warned
        try:
            samples = backend.sample(bench.batch, num_reads=num_reads, seed=bench.settings.seed)
            return SweepPoint(value, bench.judge(samples))
        except FAILURES as error:
            return SweepPoint(value, None, reason(error))
