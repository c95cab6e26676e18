"""Language modelling of a text file."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from qattn.training.tasks.named import TOKENIZER_PLACE
from qattn.training.tasks.tokenizers import TOKENIZERS, Tokenizer

SIGNS = {"\n": "⏎", " ": "␣", "\t": "⇥", "\r": "␍"}
"""What is printed for white space."""


class Text:
    r"""Predict the next token of a text from up to T tokens before it.

    Training draws windows at random from the first nine tenths of the text's tokens. The validation
    set is the last tenth, cut into windows of T tokens that do not overlap; the metric `perplexity`
    is exp of the mean cross-entropy over all its positions (also those with little context). It is
    per token: perplexities of different tokens cannot be compared. The vocabulary is that of the
    whole text.

    Args:
        context: T.
        seed: Seed of the windows.
        data: Text file, in UTF-8; of "bytes" any file.
        tokens: What a token is: a key of :data:`~qattn.training.tasks.TOKENIZERS`, or the name of
            an entry point of the group ``qattn.tokenizers``.
        vocab_size: Largest number of tokens, for "words"; None means 10,000.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: There is none, it is not UTF-8 or too short for the context, there are no such
            tokens, or they take no `vocab_size`.
    """

    metric = "perplexity"

    def __init__(
        self,
        context: int,
        *,
        seed: int = 0,
        data: Path | None = None,
        tokens: str = "characters",
        vocab_size: int | None = None,
    ) -> None:
        if context < 1:
            raise ValueError(f"Argument `context` must be positive, but is {context}.")
        if data is None:
            raise ValueError("Argument `data` must be a text file, but is None: --data FILE.")
        text = read_text(Path(data), tokens)
        options = {} if vocab_size is None else {"vocab_size": vocab_size}
        self.tokenizer: Tokenizer = TOKENIZER_PLACE.make(tokens, text, **options)
        self.vocab_size = self.tokenizer.vocab_size
        numbers = np.array(self.tokenizer.encode(text), dtype=np.int64)
        self.unit = tokens if tokens in TOKENIZERS else "tokens"
        if len(numbers) // 10 <= context:
            raise ValueError(
                f"The text {data} has {len(numbers)} {self.unit}: a context of {context} needs "
                f"more than {10 * context}."
            )
        self.context, self.seed = context, seed
        split = len(numbers) - len(numbers) // 10
        self._training, self._held_out = numbers[:split], numbers[split:]

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
        """Perplexity of the frequencies of single tokens in the training text."""
        shares = np.bincount(self._training, minlength=self.vocab_size) / len(self._training)
        shares = shares[shares > 0]
        entropy = float(-(shares * np.log(shares)).sum())
        name = f"frequencies of {self.unit}"
        return {"loss": {name: entropy}, "perplexity": {name: float(np.exp(entropy))}}

    def token_names(self, tokens: Int[Tensor, " T"]) -> list[str]:
        """The text of each token; white space gets visible signs."""
        names = (self.tokenizer.decode([t]) for t in tokens.tolist())
        return ["".join(SIGNS.get(c, c) for c in name) for name in names]

    def encode(self, text: str) -> Int[Tensor, " T"]:
        """The text's tokens.

        Raises:
            ValueError: The text has characters that the task's text has not.
        """
        return torch.tensor(self.tokenizer.encode(text), dtype=torch.int64)

    def decode(self, tokens: Int[Tensor, " T"]) -> str:
        """The text of tokens."""
        return self.tokenizer.decode(tokens.tolist())

    def _windows(self, text: NDArray[np.int64], starts: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(text[starts[:, None] + np.arange(self.context + 1)])
        return rows[:, :-1], rows[:, 1:]


def read_text(path: Path, tokens: str) -> str:
    """A text file; where its bytes are the tokens, each that is no UTF-8 as a surrogate escape.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It is not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No text at {path}: give a text with --data FILE.")
    raw = tokens == "bytes"
    errors, newline = ("surrogateescape", "") if raw else ("strict", None)
    try:
        with path.open(encoding="utf-8", errors=errors, newline=newline) as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The text {path} is not UTF-8: {error.reason}. Its bytes are tokens of any file: "
            f"--tokens bytes."
        ) from None
