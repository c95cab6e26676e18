"""Texts of characters, bytes and words; tasks and tokenisers that other packages add."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qattn.training import TrainConfig, load, train
from qattn.training.tasks import (
    Bytes,
    Characters,
    Shakespeare,
    Text,
    Words,
    available_tasks,
    available_tokenizers,
    make_task,
)

SENTENCE = "To be, or not to be: that's the question.\n\tIs it? "


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(SENTENCE * 30, encoding="utf-8")
    return path


@given(text=st.text())
def test_known_text_is_decoded_as_it_was(text):
    for tokenizer in (Characters(text), Bytes(text), Words(text)):
        tokens = tokenizer.encode(text)
        assert all(0 <= token < tokenizer.vocab_size for token in tokens)
        if not isinstance(tokenizer, Bytes) or text.isprintable():  # no lone surrogates
            assert tokenizer.decode(tokens) == text


@given(content=st.binary())
def test_bytes_of_any_file_are_kept(content):
    tokens = Bytes().encode(content.decode("utf-8", "surrogateescape"))
    assert bytes(tokens) == content
    assert Bytes().decode(tokens) == content.decode("utf-8", "replace")


def test_rare_words_are_one_token(text):
    every = Words("a a a b b c")
    assert [every.decode([t]) for t in range(every.vocab_size)] == ["<unk>", " a", " b", "a", " c"]
    few = Words("a a a b b c", vocab_size=3)
    assert few.vocab_size == 3
    assert few.decode(few.encode("a a b c")) == "<unk> a b<unk>"
    assert every.decode(every.encode("a d")) == "a<unk>"
    with pytest.raises(ValueError, match="`vocab_size` must be at least 2, but is 1"):
        Words("a", vocab_size=1)


@pytest.mark.parametrize("tokens", ["characters", "bytes", "words"])
def test_the_last_tenth_is_held_out(text, tokens):
    task = Text(3, seed=1, data=text, tokens=tokens)
    numbers = task.encode(text.read_text())
    split = len(numbers) - len(numbers) // 10
    inputs, targets = task.validation()
    assert torch.equal(inputs.flatten(), numbers[split : split + inputs.numel()])
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert task.decode(numbers) == text.read_text()
    again = Text(3, seed=1, data=text, tokens=tokens)
    assert torch.equal(task.batch(7, 5)[0], again.batch(7, 5)[0])
    windows = {tuple(row.tolist()) for row in numbers[:split].unfold(0, 3, 1)}
    assert {tuple(row.tolist()) for row in task.batch(0, 200)[0]} <= windows
    # Reference: entropy of the frequencies in the training text.
    shares = torch.bincount(numbers[:split]).double() / split
    entropy = -torch.special.xlogy(shares, shares).sum().item()
    reference = task.references()["perplexity"][f"frequencies of {tokens}"]
    assert reference == pytest.approx(math.exp(entropy))


def test_shakespeare_is_the_text_task_on_its_file(text):
    one, other = Shakespeare(8, seed=2, data=text), Text(8, seed=2, data=text)
    for mine, theirs in zip(one.batch(3, 4), other.batch(3, 4), strict=True):
        assert torch.equal(mine, theirs)
    assert make_task("shakespeare", 3, 0, text, tokens="words").unit == "words"


def test_names_of_tokens_show_white_space(text):
    words = Text(3, data=text, tokens="words")
    assert words.token_names(words.encode("\n\tIs it?")) == ["⏎", "⇥", "Is", "␣it", "?"]
    raw = Text(3, data=text, tokens="bytes")
    assert raw.token_names(raw.encode("é ")) == ["�", "�", "␣"]


def test_texts_and_tokens_that_are_refused(text):
    assert Text(3, data=text, tokens="bytes").vocab_size == 256
    text.write_bytes(b"\xff\r\n" * 100)
    with pytest.raises(ValueError, match=r"not UTF-8: .* --tokens bytes"):
        Text(3, data=text, tokens="words")
    raw = Text(3, data=text, tokens="bytes")
    assert raw.batch(0, 20)[0].unique().tolist() == [10, 13, 255]  # line ends are left alone
    with pytest.raises(ValueError, match="has 300 bytes: a context of 30 needs more than 300"):
        Text(30, data=text, tokens="bytes")
    with pytest.raises(ValueError, match="`data` must be a text file, but is None"):
        make_task("text", 3, 0)
    with pytest.raises(ValueError, match="`vocab_size` must be left out for tokens 'bytes'"):
        Text(3, data=text, tokens="bytes", vocab_size=9)
    with pytest.raises(ValueError, match="`tokens` must be left out for task 'brackets'"):
        make_task("brackets", 4, 0, tokens="words")
    with pytest.raises(ValueError, match="`tokens` must be one of characters, bytes, words, but"):
        TrainConfig(task="text", tokens="syllables")


PACKAGE = """
import torch
from qattn.training.tasks import Brackets

class Squares(Brackets):
    def __init__(self, context, *, seed=0, data=None):
        super().__init__(context, num_types=2, seed=seed)
        self.data = data

class Unfinished:
    vocab_size, metric = 3, "accuracy"
    def __init__(self, context, *, seed=0, data=None): ...
    def batch(self, step, size): ...

class Halves:
    def __init__(self, text):
        self.vocab_size = 2
    def encode(self, text):
        return [int(c > "m") for c in text]
    def decode(self, tokens):
        return "".join("az"[t] for t in tokens)
"""

ENTRY_POINTS = """
[qattn.tasks]
squares = other_package:Squares
unfinished = other_package:Unfinished
gone = no_such_package:Task

[qattn.tokenizers]
halves = other_package:Halves
"""


@pytest.fixture
def other_package(tmp_path, monkeypatch):
    """A folder as pip leaves it, on the path of this process and of those that it starts."""
    folder = tmp_path / "site-packages"
    info = folder / "other_package-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "other_package.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("other_package", None)


def test_another_packages_task_trains_as_others_do(other_package, text, tmp_path):
    assert available_tasks() == ["brackets", "shakespeare", "text", "gone", "squares", "unfinished"]
    assert available_tokenizers() == ["characters", "bytes", "words", "halves"]
    assert "other_package" not in sys.modules  # nothing is loaded to list them
    task = TrainConfig(task="squares", context=4, data=str(text)).make_task(seed=3)
    assert (task.vocab_size, task.seed, task.data) == (5, 3, text)
    halves = make_task("text", 3, 0, text, tokens="halves")
    assert halves.decode(halves.encode("nab")) == "zaa"
    assert "frequencies of tokens" in halves.references()["loss"]
    with pytest.raises(ValueError, match="one of brackets, shakespeare, text, gone, squares, unf"):
        TrainConfig(task="chess")
    with pytest.raises(ImportError, match=r"task 'gone' \(no_such_package:Task\) fails: No module"):
        make_task("gone", 4, 0)
    with pytest.raises(TypeError, match="task 'unfinished' lacks validation, metrics, references"):
        make_task("unfinished", 4, 0)


def test_another_packages_task_is_listed_and_trained(other_package, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(other_package), prepend=":")
    command = [sys.executable, "-m", "qattn", "train", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "squares" in shown
    assert "halves" in shown
    sizes = {"context": 4, "width": 8, "heads": 2, "layers": 1, "batch_size": 4, "steps": 2}
    summary = train(TrainConfig(task="squares", **sizes), tmp_path / "run", quiet=True)
    assert summary["metric"] == "accuracy"
    assert load(tmp_path / "run").task.vocab_size == 5
