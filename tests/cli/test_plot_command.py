"""`qattn plot`: curves of several runs, what they are called, and where they stand."""

import numpy as np
import pytest
from _support.command_line import run
from _support.trainings import SMALL
from matplotlib.collections import PolyCollection

from qattn.training import RunFolder, TrainConfig
from qattn.training.runs import overlay

pytestmark = pytest.mark.usefixtures("as_users_call")


def written(folder, records, **settings):
    """A run of these settings and lines of metrics."""
    made = RunFolder(folder)
    made.create(TrainConfig(**SMALL | settings))
    for record in records:
        made.append_metrics(record)
    return folder


def validated(step, loss, **more):
    return {"step": step, "validation_loss": loss, "accuracy": 1 - loss / 4, **more}


@pytest.fixture
def runs(tmp_path):
    """A run of one seed, with the times of its steps, and an ensemble with intervals."""
    one = [
        validated(0, 2.0),
        {"step": 10, "loss": 1.8, "seconds": 5.0},
        validated(10, 1.5),
        {"step": 20, "loss": 1.2, "seconds": 15.0},
        validated(15, 1.2),
    ]
    of_three = [
        validated(step, loss, validation_loss_interval=[loss - 0.1, loss + 0.2])
        for step, loss in ((0, 2.1), (10, 1.9))
    ]
    return [
        written(tmp_path / "one", one, attention="softmax"),
        written(tmp_path / "three", of_three, ensemble=3),
    ]


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves_are_those_of_the_metrics(runs):
    figure = overlay(runs)
    left, right = figure.axes
    assert left.get_ylabel() == "validation loss (nats)"
    assert right.get_ylabel() == "accuracy"
    one, three = left.lines
    assert one.get_xydata().tolist() == [[0, 2.0], [10, 1.5], [15, 1.2]]
    assert three.get_xydata().tolist() == [[0, 2.1], [10, 1.9]]
    (band,) = [each for each in left.collections if isinstance(each, PolyCollection)]
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(1.8)
    assert corners[:, 1].max() == pytest.approx(2.3)
    assert np.allclose(band.get_facecolor()[0][:3], _rgb(three))
    assert labels(figure) == ["softmax, ensemble 1", "boltzmann, ensemble 3"]


def _rgb(line):
    from matplotlib.colors import to_rgb

    return to_rgb(line.get_color())


def test_against_seconds_validations_stand_between_the_training_lines(runs):
    (axes,) = overlay(runs[:1], ["validation_loss"], against="seconds").axes
    # Step 15 lies in the middle of steps 10 and 20, which ended after 5 s and 15 s.
    assert axes.lines[0].get_xdata().tolist() == [0.0, 5.0, 10.0]
    assert axes.get_xlabel() == "time of the steps (s)"
    (axes,) = overlay(runs, ["loss"], against="seconds").axes
    assert axes.lines[0].get_xydata().tolist() == [[5.0, 1.8], [15.0, 1.2]]
    assert axes.lines[1].get_xydata().tolist() == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([{"lr": 0.1}, {"lr": 0.2}], ["lr 0.1", "lr 0.2"]),
        ([{}, {"couplings": "banded", "relative": True}],
         ["boltzmann, relative False", "boltzmann (banded), relative True"]),
        ([{}, {"block_size": 4, "couplings": "block"}],
         ["boltzmann, block size default", "boltzmann (block), block size 4"]),
        ([{}, {}], ["0", "1"]),
        ([{}, {"threads": 2}], ["0", "1"]),
        ([{"seed": 1}, {"seed": 2}, {"seed": 2}], ["seed 1", "seed 2 (1)", "seed 2 (2)"]),
    ],
)  # fmt: skip
def test_runs_are_called_by_what_differs(tmp_path, settings, expected):
    folders = [
        written(tmp_path / str(number), [validated(0, 1.0)], **each)
        for number, each in enumerate(settings)
    ]
    assert labels(overlay(folders)) == expected


def test_writes_both_formats(runs, tmp_path, monkeypatch, capsys):
    status, printed, said = run(monkeypatch, capsys, "plot", *runs)
    assert (status, printed) == (0, f"{tmp_path / 'curves.png'} (and .svg)\n"), said
    out = tmp_path / "new" / "arms.svg"
    words = ["--metric", "loss", "--metric", "accuracy", "--x", "seconds", "--out", out]
    assert run(monkeypatch, capsys, "plot", *runs, *words)[0] == 0
    assert "<svg" in out.read_text()
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert run(monkeypatch, capsys, "plot", *runs, "--out", tmp_path / "lr-0.1")[0] == 0
    assert (tmp_path / "lr-0.1.png").is_file()


def test_says_what_is_wrong(runs, tmp_path, monkeypatch, capsys):
    status, _, said = run(monkeypatch, capsys, "plot", runs[0], "--metric", "entropy")
    assert status == 1
    assert said == (
        "Error: No run has the metric 'entropy'; there are accuracy, loss, seconds, step, "
        "validation_loss.\n"
    )
    status, _, said = run(monkeypatch, capsys, "plot", runs[0], tmp_path)
    assert (status, said) == (1, f"Error: No run in '{tmp_path}': it has no config.toml.\n")
    with pytest.raises(ValueError, match="`against` must be step or seconds, but is 'date'"):
        overlay(runs, against="date")
