"""Token, endpoint, solver and budget of D-Wave's service, each with the place it came from."""

import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs

from qattn.backends.options import FromFile
from qattn.hardware.service.budget import parse_duration
from qattn.hardware.service.credentials_file import (
    OCEAN_NAMES,
    Layer,
    ocean_profile,
    read_credentials_file,
)
from qattn.hardware.service.secret import Secret
from qattn.hardware.service.trust import check_destination, is_loopback

FILE_NAME = "credentials.toml"

PLACEHOLDER = "your-Leap-API-token"
"""The token in credentials.example.toml."""

_ENVIRONMENT = {name: f"DWAVE_API_{name.upper()}" for name in OCEAN_NAMES}
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=:@-]+")


class InsecureCredentialsWarning(UserWarning):
    """Others could read the token: from the file that holds it, or on its way to the service."""


class NoCredentialsError(ValueError):
    """There is no token; the message says where it was looked for."""


@dataclass(frozen=True)
class Credentials:
    """Settings with which a solver is reached; :func:`resolve` makes them.

    Attributes:
        token: The API token.
        endpoint: URL of the solver API, or None.
        region: Leap's region, or None; at most one of endpoint and region is given, and with
            neither Ocean uses its default region.
        solver: Name of a solver, or a mapping of features, or None for Ocean's choice.
        qpu_budget: Ceiling on the QPU access time of a run in seconds, or None.
        sources: Place from which each given value came, in words; by the names above.
    """

    token: Secret
    endpoint: str | None = None
    region: str | None = None
    solver: str | dict[str, Any] | None = None
    qpu_budget: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    ocean_file: str | bool = field(default=True, repr=False)
    ocean_profile: str | None = field(default=None, repr=False)

    def client_config(self) -> dict[str, Any]:
        """Arguments for ``DWaveSampler(**…)`` or ``dwave.cloud.Client.from_config(**…)``.

        They hold the token: hand them over at once, and keep them nowhere. The client logs its
        configuration at DEBUG: call :func:`~qattn.hardware.service.secret.install_log_filter`
        before. Every value that is known is named, so that the client does not look for another
        one; what qattn does not know (proxy, headers, time-outs) is left to the client's own
        environment and dwave.conf.
        """
        config: dict[str, Any] = {
            "token": self.token.reveal(),
            "config_file": self.ocean_file,
            "profile": self.ocean_profile,
        }
        for name in ("endpoint", "region", "solver"):
            if (value := getattr(self, name)) is not None:
                config[name] = value
        return config


