"""The two files that may hold a token: qattn's credentials.toml and Ocean's dwave.conf."""

import configparser
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OCEAN_NAMES = ("token", "endpoint", "region", "solver")
"""Settings that Ocean has too, under the same names."""

_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "token": (str, "a text"),
    "endpoint": (str, "a text"),
    "region": (str, "a text"),
    "solver": ((str, dict), "a text or a table of features"),
    "qpu_budget": ((str, int, float), "a text such as '60s' or a number of seconds"),
}


@dataclass(frozen=True)
class Layer:
    """Values that one place gives, and the place's name in messages.

    Attributes:
        values: Values by the names of the settings.
        name: Name of the place.
        names: More exact names of the place, by setting.
        files: Files that the values were read from.
    """

    values: Mapping[str, Any]
    name: str
    names: Mapping[str, str]
    files: tuple[Path, ...] = ()

    def source(self, value: str) -> str:
        """Place from which a value came, in words."""
        return self.names.get(value, self.name)

    def __repr__(self) -> str:  # the values may hold a token
        return f"Layer({self.name!r})"


def read_credentials_file(path: Path) -> Layer:
    """The table ``[dwave]`` of a credentials.toml.

    Raises:
        ValueError: It is not TOML, has a setting that does not exist, one of the wrong type, or
            both an endpoint and a region. The message names the setting and never its value.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a TOML file: it is not encoded in UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not a TOML file: {error}.") from None
    table = document.pop("dwave", {})
    if document:
        raise ValueError(f"{path} must have one table, [dwave], but has {_named(document)} too.")
    if not isinstance(table, dict):
        raise ValueError(f"In {path} `dwave` must be a table: write [dwave] on its own line.")
    unknown = {name: value for name, value in table.items() if name not in _KINDS}
    if unknown:
        raise ValueError(
            f"{path} has an unknown setting {_named(unknown)} in [dwave]; known: "
            f"{', '.join(_KINDS)}."
        )
    for name, value in table.items():
        kind, words = _KINDS[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(
                f"Setting `{name}` in {path} must be {words}, but is of type "
                f"{type(value).__name__}."
            )
    if "endpoint" in table and "region" in table:
        raise ValueError(f"{path} has both an endpoint and a region: give one of them.")
    return Layer(table, str(path), {}, (path,))


def ocean_profile(env: Mapping[str, str]) -> Layer:
    """Values in the profile of Ocean's dwave.conf, from the files that Ocean would read.

    Raises:
        FileNotFoundError: ``DWAVE_CONFIG_FILE`` names a file that cannot be read.
        ValueError: A file cannot be understood, or has no profile of the name ``DWAVE_PROFILE``.
    """
    from dwave.cloud.config import get_configfile_paths, load_profile_from_files
    from dwave.cloud.config.exceptions import ConfigFileParseError, ConfigFileReadError

    named, profile = env.get("DWAVE_CONFIG_FILE"), env.get("DWAVE_PROFILE") or None
    paths = [named] if named else get_configfile_paths()
    where = " and ".join(map(str, paths)) or "dwave.conf"
    try:
        section = load_profile_from_files(paths, profile)
    # the parser's errors quote the line, and that may be the token's
    except ConfigFileReadError:
        raise FileNotFoundError(f"Ocean's configuration file {where} cannot be read.") from None
    except (ConfigFileParseError, configparser.Error, UnicodeDecodeError):
        raise ValueError(
            f"Ocean's configuration file {where} cannot be understood: "
            f"`dwave config inspect` shows more."
        ) from None
    except ValueError:
        raise ValueError(f"There is no profile {profile!r} (DWAVE_PROFILE) in {where}.") from None
    values = {name: section.get(name) for name in (*OCEAN_NAMES, "permissive_ssl")}
    of_profile = f"profile {profile} of " if profile else ""
    # Ocean merges the files; one of them, the working folder's, may be somebody else's.
    names = {
        name: f"{of_profile}{_last_with(name, value, paths) or where}"
        for name, value in values.items()
        if value
    }
    files = tuple(Path(os.path.expandvars(os.path.expanduser(path))) for path in paths)
    return Layer(values, f"{of_profile}{where}", names, files)


def _last_with(name: str, value: str, paths: list[str]) -> str | None:
    """The last of Ocean's files that gives a setting this value, in whatever section."""
    from dwave.cloud.config import load_config_from_files

    for path in reversed(paths):
        config = load_config_from_files([path])
        sections = [config.defaults(), *(config[section] for section in config.sections())]
        if any(section.get(name) == value for section in sections):
            return path
    return None


def _named(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in settings)
