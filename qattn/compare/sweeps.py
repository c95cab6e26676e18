"""Samplers against annealing time, number of reads and strength of the problems."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from qattn.backends import Backend
from qattn.backends.spec import SamplerSpec
from qattn.compare.bench import FAILURES, Bench, reason
from qattn.compare.results import Sweep, SweepPoint
from qattn.quality import Quality


def reads_and_strengths(
    backends: Mapping[str, Backend], known: Mapping[str, Quality], bench: Bench
) -> dict[str, Sweep]:
    """Sweeps of reads and strength; points known from the comparison itself are not drawn again."""
    settings, reads = bench.settings, bench.settings.num_reads
    own = {"num_reads": float(reads), "strength": 1.0}
    varied = {
        "num_reads": [(float(n), n, bench) for n in settings.reads_sweep],
        "strength": [(x, reads, bench.with_strength(x)) for x in settings.strengths],
    }
    return {
        name: {
            label: [
                SweepPoint(value, known[label])
                if value == own[name] and label in known
                else _point(backend, at_value, num_reads, value, label)
                for value, num_reads, at_value in values
            ]
            for label, backend in backends.items()
        }
        for name, values in varied.items()
        if values
    }


def annealing_times(
    samplers: Mapping[str, SamplerSpec],
    known: Mapping[str, Quality],
    bench: Bench,
    folder: Path | None,
) -> Sweep:
    """Each sampler at other annealing times, with the betas that go with them."""
    return {
        label: [
            SweepPoint(time, known[label])
            if spec.options.get("annealing_time") == time and label in known
            else _timed(spec, time, bench, folder)
            for time in bench.settings.annealing_times
        ]
        for label, spec in samplers.items()
    }


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
