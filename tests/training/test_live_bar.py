"""What a training shows while it runs."""

import io

import pytest
from rich.console import Console

from qattn.training import TrainConfig
from qattn.training import progress as shown
from qattn.training.progress import Progress


def screen(monkeypatch, config, metric, *, terminal=True, width=80):
    """A bar that draws to a text, and that text."""
    text = io.StringIO()

    def console(**options):
        return Console(file=text, force_terminal=terminal, width=width, color_system=None)

    monkeypatch.setattr(shown, "Console", console)
    return Progress(config, metric), text


def lines(bar):
    """The lines of the bar as they are drawn now."""
    text = io.StringIO()
    Console(file=text, width=80).print(bar.get_renderable())
    return text.getvalue().splitlines()


MADE = {"step": 99_999, "seconds": 1e5, "sampling_seconds": 7e4}
PAID = {"qpu_seconds": 1234.5, "qpu_seconds_left": 2345.6, "beta_h": 8.0}


@pytest.mark.parametrize("sampler", ["exact", "neal", "dwave"])
def test_two_lines_of_80_columns_hold_all_of_a_long_run(monkeypatch, sampler):
    config = TrainConfig(steps=100_000, sampler=sampler, task="shakespeare")
    bar, _ = screen(monkeypatch, config, "perplexity")
    bar.begin(0)
    bar.validation({"step": 50_000, "perplexity": 123.4567})
    bar.step(MADE, 12.3456, PAID if sampler == "dwave" else {})
    bar.started_at -= 4.8 * 99_999
    for status in ("", "validating"):
        bar.step(MADE, 12.3456, PAID if sampler == "dwave" else {})
        bar.status(status)
        drawn = lines(bar)
        assert len(drawn) == 2
        assert "…" not in "".join(drawn)
        assert "99999/100000" in drawn[0]
        assert "left" in drawn[0]
        assert all(word in drawn[1] for word in ("loss 12.3456", "perplexity 123.4567"))
        assert status in drawn[0]
        assert "4.8 s/step" in drawn[1]
        assert ("70% sampling" in drawn[1]) == (sampler == "neal")
        assert ("QPU 1234 s, 2346 s left" in drawn[1]) == (sampler == "dwave")


def test_it_moves_with_every_step_and_says_what_takes_long(monkeypatch):
    bar, _ = screen(monkeypatch, TrainConfig(steps=1000), "accuracy")
    bar.begin(0)
    assert "starting" in lines(bar)[0]
    bar.step({"step": 1, "seconds": 0.1, "sampling_seconds": 0.0}, 2.0, {})
    assert "1/1000" in lines(bar)[0]
    assert "loss 2.0000" in lines(bar)[1]
    assert "starting" not in lines(bar)[0]


def test_a_pipe_gets_a_line_at_the_start_and_every_few_seconds(monkeypatch):
    bar, text = screen(monkeypatch, TrainConfig(steps=9, seed=3), "accuracy", terminal=False)
    with bar:
        bar.begin(0)
        assert text.getvalue() == "training brackets, boltzmann, exact, seed 3: 9 steps\n"
        bar.step({"step": 1, "seconds": 0.1, "sampling_seconds": 0.0}, 2.0, {})
        assert text.getvalue().count("\n") == 1
        bar.printed_at -= shown.LINE_EVERY
        bar.step({"step": 2, "seconds": 0.2, "sampling_seconds": 0.0}, 2.0, {})
        assert text.getvalue().splitlines()[1].startswith("step 2 of 9: loss 2.0000, ")