def resolve(
    credentials: Path | None = None,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    solver: str | Mapping[str, Any] | None = None,
    qpu_budget: str | int | float | None = None,
    env: Mapping[str, str] = os.environ,
) -> Credentials:
    """Credentials, each value from the first place that gives it.

    The places, in order: the arguments (the command line); Ocean's environment variables
    (``DWAVE_API_TOKEN``, ``DWAVE_API_ENDPOINT``, ``DWAVE_API_REGION``, ``DWAVE_API_SOLVER``);
    credentials.toml; the profile of Ocean's dwave.conf (``DWAVE_CONFIG_FILE`` and
    ``DWAVE_PROFILE`` choose them). Endpoint and region are one choice: the first place that gives
    either decides, and within one place the endpoint wins, as in Ocean. There is no argument for
    the token, which a shell's history and a list of processes would show. Where the token may go is
    :mod:`~qattn.hardware.service.trust`'s rule.

    Args:
        credentials: The credentials.toml to read. None means ./credentials.toml, else the one in
            qattn's folder of the user's configuration (``~/.config/qattn`` on Linux), if any.
        endpoint: URL of the solver API; as :class:`~qattn.backends.options.FromFile` where a file
            of settings gives it.
        region: Leap's region, such as ``na-west-1``.
        solver: Name of a solver, or features as a mapping or as the text of a JSON object.
        qpu_budget: Ceiling on QPU access time, as for
            :func:`qattn.hardware.service.budget.parse_duration`.
        env: The environment.

    Raises:
        NoCredentialsError: No place gives a token.
        UntrustedEndpointError: The token may not go to the endpoint.
        FileNotFoundError: A file that was named does not exist.
        ValueError: A value cannot be right, or a file cannot be understood. No message holds a
            token.
    """
    path = _file(credentials)
    arguments = {
        "endpoint": endpoint,
        "region": region,
        "solver": dict(solver) if isinstance(solver, Mapping) else solver,
        "qpu_budget": qpu_budget,
    }
    file_of_endpoint = {"endpoint": str(endpoint.file)} if isinstance(endpoint, FromFile) else {}
    layers = [
        Layer(arguments, "the command line", file_of_endpoint),
        Layer(
            {name: env.get(variable) for name, variable in _ENVIRONMENT.items()},
            "the environment",
            {name: f"environment variable {variable}" for name, variable in _ENVIRONMENT.items()},
        ),
        Layer({}, "", {}) if path is None else read_credentials_file(path),
        ocean_profile(env),
    ]
    # The first layer that gives a value decides, endpoint and region together.
    chosen: dict[str, tuple[Any, Layer]] = {}
    for layer in layers:
        values = {name: value for name, value in layer.values.items() if value not in (None, "")}
        if "endpoint" in values:  # one choice, and the endpoint wins
            values.pop("region", None)
        if chosen.keys() & {"endpoint", "region"}:
            values = {n: v for n, v in values.items() if n not in ("endpoint", "region")}
        for name, value in values.items():
            chosen.setdefault(name, (value, layer))
    if "token" not in chosen:
        raise NoCredentialsError(
            f"No API token in the environment variable DWAVE_API_TOKEN, in "
            f"{path or f'./{FILE_NAME} or {_user_file()}'}, or in Ocean's dwave.conf: copy it "
            f"from https://cloud.dwavesys.com/leap into {FILE_NAME}, as the line "
            f'token = "..." under the line [dwave], and close the file with chmod 600.'
        )
    sources = {name: layer.source(name) for name, (_, layer) in chosen.items()}
    values = {name: value for name, (value, _) in chosen.items()}
    token = _token(values["token"], sources["token"])
    _warn_if_readable(token, chosen["token"][1].files)
    if "endpoint" in values:
        _check_endpoint(values["endpoint"], sources["endpoint"])
        now = chosen["endpoint"][1] in layers[:2] and not isinstance(endpoint, FromFile)
        check_destination(values["endpoint"], sources["endpoint"], sources["token"], named=now)
    if str(values.get("permissive_ssl")).lower() in ("1", "true", "yes", "on"):
        warnings.warn(
            f"permissive_ssl in {sources['permissive_ssl']} turns off the check of certificates: "
            f"whoever is between you and the service can read the token.",
            InsecureCredentialsWarning,
            stacklevel=2,
        )
    return Credentials(
        token=token,
        endpoint=values.get("endpoint"),
        region=values.get("region"),
        solver=_solver(values.get("solver"), sources.get("solver", "")),
        qpu_budget=_budget(values.get("qpu_budget"), sources.get("qpu_budget", "")),
        sources=sources,
        ocean_file=env.get("DWAVE_CONFIG_FILE") or True,
        ocean_profile=env.get("DWAVE_PROFILE") or None,
    )


def _user_file() -> Path:
    return platformdirs.user_config_path("qattn") / FILE_NAME


def _file(given: Path | None) -> Path | None:
    if given is None:
        return next((path for path in (Path(FILE_NAME), _user_file()) if path.is_file()), None)
    if not given.is_file():
        raise FileNotFoundError(
            f"No credentials file at {given}: copy credentials.example.toml to it and write your "
            f"token there."
        )
    return given


def _token(value: str, source: str) -> Secret:
    if value == PLACEHOLDER:
        raise ValueError(
            f"The token from {source} is still the example's: write your own there, from the "
            f"dashboard of Leap (https://cloud.dwavesys.com/leap)."
        )
    if not _TOKEN.fullmatch(value):  # a header could not carry it, and the error would show it
        raise ValueError(
            f"The token from {source} has a space, a quotation mark or another character that no "
            f"token has: copy it once more from the dashboard of Leap."
        )
    return Secret(value)


def _warn_if_readable(token: Secret, files: tuple[Path, ...]) -> None:
    if os.name != "posix":
        return
    for path in files:
        if path.stat().st_mode & 0o077 and token.reveal() in path.read_text(errors="replace"):
            warnings.warn(
                f"Others can read the token in {path}: chmod 600 {path}",
                InsecureCredentialsWarning,
                stacklevel=3,
            )


def _check_endpoint(endpoint: str, source: str) -> None:
    try:
        url = urlsplit(endpoint)
        host = url.hostname
    except ValueError:
        host = None
    if not host or url.scheme not in ("http", "https"):
        raise ValueError(
            f"The endpoint from {source} must be a URL such as https://cloud.dwavesys.com/sapi/, "
            f"but is {endpoint!r}."
        )
    if url.scheme == "http" and not is_loopback(host):
        warnings.warn(
            f"The endpoint from {source} is not https: the token travels to {host} in clear.",
            InsecureCredentialsWarning,
            stacklevel=3,
        )


def _solver(value: Any, source: str) -> str | dict[str, Any] | None:
    if not isinstance(value, str):
        return value  # type: ignore[no-any-return]
    if not value.lstrip().startswith("{"):
        return value.strip()
    try:
        features = json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"The solver from {source} must be a name or a JSON object of features, but is "
            f"{value!r}: {error}."
        ) from None
    return dict(features)


def _budget(value: Any, source: str) -> float | None:
    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"The qpu_budget from {source} is wrong. {error}") from None
