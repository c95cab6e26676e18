"""Tables of trainings: what is finished, how it depends on the length, and what is missing."""

from dataclasses import replace
from typing import Any

import numpy as np

from qattn.experiments.claims import Sooner, UndecidableError, read_claim, steps_to
from qattn.experiments.figures.scaling import formula, lines
from qattn.experiments.figures.style import place
from qattn.experiments.report.table import Table, interval_text, mean_text, seed_range
from qattn.experiments.results import Results
from qattn.experiments.standing import in_words


def arms_table(results: Results) -> Table:
    """A row for each finished training: the metrics at the end over seeds, size and time."""
    metrics = list(dict.fromkeys(name for t in results.trainings for name in t.metrics))
    with_place = any(place(training) for training in results.trainings)
    columns = ["arm", *(name.replace("_", " ") for name in metrics), "seeds", "parameters", "steps"]
    rows = [
        [
            *([place(training)] if with_place else []),
            training.arm,
            *(mean_text(training.metrics.get(name, [])) for name in metrics),
            str(len(training.seeds)),
            f"{training.parameters:,}",
            f"{training.steps:,}",
            in_words(training.seconds),
        ]
        for training in results.trainings
    ]
    return Table([*(["part"] if with_place else []), *columns, "time"], rows)


def steps_table(results: Results) -> Table:
    """A row for each arm where a claim "sooner" is made, and value of a metric that it is about.

    Steps are the median over seeds with the least and the most; "> N" where N steps were too few.
    """
    rows: dict[tuple[str, ...], list[str]] = {}
    claims = [read_claim(table).test for table in results.definition.get("claims", ())]
    for test in claims:
        if not isinstance(test, Sooner):
            continue
        try:
            goal = test.goal(results)
        except UndecidableError:
            continue
        for training in results.trainings:
            if not any(replace(side, arm=training.arm).covers(training) for side in test.sides):
                continue
            steps = np.array(steps_to(training, test.metric, goal))
            last = max(training.curves["step"])
            median, least, most = (
                f"> {last:,}" if at == np.inf else f"{max(at, 0):,.0f}"
                for at in (np.median(steps), steps.min(), steps.max())
            )
            there = f"{int((steps < np.inf).sum())} of {len(steps)}"
            key = (place(training), training.arm, f"{test.metric.replace('_', ' ')} {goal:.4g}")
            rows[key] = [*key, f"{median} ({least} to {most})", there]
    with_place = any(row[0] for row in rows.values())
    columns = ["part", "arm", "first at", "steps, median (least to most)", "seeds that get there"]
    shift = 0 if with_place else 1
    return Table(columns[shift:], [row[shift:] for row in rows.values()])


def missing_table(results: Results) -> Table:
    """A row for each training that is not finished, with what it takes and what went wrong."""
    failed = any(m.failure for m in results.missing)
    rows = [
        [
            f"{m.arm} ({place(m)})" if place(m) else m.arm,
            seed_range(m.seeds),
            f"{m.steps_done:,} of {m.steps:,}",
            "not known" if m.seconds_needed is None else in_words(m.seconds_needed),
            *([m.failure] if failed else []),
        ]
        for m in results.missing
    ]
    columns = ["training", "seeds", "steps done", "one core needs"]
    return Table([*columns, *(["failure"] if failed else [])], rows)


def made_with(results: Results) -> dict[str, str]:
    """Versions and CPUs of all trainings; several of one kind are all named."""
    found: dict[str, dict[str, None]] = {}
    for training in results.trainings:
        versions: dict[str, Any] = training.provenance.get("versions", {})
        for name, value in versions.items():
            found.setdefault(name, {})[str(value)] = None
    return {name: " and ".join(values) for name, values in found.items()}


def fits_table(results: Results) -> Table:
    """The fits of the figure `scaling`, with the slopes of gains in ln T."""
    rows = []
    for line in lines(results) if "scaling" in results.definition.get("figures", ()) else ():
        for fit in line.fits():
            ends = fit.intervals.items()
            each = [f"{name} = {interval_text(fit.parameters[name], i)}" for name, i in ends]
            each = ["none: it is the logarithm's limit"] if fit.at_edge else each
            doubt = "" if fit.lack_of_fit != fit.lack_of_fit else f"{fit.lack_of_fit:.2g}"
            where = f"{line.arm} ({line.part})" if line.part else line.arm
            curve = formula(fit) + (", at the edge of exponents" if fit.at_edge else "")
            rows.append(
                [where, line.quantity, curve, "; ".join(each), f"{fit.r_squared:.3f}", doubt]
            )
    columns = ["arm", "quantity", "fit", "95% intervals", "R²", "p of a lack of fit"]
    return Table(columns, rows)
