"""Language modelling of Tiny Shakespeare: the file, and how it is fetched."""

import filecmp
import hashlib
import urllib.error
import urllib.request
from pathlib import Path

from platformdirs import user_cache_path

from qattn._atomic import write_atomically
from qattn.training.tasks.text import Text

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


class Shakespeare(Text):
    """The task :class:`Text` on Tiny Shakespeare, or on any other text file.

    Args:
        context: T.
        seed: Seed of the windows.
        data: Text file; None means Tiny Shakespeare from the cache of :func:`download`.
        tokens: What a token is.
        vocab_size: Largest number of tokens, for "words".

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: As of :class:`Text`.
    """

    def __init__(
        self,
        context: int,
        *,
        seed: int = 0,
        data: Path | None = None,
        tokens: str = "characters",
        vocab_size: int | None = None,
    ) -> None:
        path = cached_path() if data is None else data
        if data is None and not path.is_file():
            raise FileNotFoundError(
                f"No text at {path}: give a text with --data FILE, or fetch Tiny Shakespeare with "
                f"--download."
            )
        super().__init__(context, seed=seed, data=path, tokens=tokens, vocab_size=vocab_size)


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
