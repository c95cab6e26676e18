"""Dyck words and Shakespeare: distribution, disjoint sets, determinism, bad input."""

import hashlib
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from qattn.training.tasks import Brackets, Shakespeare, make_task, shakespeare
from qattn.training.tasks.brackets import dyck_words, number_of_words

P_LEAST = 5.7e-7  # two-sided 5 sigma


def is_dyck(word):
    stack = []
    for token in word:
        if token % 2 == 0:
            stack.append(token + 1)
        elif not stack or stack.pop() != token:
            return False
    return not stack


def all_words(length, num_types):
    return {w for w in itertools.product(range(2 * num_types), repeat=length) if is_dyck(w)}


@pytest.mark.parametrize(("length", "num_types"), [(2, 3), (4, 2), (6, 2), (8, 1)])
@pytest.mark.parametrize("biased", [False, True])
def test_words_are_uniform(length, num_types, biased):
    # Chi-square over all words, 100 expected draws each; control: opening with probability 1/2
    # where both are allowed, which favours shallow words.
    words = all_words(length, num_types)
    assert len(words) == number_of_words(length // 2, num_types)
    if biased and length < 6:
        pytest.skip("too short for the bias to show")
    size = 200 * len(words)
    rng = np.random.default_rng(length)
    drawn = list(map(tuple, dyck_words(rng, size, length, num_types)))
    if biased:
        patterns = {w: 0.5 ** sum(0 < d < left for d, left in depths(w)) for w in words}
        total = sum(patterns.values())
        expected = [size * patterns[w] / total for w in words]
    else:
        expected = [size / len(words)] * len(words)
    counts = dict.fromkeys(words, 0)
    for w in drawn:
        counts[w] += 1  # a KeyError here would be a word that is not Dyck
    p_value = stats.chisquare(list(counts.values()), expected).pvalue
    assert (p_value < P_LEAST) if biased else (p_value > P_LEAST)


def depths(word):
    """(depth, places left) before each bracket."""
    depth = 0
    for i, token in enumerate(word):
        yield depth, len(word) - i
        depth += 1 if token % 2 == 0 else -1


@pytest.mark.parametrize("context", [2, 4, 12, 30])
def test_bracket_sets_are_disjoint_and_deterministic(context):
    task, again, other = (
        Brackets(context, seed=1),
        Brackets(context, seed=1),
        Brackets(context, seed=2),
    )
    inputs, targets = task.validation()
    held_out = {tuple(w) for w in targets.tolist()}
    assert len(held_out) == len(targets)
    assert len(held_out) == min(2000, max(1, number_of_words(context // 2, 3) // 10))
    assert (inputs[:, 0] == task.vocab_size - 1).all()
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    for step in (0, 63, 64, 1000):
        batch = task.batch(step, 16)
        assert all(torch.equal(*pair) for pair in zip(batch, again.batch(step, 16), strict=True))
        words = {tuple(w) for w in batch[1].tolist()}
        assert all(is_dyck(w) for w in words)
        assert not words & held_out
    if context > 4:
        assert not torch.equal(task.batch(0, 16)[0], other.batch(0, 16)[0])
        assert not torch.equal(task.batch(0, 16)[0], task.batch(1, 16)[0])


def test_steps_can_be_asked_in_any_order():
    task = Brackets(6)
    forward = [task.batch(step, 4)[1] for step in range(130)]
    assert all(torch.equal(task.batch(step, 4)[1], forward[step]) for step in (129, 0, 64, 63))


def test_bracket_metrics_count_the_type_at_closing_positions_only():
    task = Brackets(4)
    targets = torch.tensor([[0, 1, 2, 3]])
    logits = torch.zeros(1, 4, 7)
    logits[0, 1, 0] = 9.0  # an opening bracket where one closes: its type is not judged by this
    logits[0, 1, 1] = 1.0
    logits[0, 3, 5] = 1.0  # the wrong type
    found = task.metrics(logits, targets)
    assert found["accuracy"] == 0.5
    uniform = task.metrics(torch.zeros(1, 4, 7), targets)
    assert uniform["validation_loss"] == pytest.approx(math.log(7))
    assert "".join(task.token_names(torch.tensor([6, 0, 1, 4, 5]))) == "^(){}"
    assert task.encode("(){").tolist() == [6, 0, 1, 4]
    assert task.decode(task.encode("(){")) == "(){"
    with pytest.raises(ValueError, match=r"has '<', 'a': it knows '\(\)\[\]\{\}'"):
        task.encode("a<")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"context": 5}, "`context` must be even and positive for brackets, but is 5"),
        ({"context": 0}, "even and positive"),
        ({"context": 4, "num_types": 5}, "`num_types` must be from 1 to 4, but is 5"),
        ({"context": 2, "num_types": 1}, "must be 4 or more"),
    ],
)
def test_bad_brackets(arguments, message):
    with pytest.raises(ValueError, match=message):
        Brackets(**arguments)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be,\nthat is the question. " * 30, encoding="utf-8")
    return path


