"""Pictures of a run: what they say of it, and what they must not hide."""

import math

import numpy as np
import pytest
import torch
from _support.qpu_backends import credentials_of
from _support.trainings import SMALL

from qattn.hardware.emulator import EmulatedQPU
from qattn.training import TrainConfig, plot_run, plots, train
from qattn.training.tasks import Brackets, Shakespeare

TINY = {**SMALL, "context": 4, "batch_size": 4}


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, by name."""
    from matplotlib.figure import Figure

    saved, real = {}, Figure.savefig

    def savefig(figure, path, **options):
        saved[path.name] = figure
        real(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def title(figure):
    return figure.get_suptitle()


def test_every_picture_says_what_was_run_and_is_an_svg_too(tmp_path, figures):
    train(TrainConfig(steps=2, seed=7, ensemble=2, **TINY), tmp_path / "run")
    paths = plot_run(tmp_path / "run")
    stems = {"learning_curves", "couplings", "couplings_by_distance", "attention"}
    assert {path.name for path in paths} == {
        f"{s}.{kind}" for s in stems for kind in ("png", "svg")
    }
    assert all("<svg" in path.read_text() for path in paths if path.suffix == ".svg")
    what = "brackets, boltzmann attention, T = 4, sampler exact, "
    assert title(figures["learning_curves.png"]) == what + "seeds 7 to 8"
    assert title(figures["couplings.png"]) == what + "seed 7"  # of the first member
    assert "EMULATED" not in title(figures["attention.png"])
    assert title(figures["attention.png"]).startswith(f"{what}seed 7\nvalidation example ^")
    left, right = figures["learning_curves.png"].axes
    assert left.lines[0].get_xdata()[-1] == right.lines[0].get_xdata()[-1] == 2
    assert right.lines[0].get_xdata()[0] == 0  # before the first step
    assert len(right.collections) == 1  # the band


def test_an_emulated_qpu_is_called_that_and_the_loss_stands_against_its_seconds(
    tmp_path, figures, packings_are_kept
):
    with EmulatedQPU(shape=(2, 4)) as qpu:
        beta = qpu.settings.beta_J
        paid = {
            "sampler": "dwave", "betas": (beta, beta), "annealing_time": 5.0, "num_reads": 20,
            "credentials": str(credentials_of(qpu, packings_are_kept)),
        }  # fmt: skip
        summary = train(TrainConfig(steps=3, log_every=1, **paid, **TINY), tmp_path / "run")
    plot_run(tmp_path / "run")
    assert all("sampler dwave (EMULATED)" in title(figure) for figure in figures.values())
    seconds = figures["learning_curves.png"].axes[2].lines[0].get_xdata()
    assert len(seconds) == 3
    assert seconds[-1] == pytest.approx(summary["qpu_seconds"])


def test_references_of_the_tasks(tmp_path):
    # Two pairs of three types: 2 · 9 words of 4 brackets.
    assert Brackets(4).references() == {
        "loss": {"entropy of the language": pytest.approx(math.log(18) / 4)},
        "accuracy": {"chance": 1 / 3},
    }
    text = tmp_path / "text.txt"
    text.write_text("aaab" * 100)
    found = Shakespeare(4, data=text).references()
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found["loss"]["frequencies of characters"] == pytest.approx(entropy)
    assert found["perplexity"]["frequencies of characters"] == pytest.approx(math.exp(entropy))


def test_what_a_query_cannot_see_is_grey_and_an_outlier_darkens_nothing():
    weights = torch.full((1, 16, 16), 0.1).tril()
    weights[0, 9, 3] = 0.9
    image = plots.attention_weights([weights], list("abcdefghijklmnop"), "").axes[0].images[0]
    shown = image.get_array()
    assert np.array_equal(np.ma.getmaskarray(shown), ~np.tril(np.ones((16, 16), dtype=bool)))
    assert image.get_clim() == (0, pytest.approx(0.1))


def test_distances_have_standard_errors_and_a_scale_in_common():
    generator = torch.Generator().manual_seed(0)
    J = torch.randn(2, 6, 6, generator=generator)
    figure = plots.couplings_by_distance([J, 3 * J], "")
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    (bars,) = figure.axes[1].containers
    pairs = J[1].diagonal(2).numpy()
    low, high = bars.lines[2][0].get_segments()[1][:, 1]
    assert (high + low) / 2 == pytest.approx(pairs.mean(), abs=1e-6)
    assert (high - low) / 2 == pytest.approx(pairs.std(ddof=1) / 2, rel=1e-5)


def test_couplings_stand_beside_those_of_the_start(tmp_path, figures):
    train(TrainConfig(steps=1, seed=3, lr=1e-9, warmup=0, **SMALL), tmp_path / "run")
    plot_run(tmp_path / "run")
    learned, start = (figures["couplings.png"].axes[i].images[0] for i in (0, 2))
    assert np.allclose(learned.get_array(), start.get_array(), atol=1e-7)
    assert np.abs(start.get_array()).max() > 1e-3
    assert learned.get_clim() == start.get_clim()
