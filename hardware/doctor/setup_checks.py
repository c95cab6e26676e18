"""Checks that need no solver: packages, credentials, and whether the service takes the token."""

import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from qattn import kernels
from qattn.hardware.service.budget import format_duration
from qattn.hardware.service.credentials import Credentials, resolve
from qattn.hardware.service.secret import Secret, redact
from qattn.hardware.service.sessions import never_redirected, regional_endpoint

PACKAGES = ("dwave-system", "dwave-cloud-client", "dimod", "minorminer", "dwave-samplers")
"""Packages that the backend needs; dwave-ocean-sdk brings them."""


@dataclass(frozen=True)
class Check:
    """Outcome of one step.

    Attributes:
        name: The step.
        status: Whether it works; "warn" where it works but something should be mended; "skipped"
            where an earlier failure leaves nothing to check, or nothing was to be checked.
        detail: Result of the step in words.
        hint: What the user can do; empty if nothing needs to be done.
    """

    name: str
    status: Literal["ok", "warn", "failed", "skipped"]
    detail: str
    hint: str = ""


@dataclass(frozen=True)
class Reachability:
    """Response of the service at an address.

    Attributes:
        address: Its URL, or the region if its URL could not be looked up.
        answers: Whether a solver API answers there.
        accepts: Whether it accepts the token.
        reason: Why it does not answer, or not accept.
        status: Status of every solver that the token may use, by name.
    """

    address: str
    answers: bool
    accepts: bool
    reason: str
    status: dict[str, str]


def check_packages() -> Check:
    """Whether Ocean is installed, and in which versions."""
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        detail = f"{', '.join(missing)} not installed"
        return Check("packages", "failed", detail, "pip install dwave-ocean-sdk")
    return Check("packages", "ok", ", ".join(versions))


def check_loops() -> Check:
    """Which compiled inner loops are in use; without any, all works, but more slowly."""
    return Check("compiled loops", "ok", kernels.in_use())


def check_credentials(
    file: Path | None, service: dict[str, Any]
) -> tuple[Check, Credentials | None]:
    """Whether there are credentials, and where each value came from."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            credentials = resolve(file, **service)
    except (ValueError, OSError) as error:
        hint = "credentials.example.toml shows what the file may hold"
        return Check("credentials", "failed", str(error), hint), None
    values = {"token": "token"}
    for name in ("endpoint", "region", "solver"):
        values[name] = f"{name} {getattr(credentials, name)}"
    if credentials.qpu_budget is not None:
        values["qpu_budget"] = f"budget {format_duration(credentials.qpu_budget)}"
    detail = ", ".join(
        f"{words} from {credentials.sources[name]}"
        for name, words in values.items()
        if name in credentials.sources
    )
    hint = "; ".join(str(warning.message) for warning in caught)
    return Check("credentials", "warn" if hint else "ok", detail, hint), credentials


def reach(credentials: Credentials, timeout: float) -> Reachability:
    """Names and states of all solvers, by one request without the client's many retries.

    Args:
        credentials: Endpoint and token.
        timeout: Seconds within which the service must connect, and respond.
    """
    from dwave.cloud.api import Solvers, exceptions
    from dwave.cloud.config import load_config
    from dwave.cloud.config.models import load_config_v1

    address = credentials.endpoint or credentials.region or "Ocean's default region"
    once = {"request_timeout": timeout, "http_retry_total": 0}
    answers, accepts, reason = False, False, ""
    status: dict[str, str] = {}
    try:
        config = load_config_v1(load_config(**credentials.client_config(), **once))
        address = config.endpoint = credentials.endpoint or regional_endpoint(credentials)
        with Solvers.from_config(config) as service:
            never_redirected(service.session)
            solvers = service.list_solvers(filter="none,+identity,+status,+avg_load")
        status = {solver.identity.name: str(solver.status) for solver in solvers}
        answers = accepts = True
    except (
        exceptions.ResourceAuthenticationError,
        exceptions.ResourceAccessForbiddenError,
    ) as error:
        answers, reason = True, _root_cause(error, credentials.token)
    except Exception as error:  # whatever the network, the service or the client throws
        reason = _root_cause(error, credentials.token)
    return Reachability(address, answers, accepts, reason, status)


def check_service(reached: Reachability) -> Check:
    """Whether a solver API answers at the address."""
    if reached.answers:
        return Check("service", "ok", reached.address)
    return Check(
        "service",
        "failed",
        f"{reached.address}: {reached.reason}",
        "check the network, the endpoint or region, a proxy (DWAVE_API_PROXY), and "
        "https://status.dwavesys.com",
    )


def check_token(credentials: Credentials, reached: Reachability) -> Check:
    """Whether the service accepts the token."""
    if reached.accepts:
        count = len(reached.status)
        return Check("token", "ok", f"opens {count} solver{'s' if count != 1 else ''}")
    source = credentials.sources["token"]
    return Check(
        "token",
        "failed",
        f"the one from {source} was not accepted: {reached.reason}",
        f"copy it anew from Leap's dashboard to {source}; a token belongs to one region",
    )


def _root_cause(error: BaseException, token: Secret) -> str:
    """First cause of an error in one line; above it, urllib3 and requests say it at length."""
    seen = {id(error)}
    while (cause := error.__cause__ or error.__context__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        error = cause
    words = " ".join(str(error).split())
    return redact(f"{type(error).__name__}: {words[:300]}", token)