def test_text_windows(text):
    task = Shakespeare(8, seed=3, data=text)
    content = text.read_text()
    split = len(content) - len(content) // 10
    inputs, targets = task.batch(5, 32)
    assert inputs.shape == targets.shape == (32, 8)
    for row, target in zip(inputs, targets, strict=True):
        window = task.decode(torch.cat([row, target[-1:]]))
        assert window in content[:split]
        assert torch.equal(row[1:], target[:-1])
    inputs, targets = task.validation()
    held_out = task.decode(inputs.flatten())
    assert content[split:].startswith(held_out)
    assert len(held_out) >= len(content) // 10 - 9
    again = Shakespeare(8, seed=3, data=text).batch(5, 32)
    assert torch.equal(again[0], task.batch(5, 32)[0])
    assert not torch.equal(Shakespeare(8, seed=4, data=text).batch(5, 32)[0], again[0])
    loss = math.log(task.vocab_size)
    found = task.metrics(torch.zeros(2, 8, task.vocab_size), targets[:2])
    assert found["validation_loss"] == pytest.approx(loss, rel=1e-6)
    assert found["perplexity"] == pytest.approx(task.vocab_size, rel=1e-5)
    assert task.token_names(torch.tensor([0, 1])) == ["⏎", "␣"]
    assert task.decode(task.encode("\n ")) == "\n "
    assert task.encode("").shape == (0,)
    with pytest.raises(ValueError, match="vocabulary only, but has '☃'"):
        task.encode(" ☃")


def test_training_never_reads_the_validation_text(tmp_path):
    # 1,300 different characters: a window tells where it was cut.
    path = tmp_path / "text.txt"
    path.write_text("".join(chr(256 + i) for i in range(1300)), encoding="utf-8")
    task = Shakespeare(8, data=path)
    held_out = set(torch.cat([part.flatten() for part in task.validation()]).tolist())
    seen = set()
    for step in range(200):
        seen |= set(torch.cat([part.flatten() for part in task.batch(step, 32)]).tolist())
    assert not seen & held_out
    assert len(held_out) > 120
    assert max(seen) == 1169  # up to the last tenth, and no further


def test_bad_texts(tmp_path, text, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"No text at .*: give a text with --data"):
        Shakespeare(8, data=tmp_path / "nowhere.txt")
    monkeypatch.setattr(shakespeare, "user_cache_path", lambda name: tmp_path / name)
    with pytest.raises(FileNotFoundError, match="--download"):
        Shakespeare(8)
    with pytest.raises(ValueError, match="1260 characters: a context of 200 needs more than 2000"):
        Shakespeare(200, data=text)
    with pytest.raises(ValueError, match="`context` must be positive"):
        Shakespeare(0, data=text)
    text.write_bytes(b"\xff\xfe" * 100)
    with pytest.raises(ValueError, match="not UTF-8"):
        Shakespeare(8, data=text)
    with pytest.raises(ValueError, match="`task` must be one of brackets, shakespeare"):
        make_task("chess", 8, 0)


def test_download_checks_the_hash_and_keeps_nothing_else(tmp_path, text, monkeypatch):
    monkeypatch.setattr(shakespeare, "user_cache_path", lambda name: tmp_path / "cache" / name)
    url = text.as_uri()
    with pytest.raises(ValueError, match=r"has SHA-256 .* nothing was kept"):
        shakespeare.download(url)
    assert not shakespeare.cached_path().exists()
    digest = hashlib.sha256(text.read_bytes()).hexdigest()
    assert shakespeare.download(url, digest).read_bytes() == text.read_bytes()
    assert Shakespeare(8).vocab_size == len(set(text.read_text()))
    shakespeare.cached_path().unlink()
    # Offline: a port of this machine on which nothing listens.
    with pytest.raises(ConnectionError, match=r"Cannot fetch .*--data FILE"):
        shakespeare.download("http://127.0.0.1:9/text")
