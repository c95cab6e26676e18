"""Steps of the doctor that need no solver: packages, credentials, service, token."""

import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from qattn.hardware.doctor.reachability import Reachability
from qattn.hardware.service.budget import format_duration
from qattn.hardware.service.credentials import Credentials, resolve

PACKAGES = ("dwave-system", "dwave-cloud-client", "dimod", "minorminer", "dwave-samplers")
"""What the backend needs; dwave-ocean-sdk brings them."""


@dataclass(frozen=True)
class Check:
    """The outcome of one step.

    Attributes:
        name: The step.
        status: Whether it works; "skipped" where an earlier failure leaves nothing to check, or
            nothing was asked for.
        detail: What was found.
        way_out: What the user can do.
    """

    name: str
    status: Literal["ok", "failed", "skipped"]
    detail: str
    way_out: str = ""


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


def check_credentials(
    file: Path | None, service: dict[str, Any]
) -> tuple[Check, Credentials | None]:
    """Whether there are credentials, and where each value came from."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = resolve(file, **service)
    except (ValueError, OSError) as error:
        advice = "credentials.example.toml shows what the file may hold"
        return Check("credentials", "failed", str(error), advice), None
    values = {"token": "token"}
    for name in ("endpoint", "region", "solver"):
        values[name] = f"{name} {getattr(found, name)}"
    if found.qpu_budget is not None:
        values["qpu_budget"] = f"budget {format_duration(found.qpu_budget)}"
    detail = ", ".join(
        f"{words} from {found.sources[name]}"
        for name, words in values.items()
        if name in found.sources
    )
    advice = "; ".join(str(warning.message) for warning in caught)
    return Check("credentials", "ok", detail, advice), found


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
    """Whether the service takes the token."""
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
