"""Reports of experiments: pages of tables, verdicts and figures, from results alone."""

from qattn.experiments.report.content import Content, content
from qattn.experiments.report.markdown import all_claims, experiment_markdown, short_claims
from qattn.experiments.report.write import write_report

__all__ = [
    "Content",
    "all_claims",
    "content",
    "experiment_markdown",
    "short_claims",
    "write_report",
]
