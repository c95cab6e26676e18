"""Sessions that carry the token: to one address only, and no more of them than requests at a time.

Ocean's sessions follow redirects, with the token, to any host: ``requests`` takes only a header
called ``Authorization`` away. And urllib3 below them sends a request of any method again after an
error of TLS, a submission too. Here nothing is followed, and no submission is repeated below the
code that knows what it costs.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qattn.hardware.service.credentials import Credentials
from qattn.hardware.service.trust import check_destination

if TYPE_CHECKING:
    from dwave.cloud import Client


class RedirectRefused(Exception):  # noqa: N818 - it says what happened
    """The service redirects a request; the token goes nowhere but to the endpoint."""


def never_redirected(session: Any) -> Any:
    """The same ``requests.Session``, which from now on follows no redirect.

    A response with a status of 3xx raises :class:`RedirectRefused`; not 304, by which the client
    learns that what it has is up to date.
    """
    session.max_redirects = 0
    session.hooks["response"].insert(0, _refuse_redirect)
    return session


def client_of(credentials: Credentials) -> "Client":
    """Ocean's client for QPUs, with sessions that follow no redirect.

    It prefers the solver with the most qubits, as ``DWaveSampler`` does. Its worker threads are
    idle: jobs are submitted by :class:`~qattn.hardware.service.solver_api.ProblemService`.
    """
    from dwave.cloud.client.qpu import Client

    class OneAddressClient(Client):  # type: ignore[misc]
        """Ocean's client, whose every session is made by these two."""

        def create_session(self) -> Any:
            return never_redirected(super().create_session())

        @property
        def solvers_session(self) -> Any:
            known = getattr(self, "_solvers_session", None)
            solvers = super().solvers_session
            if solvers is not known:
                never_redirected(solvers.session)
            return solvers

    config = credentials.client_config()
    if credentials.endpoint is None:
        config["endpoint"] = regional_endpoint(credentials)
    defaults = {"solver": {"order_by": "-num_active_qubits"}}
    return OneAddressClient.from_config(client="base", defaults=defaults, **config)


def regional_endpoint(credentials: Credentials) -> str:
    """URL of the solver API in the region, looked up without the token, as Ocean looks it up with.

    Raises:
        UntrustedEndpointError: It is not D-Wave's: dwave.conf names another place to look it up.
        ValueError: There is no such region.
    """
    from dwave.cloud.config import load_config, validate_config_v1
    from dwave.cloud.regions import resolve_endpoints

    known = validate_config_v1(load_config(**credentials.client_config()))
    endpoint = str(resolve_endpoints(known.model_copy(update={"token": None})).endpoint)
    region = credentials.region or "the default region"
    source = credentials.sources.get("token", "an unknown place")
    check_destination(endpoint, f"the look-up of {region}", source, named=False)
    return endpoint


class SessionPool:
    """Sessions for requests about problems, each lent to one request at a time.

    A session keeps its connection between requests, so that there are never more of either than
    there were requests at the same time, however many threads come and go. They repeat nothing.

    Args:
        config: ``Client.config`` of a connected client.
    """

    def __init__(self, config: Any) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._closed = False

    @contextmanager
    def session(self) -> Iterator[Any]:
        """A session for one request."""
        with self._lock:
            problems = self._idle.pop() if self._idle else None
        problems = problems or self._opened()
        try:
            yield problems.session
        finally:
            with self._lock:
                closed = self._closed
                if not closed:
                    self._idle.append(problems)
            if closed:
                problems.close()

    def close(self) -> None:
        """Close all sessions; those that are lent, when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for problems in idle:
            problems.close()

    def _opened(self) -> Any:
        from dwave.cloud.api import Problems

        once = {"total": 0}
        problems = Problems.from_config(self._config, cache={"enabled": False}, retry=once)
        never_redirected(problems.session)
        return problems


def _refuse_redirect(response: Any, **_: Any) -> None:
    status = response.status_code
    if 300 <= status < 400 and status != 304:
        response.close()
        target = urlsplit(response.headers.get("Location", ""))
        where = f" to {target.scheme}://{target.netloc}" if target.netloc else ""
        raise RedirectRefused(
            f"{urlsplit(response.url).netloc} redirects{where} (HTTP {status}), where the token "
            f"is not sent: give the address of the solver API itself as endpoint"
        )
