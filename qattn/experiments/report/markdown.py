"""Reports in Markdown: of one experiment, and of all of them on one page."""

from collections.abc import Iterable, Sequence

from qattn.experiments.claims import Verdict
from qattn.experiments.figures import CAPTIONS
from qattn.experiments.report.claims import claims_table, in_order
from qattn.experiments.report.content import Content
from qattn.experiments.report.table import Table, escaped

NOTE = (
    "A verdict needs ten seeds. The effect is a mean over seeds that the two sides share, positive "
    "in the direction of the claim, with the 95% interval of Student's t (the bootstrap's beside "
    "it where the two disagree); p is two-sided and adjusted over the experiment's claims (Holm); "
    "sd is the effect in standard deviations over seeds."
)
"""What the columns of the table of claims are."""


def experiment_markdown(report: Content, pictures: str = "", level: int = 1) -> str:
    """A report of one experiment.

    Args:
        report: What it says.
        pictures: Folder of the figures, with a slash behind it.
        level: Level of its heading.
    """
    head, below = "#" * level, "#" * (level + 1)
    blocks = [f"{head} {escaped(report.title)}"]
    blocks.append(f"*{report.whose}:* {escaped(report.paper)}" if report.paper else "")
    if report.emulated:
        blocks.append("**EMULATED**: at least one QPU was an emulator.")
    blocks += [report.claims.markdown(), NOTE if report.claims.rows and level == 1 else ""]
    blocks.append("\n".join(f"{n}. {escaped(text)}" for n, text in enumerate(report.reasons, 1)))
    for name in report.figures:
        blocks += [f"![{CAPTIONS[name]}]({pictures}{name}.svg)", f"*{CAPTIONS[name]}*"]
    for heading, table in (
        ("Arms", report.arms),
        ("Steps to a value", report.steps),
        ("Fits", report.fits),
        ("Not finished", report.missing),
    ):
        blocks += [f"{below} {heading}", table.markdown()] if table.rows else []
    made = ", ".join(f"{name} {value}" for name, value in report.versions.items())
    blocks += ["```sh\n" + "\n".join(report.commands) + "\n```", report.effort]
    blocks.append(f"Made with {made}." if made else "")
    return "\n\n".join(filter(None, blocks)) + "\n"


def short_claims(reports: Iterable[Content]) -> Table:
    """The headlines with verdict and effect, controls below what they control."""
    full = claims_table(v for v in _verdicts(reports) if v.claim.headline)
    return Table(full.columns[:4], [row[:4] for row in full.rows])


def all_claims(reports: Sequence[Content]) -> Table:
    """The table of claims of all experiments, and which experiment each is of."""
    experiment = {v.claim.id: report.name for report in reports for v in report.verdicts}
    verdicts = in_order(_verdicts(reports))
    full = claims_table(verdicts)
    rows = [[*row, experiment[v.claim.id]] for row, v in zip(full.rows, verdicts, strict=True)]
    return Table([*full.columns, "experiment"], rows)


def _verdicts(reports: Iterable[Content]) -> list[Verdict]:
    return [verdict for report in reports for verdict in report.verdicts]
