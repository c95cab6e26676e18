"""`qattn generate`: text from runs, the seed, reads, and the table of attention."""

import re

import pytest
import torch
from _support.command_line import run
from _support.trainings import SMALL

import qattn
from qattn.cli.run.generate import Printer
from qattn.training import TrainConfig, train
from qattn.training.tasks import make_task

pytestmark = pytest.mark.usefixtures("as_users_call")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of each task, an ensemble of two."""
    root = tmp_path_factory.mktemp("runs")
    text = root / "text.txt"
    text.write_text("to be or not to be\n" * 20, encoding="utf-8")
    for task, options in {
        "shakespeare": {"data": str(text), "couplings": "banded", "ensemble": 2},
        "brackets": {"attention": "softmax"},
    }.items():
        config = TrainConfig(**(SMALL | options), task=task, steps=2)
        train(config, root / task, quiet=True)
    return root


def test_a_text_and_its_seed(monkeypatch, capsys, folder):
    def text(*options):
        status, out, err = run(
            monkeypatch, capsys, "generate", folder / "shakespeare", "--prompt", "to be", *options
        )
        assert (status, err) == (0, "")
        return out

    found = text("--tokens", 30, "--seed", 1)
    assert found.startswith("to be")
    assert len(found) == 5 + 30 + 1
    assert found.endswith("\n")
    assert text("--tokens", 30, "--seed", 1) == found
    assert text("--tokens", 30, "--seed", 2) != found
    assert text("--tokens", 30, "--seed", 1, "--member", 1) != found
    assert text("--tokens", 30) != text("--tokens", 30)
    model, task = qattn.load(folder / "shakespeare")
    tokens = model.generate(task.encode("to be")[None], 30, temperature=0.0)
    assert text("--tokens", 30, "--temperature", 0) == task.decode(tokens[0]) + "\n"
    assert text("--tokens", 30, "--top-k", 1) == task.decode(tokens[0]) + "\n"


def test_brackets_begin_with_the_start_of_a_word(monkeypatch, capsys, folder):
    status, out, _ = run(
        monkeypatch, capsys, "generate", folder / "brackets", "--prompt", "", "--tokens", 4
    )
    assert status == 0
    assert re.fullmatch(r"[\[\](){}]{0,4}\n", out)


def test_the_table_of_attention(monkeypatch, capsys, folder):
    monkeypatch.setenv("COLUMNS", "100")
    options = "--prompt", "to be", "--tokens", 3, "--temperature", 0, "--attention"
    status, out, _ = run(monkeypatch, capsys, "generate", folder / "shakespeare", *options)
    assert status == 0
    model, task = qattn.load(folder / "shakespeare")
    text = task.encode("to be")
    # The first row: the query of the last token of the prompt, layer 0, both heads.
    weights = model.attention_weights(text[None])[0][0, :, -1]
    row = [line.split("│")[2:4] for line in out.splitlines() if line.startswith("│ e →")]
    assert [cell.strip() for cell in row[0]] == [f"Σ {float(w.sum()):.2f}" for w in weights]
    distance = int(weights[0].argmax()) - 4
    largest = f"{task.token_names(text)[distance + 4]} {distance:2d} {float(weights[0].max()):.2f}"
    assert largest in out
    assert out.count("Σ") == 3 * 2


def test_reads_of_a_sampler(monkeypatch, capsys, folder):
    options = "--tokens", 10, "--seed", 1, "--sampler", "gibbs", "--num-reads", 20
    arguments = "generate", folder / "shakespeare", "--prompt", "to be", *options
    status, out, err = run(monkeypatch, capsys, *arguments)
    assert (status, err) == (0, "")
    assert run(monkeypatch, capsys, *arguments)[1] == out
    status, _, err = run(
        monkeypatch, capsys, "generate", folder / "brackets", "--prompt", "(", *options
    )
    assert status == 1
    assert "`sampler` must be left out for attention without couplings" in err


def test_what_a_sampler_cost_is_said(monkeypatch, capsys, folder):
    from qattn.simulators.gibbs import GibbsBackend

    monkeypatch.setattr(GibbsBackend, "metrics", lambda _: {"qpu_seconds": 1.5})
    options = "--prompt", "to be", "--tokens", 2, "--sampler", "gibbs"
    status, _, err = run(monkeypatch, capsys, "generate", folder / "shakespeare", *options)
    assert (status, err) == (0, "qpu_seconds: 1.5\n")


def test_unknown_characters_are_named(monkeypatch, capsys, folder):
    status, out, err = run(
        monkeypatch, capsys, "generate", folder / "shakespeare", "--prompt", "to BE"
    )
    assert (status, out) == (1, "")
    assert "has 'B', 'E': it knows" in err


def test_what_came_before_an_error_is_printed(monkeypatch, capsys, folder):
    from qattn.transformer import generation

    calls = []

    def fails_later(logits, *_):
        calls.append(logits)
        if len(calls) > 3:
            raise FloatingPointError("no more")
        return torch.tensor([0])

    monkeypatch.setattr(generation, "chosen_token", fails_later)
    status, out, err = run(
        monkeypatch, capsys, "generate", folder / "shakespeare", "--prompt", "to be"
    )
    assert (status, err) == (1, "Error: no more\n")
    assert len(out) == 5 + 3 + 1


def test_a_character_is_printed_when_its_bytes_are_there(capsys, tmp_path):
    (tmp_path / "text.txt").write_text("aé" * 50, encoding="utf-8")
    task = make_task("text", 4, 0, tmp_path / "text.txt", tokens="bytes")
    printer = Printer(task, task.encode("a"))
    shown = [capsys.readouterr().out]
    for byte in (*"é".encode(), *"é".encode()[:1]):
        printer.add(byte)
        shown.append(capsys.readouterr().out)
    printer.end()
    shown.append(capsys.readouterr().out)
    assert shown == ["a", "", "é", "", "\ufffd\n"]
