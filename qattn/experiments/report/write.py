"""The folder of a report."""

from pathlib import Path

from qattn.compare.page import save_pictures, write_page
from qattn.experiments.figures import CAPTIONS
from qattn.experiments.report.content import content
from qattn.experiments.report.markdown import NOTE, experiment_markdown
from qattn.experiments.results import Results


def write_report(
    results: Results, folder: Path, *, command: str = "", created: str = ""
) -> list[Path]:
    """Write results.json, report.html, report.md and the figures; returns their paths.

    The page has all its pictures in it. It shows what is finished, and says what is not.

    Args:
        results: Results of an experiment, of all or of some of its trainings.
        folder: The folder of the report; made if it is missing.
        command: The command line that was called, for the page.
        created: Its date and time, for the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "results.json", folder / "report.md", folder / "report.html"]
    results.write(paths[0])
    report = content(results)
    paths[1].write_text(experiment_markdown(report), encoding="utf-8")
    pictures, files = save_pictures(report.figures, folder, CAPTIONS)
    write_page(
        paths[2],
        package="qattn.experiments.report",
        report=report,
        note=NOTE,
        pictures=pictures,
        emulated=report.emulated,
        versions=report.versions,
        command=command,
        created=created,
    )
    return [*paths, *files]
