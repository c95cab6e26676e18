"""The page of results, and the README's table of claims: ``python docs/results_page.py [ROOT]``.

Both are made of ``docs/results/*.json`` alone. With the folder ROOT of experiments their results
are fetched from there first.
"""

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qattn.experiments import Results, available_experiments, read_experiment
from qattn.experiments.report import Content, all_claims, content, experiment_markdown, short_claims
from qattn.experiments.report.markdown import NOTE

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
MARKERS = ("<!-- claims, by docs/results_page.py -->\n", "<!-- end of claims -->\n")

ORDER = ("shakespeare-arms", "brackets-arms", "length-scaling", "couplings-map", "no-ffn-outputs")
"""Experiments that come first, as the paper's figures do; the others follow by name."""

JUDGED = ("title", "whose", "paper", "figures", "claims")
"""Keys of an experiment's file that no training depends on: results take them as they stand now."""

HEAD = """# Results

What the paper claims and what we claim, with the verdicts of experiments: trainings from the same
seeds in every arm, paired statistics, and beside the paper's wording that of a fair control
([](experiments_statistics.md)). Everything here is made of the files in `docs/results/` by
`python docs/results_page.py`; the commands below each experiment make these files.
"""

NOTHING = "No experiment has been run to its end yet.\n"


def read_all(folder: Path) -> list[Results]:
    """The results in a folder, in the page's order."""
    every = [Results.read(file) for file in sorted(folder.glob("*.json"))]
    places = {name: place for place, name in enumerate(ORDER)}
    return sorted(every, key=lambda results: places.get(results.experiment, len(ORDER)))


def results_page(reports: Sequence[Content]) -> str:
    """The page in Markdown; its figures are those of :func:`draw_all` in ``_results``."""
    claims = all_claims(reports).markdown()
    top = f"{claims}\n\n{NOTE}\n" if claims else NOTHING
    pages = [experiment_markdown(each, f"_results/{each.name}/", level=2) for each in reports]
    return "\n".join([HEAD, top, *pages])


def readme_claims(reports: Sequence[Content]) -> str:
    """What stands between the markers of the README."""
    return f"\n{short_claims(reports).markdown() or NOTHING.rstrip()}\n\n"


def with_claims(readme: str, reports: Sequence[Content]) -> str:
    """The README with its table of claims made anew."""
    start, end = map(re.escape, MARKERS)
    return re.sub(
        f"({start}).*?({end})",
        lambda found: found[1] + readme_claims(reports) + found[2],
        readme,
        flags=re.DOTALL,
    )


def draw_all(reports: Sequence[Content], folder: Path) -> None:
    """Draw the figures of the page as SVG, in a folder for each experiment."""
    for report in reports:
        (folder / report.name).mkdir(parents=True, exist_ok=True)
        for name, figure in report.figures.items():
            figure.savefig(folder / report.name / f"{name}.svg")


def fetch(root: Path, folder: Path) -> None:
    """Take the results of the catalogue's experiments from a folder of experiments."""
    folder.mkdir(exist_ok=True)
    for name in available_experiments():
        if (root / name / "results.json").is_file():
            shutil.copy(root / name / "results.json", folder / f"{name}.json")


def judged_now(results: Results, definition: Mapping[str, object]) -> Results:
    """Results with the claims and figures that the experiment's file has now."""
    kept = {key: value for key, value in results.definition.items() if key not in JUDGED}
    now = {key: definition[key] for key in JUDGED if key in definition}
    return replace(results, definition=now | kept)


if __name__ == "__main__":
    folder = DOCS / "results"
    for root in map(Path, sys.argv[1:]):
        fetch(root, folder)
    for results in read_all(folder):
        definition = read_experiment(results.experiment).definition
        judged_now(results, definition).write(folder / f"{results.experiment}.json")
    reports = [content(results) for results in read_all(folder)]
    (DOCS / "results.md").write_text(results_page(reports), encoding="utf-8")
    README.write_text(with_claims(README.read_text("utf-8"), reports), encoding="utf-8")
