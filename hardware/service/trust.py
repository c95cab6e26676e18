"""Where a token may go: the one rule that keeps it from a host that its owner has not named.

A run's folder, a configuration file or a working folder may be somebody else's, and may name an
endpoint; the token is yours, from your environment or your own files. It goes to an endpoint

- that stands in the same place as the token;
- or that you name now: on the command line, in Python, or in the environment;
- or that is D-Wave's, https://….dwavesys.com, or this machine's loopback interface.
"""

import ipaddress
from urllib.parse import urlsplit

D_WAVE = "dwavesys.com"


class UntrustedEndpointError(ValueError):
    """The token would go to a host that its owner has not named; it says how to name it."""


def needs_no_naming(endpoint: str) -> bool:
    """Whether an endpoint is D-Wave's, over https, or on this machine."""
    url = urlsplit(endpoint)
    host = (url.hostname or "").rstrip(".")
    if is_loopback(host):
        return True
    return url.scheme == "https" and (host == D_WAVE or host.endswith(f".{D_WAVE}"))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_destination(endpoint: str, source: str, token_source: str, *, named: bool) -> None:
    """Check that a token may go to an endpoint.

    Args:
        endpoint: URL of the solver API.
        source: Place that gave it, in words.
        token_source: Place that gave the token.
        named: Whether the user names the endpoint now.

    Raises:
        UntrustedEndpointError: It may not.
    """
    if named or source == token_source or needs_no_naming(endpoint):
        return
    raise UntrustedEndpointError(
        f"The token from {token_source} is not sent to {urlsplit(endpoint).netloc}, which {source} "
        f"names as endpoint: if you trust that host, pass --endpoint {endpoint} (in Python "
        f"endpoint=…), or write token and endpoint into one file."
    )
