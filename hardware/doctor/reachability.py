"""Whether D-Wave's service answers and takes the token, asked with one short request."""

from dataclasses import dataclass

from qattn.hardware.service.credentials import Credentials
from qattn.hardware.service.secret import Secret, redact

TIMEOUT = 15.0
"""Seconds for which the service may take to connect, and to answer."""


@dataclass(frozen=True)
class Reachability:
    """What the service at an address said.

    Attributes:
        address: Its URL, or the region whose URL could not be found out.
        answers: Whether a solver API answers there.
        accepts: Whether it takes the token.
        reason: Why not.
        status: Status of every solver that the token may use, by name.
    """

    address: str
    answers: bool
    accepts: bool
    reason: str
    status: dict[str, str]


def reach(credentials: Credentials, timeout: float = TIMEOUT) -> Reachability:
    """Ask for the names and states of all solvers, once, without the client's many retries."""
    from dwave.cloud.api import Solvers, exceptions
    from dwave.cloud.config import load_config
    from dwave.cloud.config.models import load_config_v1
    from dwave.cloud.regions import resolve_endpoints

    address = credentials.endpoint or credentials.region or "Ocean's default region"
    once = {"request_timeout": timeout, "http_retry_total": 0}
    answers, accepts, reason = False, False, ""
    status: dict[str, str] = {}
    try:
        config = load_config_v1(load_config(**credentials.client_config(), **once))
        config = resolve_endpoints(config)
        address = config.endpoint or address
        with Solvers.from_config(config) as service:
            found = service.list_solvers(filter="none,+identity,+status,+avg_load")
        status = {each.identity.name: str(each.status) for each in found}
        answers = accepts = True
    except (
        exceptions.ResourceAuthenticationError,
        exceptions.ResourceAccessForbiddenError,
    ) as error:
        answers, reason = True, _reason(error, credentials.token)
    except Exception as error:  # whatever the network, the service or the client throws
        reason = _reason(error, credentials.token)
    return Reachability(address, answers, accepts, reason, status)


def _reason(error: BaseException, token: Secret) -> str:
    """What is at the bottom of an error; above it, urllib3 and requests say it at length."""
    seen = {id(error)}
    while (cause := error.__cause__ or error.__context__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        error = cause
    words = " ".join(str(error).split())
    return redact(f"{type(error).__name__}: {words[:300]}", token)
