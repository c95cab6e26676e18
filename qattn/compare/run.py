"""Running a comparison: every sampler on every set of problems, with the same seed."""

import time
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from qattn.backends import Backend, refine
from qattn.backends.spec import SamplerSpec
from qattn.compare.bench import FAILURES, Bench, Progress, reason
from qattn.compare.results import CompareSettings, Comparison, SamplerResult, SetResult, shown_label
from qattn.compare.sweeps import annealing_times, reads_and_strengths
from qattn.ising.batch import IsingBatch
from qattn.quality.split import split_by_problem


def compare(
    samplers: Sequence[SamplerSpec],
    problems: Mapping[str, IsingBatch],
    settings: CompareSettings,
    *,
    folder: Path | None = None,
    progress: Progress = lambda _: None,
) -> Comparison:
    """Judge samplers on sets of problems.

    All samplers are called with the same seed, so that recorded reads can be replayed. One that
    fails is noted with its reason; the others continue.

    Args:
        samplers: The samplers to compare.
        problems: Sets of problems by name.
        settings: Numbers of reads, sweeps and seeds.
        folder: Where backends may keep records (a QPU's journal).
        progress: Called with a line before each part of the work.

    Raises:
        ValueError: There is no such sampler or option, or no problems.
        ImportError: A package that a sampler needs is missing.
    """
    if not problems:
        raise ValueError("Argument `problems` must hold a set of problems, but is empty.")
    backends = {spec.label: spec.build() for spec in samplers}
    benches, sets = [], []
    with ExitStack() as stack:
        failed: dict[str, str] = {}
        shown = {label: label for label in backends}
        for label, backend in backends.items():
            try:
                backend.open(folder)
            except FAILURES as error:
                failed[label] = reason(error)
            stack.callback(backend.close)
        for name, batch in problems.items():

            def report_progress(text: str, name: str = name) -> None:
                progress(f"{name}: {text}")

            bench = Bench(batch, settings, report_progress)
            results: list[SamplerResult] = []
            for spec in samplers:
                if spec.label in failed:
                    results.append(SamplerResult(spec.label, None, None, failed[spec.label]))
                else:
                    drawn = _sampled(spec.label, backends[spec.label], bench)
                    shown[spec.label] = drawn[0].label
                    results += drawn
            reference = bench.reference
            counts = torch.full((reference.num_problems,), float(settings.num_reads)).double()
            set_result = SetResult(name, reference, bench.floor(counts), results, {})
            working = {shown[k]: b for k, b in backends.items() if k not in failed}
            set_result.sweeps.update(reads_and_strengths(working, set_result.judged, bench))
            sets.append(set_result)
            benches.append(bench)
    if settings.annealing_times:  # after the stack has closed: a device's journal is free again
        timed = [s for s in samplers if s.label not in failed and s.takes("annealing_time")]
        for set_result, bench in zip(sets, benches, strict=True):
            set_result.sweeps["annealing_time"] = annealing_times(
                {shown[s.label]: s for s in timed}, set_result.judged, bench, folder
            )
    return Comparison(settings, sets)


def _sampled(label: str, backend: Backend, bench: Bench) -> list[SamplerResult]:
    """The sampler's reads judged, and the same reads after Gibbs sweeps if these are requested."""
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
            label = shown_label(label, backend.provenance())
            return [SamplerResult(label, None, None, reason(error))]
    notes = tuple(dict.fromkeys(" ".join(str(w.message).split()) for w in caught))
    reads = split_by_problem(samples, batch)
    name = shown_label(label, samples.info)
    results = [SamplerResult(name, reads, quality, "", seconds, samples.info, notes)]
    if settings.refine_sweeps and label != "exact":
        bench.progress(f"{label}: {settings.refine_sweeps} Gibbs sweeps")
        start = time.perf_counter()
        # Sweeps with equal draws make reads of different samplers equal: a seed for each.
        seed = zlib.crc32(f"{settings.seed} {label}".encode())
        refined = refine(samples, batch, settings.refine_sweeps, seed)
        seconds += time.perf_counter() - start
        name = f"{name} + {settings.refine_sweeps} sweeps"
        reads, quality = split_by_problem(refined, batch), bench.judge(refined)
        results.append(SamplerResult(name, reads, quality, "", seconds, samples.info, notes))
    return results
