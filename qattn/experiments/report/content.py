"""What a report says of an experiment, before it becomes a page."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qattn.experiments.claims import Verdict, judge
from qattn.experiments.figures import draw
from qattn.experiments.reading import available_experiments
from qattn.experiments.report.claims import claims_table, in_order
from qattn.experiments.report.table import Table
from qattn.experiments.report.trainings import (
    arms_table,
    fits_table,
    made_with,
    missing_table,
    steps_table,
)
from qattn.experiments.results import Results
from qattn.experiments.standing import in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Content:
    """Texts, tables and figures of a report.

    Attributes:
        name: Name of the experiment.
        title: Its title.
        whose: Whose claims they are.
        paper: What is reported there.
        verdicts: The verdicts on its claims.
        claims: Table of them, numbered.
        reasons: Why each verdict is what it is, in the table's order.
        arms: Table of the trainings.
        steps: Table of the steps to values of a metric.
        fits: Table of the fits over lengths.
        missing: Table of what is not finished.
        commands: Commands that make it.
        effort: How much was trained, and how long that took.
        versions: What it was trained with.
        emulated: Whether a QPU was an emulator.
        figures: The figures by name.
    """

    name: str
    title: str
    whose: str
    paper: str
    verdicts: list[Verdict]
    claims: Table
    reasons: list[str]
    arms: Table
    steps: Table
    fits: Table
    missing: Table
    commands: list[str]
    effort: str
    versions: Mapping[str, str]
    emulated: bool
    figures: Mapping[str, "Figure"] = field(repr=False)


def content(results: Results) -> Content:
    """All that a report says, from results alone."""
    verdicts, definition = judge(results), results.definition
    claims = claims_table(verdicts)
    rows = [[f"{number}. {says}", *cells] for number, (says, *cells) in enumerate(claims.rows, 1)]
    return Content(
        name=results.experiment,
        title=definition["title"],
        whose=definition.get("whose", "The paper"),
        paper=definition.get("paper", ""),
        verdicts=verdicts,
        claims=Table(claims.columns, rows),
        reasons=[verdict.reason for verdict in in_order(verdicts)],
        arms=arms_table(results),
        steps=steps_table(results),
        fits=fits_table(results),
        missing=missing_table(results),
        commands=commands(results),
        effort=effort(results),
        versions=made_with(results),
        emulated=any(t.provenance.get("emulated") for t in results.trainings),
        figures=draw(results),
    )


def commands(results: Results) -> list[str]:
    """The command that trains what is missing and writes the report, and that which only writes."""
    name = results.experiment
    if name not in available_experiments():
        name += ".toml"
    every = [results.definition, *results.definition.get("parts", ())]
    texts = any(table.get("settings", {}).get("task") == "shakespeare" for table in every)
    download = " --download" if texts else ""
    return [f"qattn experiment run {name}{download}", f"qattn experiment report {name}"]


def effort(results: Results) -> str:
    """How much was trained, and the time of all steps."""
    trainings = results.trainings
    members = sum(len(training.seeds) for training in trainings)
    hours = in_words(math.fsum(training.seconds for training in trainings))
    text = f"{len(trainings)} trainings of {members} models in all, {hours} of one core."
    text = text if trainings else "No training is finished."
    if results.missing:
        known = [m.seconds_needed for m in results.missing if m.seconds_needed is not None]
        text += f" Not finished: {len(results.missing)} more"
        text += f", which take {in_words(math.fsum(known))}" if known else ""
        unknown = len(results.missing) - len(known)
        text += f"; the time of {unknown} is not known." if unknown else "."
    return text
