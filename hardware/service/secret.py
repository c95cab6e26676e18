"""A token that does not show itself, and functions that take it out of texts, errors and logs."""

import hmac
import logging
import traceback
from typing import Any, NoReturn
from urllib.parse import quote

MASK = "********"
"""Text that stands in the place of a token."""


class Secret:
    """A text that only :meth:`reveal` gives away.

    ``repr``, ``str`` and format strings give :data:`MASK`. Two secrets are equal if their values
    are. A secret can be copied, but not pickled, so that no checkpoint can hold one.

    Args:
        value: The text, not empty.

    Raises:
        ValueError: The text is empty.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not value:
            raise ValueError("Argument `value` must not be empty.")
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "A token is never written to a file: store what it is for, and resolve it again."
        )


def redact(text: str, secret: Secret) -> str:
    """`text` with :data:`MASK` in the place of the token, also where a URL quotes it."""
    value = secret.reveal()
    for form in {value, quote(value), quote(value, safe="")}:
        text = text.replace(form, MASK)
    return text


def scrubbed(error: BaseException, secret: Secret) -> str:
    """One line that says what went wrong and what caused it, without the token.

    The classes and messages of the error and of its causes, as a traceback would show them. Keep
    this line, not the error: the errors of an HTTP client carry the request with its headers.
    """
    parts: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        message = " ".join(str(link).split())
        name = type(link).__name__
        # requests and urllib3 repeat the message of the cause within that of the effect
        if not parts or message not in parts[-1]:
            parts.append(f"{name}: {message}" if message else name)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return redact(", caused by ".join(parts), secret)


def install_log_filter(secret: Secret) -> None:
    """Keep a token out of every log record that this process makes from now on.

    Call it before the token goes to D-Wave's client, as ``DWaveBackend.open`` and the doctor do.

    The D-Wave client logs its configuration, token included, at DEBUG, from a dozen loggers that
    appear as its modules are imported. A ``logging.Filter`` sees the records of the one logger it
    hangs on, so this sits where all records are made: in ``logging``'s record factory, on top of
    the factory that was there. Installing again adds the token to those that are kept out.
    """
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, _RedactingFactory):
        factory = _RedactingFactory(factory)
        logging.setLogRecordFactory(factory)
    if secret not in factory.secrets:
        factory.secrets.append(secret)


class _RedactingFactory:
    """A record factory on top of another one that masks secrets in messages and tracebacks."""

    def __init__(self, make: Any) -> None:
        self.make = make
        self.secrets: list[Secret] = []

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.make(*args, **kwargs)
        try:
            message = record.getMessage()
        except Exception:  # wrong arguments: the handler reports them, with the arguments
            message = f"{record.msg!r} {record.args!r}"
        clean = self._clean(message)
        # The client later puts the token into dictionaries that it has logged, and a handler of
        # another thread would format them only then: its records are formatted here, always.
        if clean != message or record.name.startswith("dwave"):
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[0] is not None:
            trace = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            clean = self._clean(trace)
            if clean != trace:
                record.exc_text, record.exc_info = clean, None
        return record

    def _clean(self, text: str) -> str:
        for secret in self.secrets:
            text = redact(text, secret)
        return text
