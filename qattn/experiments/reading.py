"""Experiments from TOML files, checked before anything is trained."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from qattn.backends.options import nearest
from qattn.experiments.claims import check_claim, read_claim
from qattn.experiments.experiment import Experiment, Part
from qattn.experiments.figures import FIGURES
from qattn.experiments.measures import MEASURES
from qattn.training.config import toml_text

CATALOGUE = files("qattn.experiments") / "catalogue"
"""The experiments that come with qattn, a TOML file each."""

OF_PARTS: dict[str, type] = {
    "arms": dict,
    "grid": dict,
    "settings": dict,
    "seeds": int,
    "measures": list,
}
"""Keys that a part has, or an experiment of one part, and their types."""

KEYS = OF_PARTS | {
    "title": str,
    "whose": str,
    "paper": str,
    "parts": list,
    "figures": list,
    "claims": list,
}
"""Keys of an experiment's file; `whose` names who wrote the paper, if it is another one."""

KINDS = {dict: "a table", int: "a whole number", list: "a list", str: "a text"}


def available_experiments() -> list[str]:
    """Names of the experiments that come with qattn."""
    return sorted(f.name.removesuffix(".toml") for f in CATALOGUE.iterdir() if f.is_file())


def read_experiment(name: str | Path) -> Experiment:
    """An experiment of the catalogue by its name, or that of a TOML file by its path.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: There is no such experiment, or its file is not one.
    """
    path = Path(name)
    if path.suffix == ".toml":
        text = toml_text(path, "experiment")
    elif str(name) in available_experiments():
        path = Path(f"{name}.toml")
        text = (CATALOGUE / path.name).read_text(encoding="utf-8")
    else:
        raise ValueError(
            f"Argument `name` must be one of {', '.join(available_experiments())}, or the path of "
            f"a TOML file, but is {str(name)!r}."
        )
    try:
        return parse_experiment(path.stem, text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"'{path}' is not a TOML file: {error}.") from None
    except ValueError as error:
        raise ValueError(f"'{path}' is not an experiment. {error}") from None


def parse_experiment(name: str, text: str) -> Experiment:
    """The experiment of a TOML text.

    Raises:
        ValueError: It is not TOML, a key or a setting is unknown, missing or wrong, or a claim is
            about what is not trained.
    """
    table = tomllib.loads(text)
    _check_keys("The file", table, KEYS, needs=["title"])
    for key in ("parts", "claims"):
        if wrong := [each for each in table.get(key, ()) if type(each) is not dict]:
            raise ValueError(f"Key `{key}` must be a list of tables, but has {wrong[0]!r}.")
    if "parts" in table and "grid" in table:
        raise ValueError("Key `grid` must stand in the parts, where there are parts.")
    parts = tuple(_part(part, table) for part in table.get("parts", [table]))
    if len({part.name for part in parts}) < len(parts):
        raise ValueError("Key `parts.name` must be different in each part.")
    for part in parts:
        _check_trainings(part)
    for figure in table.get("figures", ()):
        if figure not in FIGURES:
            raise ValueError(f"Key `figures` must be of {', '.join(FIGURES)}, but has {figure!r}.")
    claims = [read_claim(claim) for claim in table.get("claims", ())]
    if len({claim.id for claim in claims}) < len(claims):
        raise ValueError("Key `claims.id` must be different in each claim.")
    for claim in claims:
        check_claim(claim, parts)
    return Experiment(
        name,
        table["title"],
        table.get("paper", ""),
        parts,
        tuple(table.get("figures", ())),
        tuple(table.get("claims", ())),
        table,
    )


def _part(part: Mapping[str, Any], table: Mapping[str, Any]) -> Part:
    """A part, with what the whole experiment says where it says nothing itself."""
    if part is not table:
        _check_keys("A part", part, OF_PARTS | {"name": str}, needs=["name"])
    arms, grid = part.get("arms", table.get("arms", {})), part.get("grid", {})
    for label, arm in arms.items():
        if type(arm) is not dict:
            raise ValueError(f"Key `arms.{label}` must be a table, but is {arm!r}.")
    for setting, values in grid.items():
        if type(values) is not list or not values:
            raise ValueError(f"Key `grid.{setting}` must be a list of values, but is {values!r}.")
        if any(value in values[:i] for i, value in enumerate(values)):
            raise ValueError(f"Key `grid.{setting}` must have each value once, but is {values!r}.")
    return Part(
        part.get("name", ""),
        arms,
        grid,
        table.get("settings", {}) | part.get("settings", {}),
        part.get("seeds", table.get("seeds", 10)),
        tuple(part.get("measures", table.get("measures", ()))),
    )


def _check_trainings(part: Part) -> None:
    """Check the settings of each arm at each point, and the measures."""
    within = f"Part {part.name!r}" if part.name else "The file"
    if not part.arms:
        raise ValueError(f"{within} must have arms, but has none.")
    if part.seeds < 1:
        raise ValueError(f"{within}: key `seeds` must be at least 1, but is {part.seeds}.")
    if unknown := set(part.measures) - MEASURES.keys():
        raise ValueError(
            f"{within}: key `measures` must be of {', '.join(MEASURES)}, but has {min(unknown)!r}."
        )
    if any("ensemble" in given for given in (part.settings, part.grid, *part.arms.values())):
        raise ValueError(f"{within}: key `seeds` says how many seeds there are, not `ensemble`.")
    for label, arm in part.arms.items():
        if both := sorted(arm.keys() & part.grid.keys()):
            raise ValueError(
                f"{within}, arm {label!r} must not have `{both[0]}`, which the grid sets: put the "
                "arm in a part of its own."
            )
        try:
            list(Part(part.name, {label: arm}, part.grid, part.settings, part.seeds).trainings())
        except (TypeError, ValueError) as error:
            raise ValueError(f"{within}, arm {label!r}: {error}") from None


def _check_keys(
    within: str, table: Mapping[str, Any], known: Mapping[str, type], needs: Iterable[str]
) -> None:
    for key, value in table.items():
        if key not in known:
            hint = nearest(key, known) or f"there are {', '.join(known)}."
            raise ValueError(f"{within} has an unknown key `{key}`: {hint}")
        if type(value) is not known[key]:
            raise ValueError(
                f"{within}: key `{key}` must be {KINDS[known[key]]}, but is {value!r}."
            )
    for key in needs:
        if key not in table:
            raise ValueError(f"{within} lacks the key `{key}`.")
