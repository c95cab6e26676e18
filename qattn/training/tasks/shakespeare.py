"""Character-level language modelling of Tiny Shakespeare, or of any other text file."""

import filecmp
import hashlib
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from platformdirs import user_cache_path
from torch import Tensor
from torch.nn import functional as F

from qattn._atomic import write_atomically
from qattn.training.tasks.characters import encoded

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


class Shakespeare:
    r"""Predict the next character from up to T characters before it.

    Training draws windows at random from the first nine tenths of the text. The validation set is
    the last tenth, cut into windows of T characters that do not overlap; the metric `perplexity`
    is exp of the mean cross-entropy over all its positions (also those with little context).

    Args:
        context: T.
        seed: Seed of the windows.
        data: Text file (UTF-8); None means Tiny Shakespeare from the cache of :func:`download`.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: The text is not UTF-8 or too short for the context.
    """

    metric = "perplexity"

    def __init__(self, context: int, *, seed: int = 0, data: Path | None = None) -> None:
        if context < 1:
            raise ValueError(f"Argument `context` must be positive, but is {context}.")
        path = cached_path() if data is None else Path(data)
        if not path.is_file():
            hint = "give a text with --data FILE"
            if data is None:
                hint += ", or fetch Tiny Shakespeare with --download"
            raise FileNotFoundError(f"No text at {path}: {hint}.")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"The text {path} is not UTF-8: {error.reason}.") from None
        if len(text) // 10 <= context:
            raise ValueError(
                f"The text {path} has {len(text)} characters: a context of {context} needs more "
                f"than {10 * context}."
            )
        self.context, self.seed = context, seed
        self.characters = sorted(set(text))
        self.vocab_size = len(self.characters)
        index = {c: i for i, c in enumerate(self.characters)}
        tokens = np.array([index[c] for c in text])
        split = len(tokens) - len(tokens) // 10
        self._training, self._held_out = tokens[:split], tokens[split:]

    def batch(self, step: int, size: int) -> tuple[Int[Tensor, "size T"], Int[Tensor, "size T"]]:
        """Windows of the training text."""
        rng = np.random.default_rng([self.seed, step])
        starts = rng.integers(len(self._training) - self.context, size=size)
        return self._windows(self._training, starts)

    def validation(self) -> tuple[Int[Tensor, "words T"], Int[Tensor, "words T"]]:
        """The last tenth of the text."""
        starts = np.arange(0, len(self._held_out) - self.context, self.context)
        return self._windows(self._held_out, starts)

    def metrics(
        self, logits: Float[Tensor, "words T vocab"], targets: Int[Tensor, "words T"]
    ) -> dict[str, float]:
        """Cross-entropy in nats and perplexity."""
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
        return {"validation_loss": loss, "perplexity": float(np.exp(loss))}

    def references(self) -> dict[str, dict[str, float]]:
        """Perplexity of the frequencies of single characters in the training text."""
        shares = np.bincount(self._training, minlength=self.vocab_size) / len(self._training)
        shares = shares[shares > 0]
        entropy = float(-(shares * np.log(shares)).sum())
        name = "frequencies of characters"
        return {"loss": {name: entropy}, "perplexity": {name: float(np.exp(entropy))}}

    def token_names(self, tokens: Int[Tensor, " T"]) -> list[str]:
        """Characters; a line break and a space get a visible sign."""
        names = (self.characters[t] for t in tokens.tolist())
        return [{"\n": "⏎", " ": "␣"}.get(name, name) for name in names]

    def encode(self, text: str) -> Int[Tensor, " T"]:
        """The characters' numbers.

        Raises:
            ValueError: The text has characters that the task's text has not.
        """
        return encoded(text, self.characters)

    def decode(self, tokens: Int[Tensor, " T"]) -> str:
        """The characters."""
        return "".join(self.characters[t] for t in tokens.tolist())

    def _windows(self, text: NDArray[np.int64], starts: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(text[starts[:, None] + np.arange(self.context + 1)])
        return rows[:, :-1], rows[:, 1:]


def cached_path() -> Path:
    """Where :func:`download` puts Tiny Shakespeare."""
    return user_cache_path("qattn") / "tinyshakespeare.txt"


def same_text(one: Path | None, other: Path | None) -> bool:
    """Whether there are equal texts at both paths, None being that of :func:`download`."""
    a, b = (cached_path() if path is None else path for path in (one, other))
    return a.is_file() and b.is_file() and filecmp.cmp(a, b, shallow=False)


def other_text(path: Path) -> str | None:
    """SHA-256 of the text at a path, or None if it is Tiny Shakespeare."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return None if digest == SHA256 else digest


def download(url: str = URL, sha256: str = SHA256) -> Path:
    """Fetch Tiny Shakespeare into the user's cache, unless it is there, and check its hash.

    Raises:
        ConnectionError: The text cannot be fetched.
        ValueError: What came is not Tiny Shakespeare; nothing is kept.
    """
    path = cached_path()
    if path.is_file():
        return path
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            content: bytes = response.read()
    except (urllib.error.URLError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(
            f"Cannot fetch {url} ({reason}): download it elsewhere and give it with --data FILE."
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ValueError(
            f"The text from {url} has SHA-256 {digest}, and not {sha256}: nothing was kept."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return path
