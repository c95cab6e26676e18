"""The table of what ``spin_glass.py`` measured: ``python benchmarks/spin_glass_table.py FILE``.

A row is the mean over the instances, and in brackets the worst. Of a net that was trained with
several optimisers the published one is shown and, if it came nearer, the best. With `--into PAGE`
the table is put between the page's markers.
"""

import argparse
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

PUBLISHED = "0.001:1"
MARKERS = (
    "<!-- spin glasses, by benchmarks/spin_glass_table.py -->",
    "<!-- end of spin glasses -->",
)

Row = dict[str, Any]

HEAD = (
    "net",
    "steps",
    "F_q − F",
    "F_IS − F",
    "ESS",
    "forward ESS",
    "KL(p‖q)",
    "⟨s s⟩",
    "P(q)",
    "µs a read",
    "over ESS",
    "break-even reads",
)


def number(x: float) -> str:
    """A number in two or three digits: 0.00123 as 1.2e-3."""
    if not math.isfinite(x):
        return "∞" if x > 0 else "-∞" if x < 0 else "–"
    if x == 0 or 0.01 <= abs(x) < 1e4:
        places = 0 if abs(x) >= 100 else 1 if abs(x) >= 10 else 2 if abs(x) >= 1 else 3
        return f"{x:,.{places}f}"
    mantissa, exponent = f"{x:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def of_instances(rows: Sequence[Row], key: str, worst: Callable[[Iterable[float]], float]) -> str:
    """Mean and worst of a figure."""
    values = [row[key] for row in rows if row.get(key) is not None]
    if not values:
        return "–"
    mean = number(sum(values) / len(values))
    return mean if len(values) == 1 else f"{mean} ({number(worst(values))})"


def with_error(rows: Sequence[Row], key: str) -> str:
    """Mean of a figure and its standard error, and the value that is farthest from 0."""
    values = [row[key] for row in rows if key in row]
    if not values:
        return "–"
    error = math.hypot(*(row[f"{key}_error"] for row in rows if key in row)) / len(values)
    mean = f"{number(sum(values) / len(values))} ± {number(error)}"
    return mean if len(values) == 1 else f"{mean} ({number(max(values, key=abs))})"


def break_even(rows: Sequence[Row], tempering: dict[int, Row]) -> str:
    """Reads after which a training is paid for by cheaper independent reads than tempering's."""
    found = []
    for row in rows:
        if "training_seconds" not in row or row["seed"] not in tempering:
            return "–"
        saved = tempering[row["seed"]]["seconds"] - row["seconds_a_read_over_ESS"]
        found.append(row["training_seconds"] / saved if saved > 0 else math.inf)
    return "never" if math.inf in found else number(sum(found) / len(found))


def cells(net: str, rows: Sequence[Row], tempering: dict[int, Row]) -> list[str]:
    """A row of the table."""
    micro = [
        {k: 1e6 * row[k] for k in ("seconds_a_read", "seconds_a_read_over_ESS") if k in row}
        for row in rows
    ]
    return [
        net if all(row.get("resolved", True) for row in rows) else f"{net} (at least)",
        of_instances(rows, "training_steps", min),
        with_error(rows, "F_q"),
        with_error(rows, "F_IS"),
        of_instances(rows, "ESS", min),
        of_instances(rows, "forward_ESS", min),
        with_error(rows, "KL_forward"),
        of_instances(rows, "pair_ratio", max),
        of_instances(
            [row | {"P": row["overlap_distance"] / row["overlap_floor"]} for row in rows]
            if "overlap_floor" in rows[0]
            else [],
            "P",
            max,
        ),
        of_instances(micro, "seconds_a_read", max),
        of_instances(micro, "seconds_a_read_over_ESS", max),
        break_even(rows, tempering),
    ]


def chosen(nets: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Of nets that differ in their optimiser alone the published one, and the best if better."""
    groups: dict[str, list[str]] = {}
    for name in nets:
        groups.setdefault(name.rpartition(", ")[0] if name.count(", ") > 1 else name, []).append(
            name
        )
    found = {}
    for names in groups.values():
        best = min(names, key=lambda name: sum(row.get("F_q", 0) for row in nets[name]))
        found |= {n: nets[n] for n in names if n == best or n.endswith(f", {PUBLISHED}")}
    return found


def table(results: Sequence[Row]) -> str:
    """A table in Markdown for each problem."""
    parts = []
    for problem in dict.fromkeys(row["problem"] for row in results):
        nets: dict[str, list[Row]] = {}
        for row in results:
            if row["problem"] == problem:
                nets.setdefault(row["net"], []).append(row)
        tempering = {row["seed"]: row for row in nets.get("tempering", [])}
        known = nets.pop("reference", [])
        lines = [HEAD, ["---"] * len(HEAD)]
        lines += [cells(net, rows, tempering) for net, rows in chosen(nets).items()]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        count = len({row["seed"] for row in results if row["problem"] == problem})
        against = ""
        if known:
            error = max(row["F_error"] for row in known)
            doubtful = sum(not row["in_equilibrium"] for row in known)
            against = f", against {known[0]['kind']}"
            against += f" (error of F up to {number(error)} a spin)" if error else ""
            against += f", {doubtful} not known to be in equilibrium" if doubtful else ""
        parts.append(f"`{problem}`, {count} instance{'s' * (count > 1)}{against}:\n\n{text}")
    return "\n\n".join(parts)


def into(page: str, text: str) -> str:
    """A page with the table between its markers."""
    start, end = map(re.escape, MARKERS)
    return re.sub(
        f"({start}\n).*?({end})", lambda m: f"{m[1]}\n{text}\n\n{m[2]}", page, flags=re.DOTALL
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="what spin_glass.py wrote")
    parser.add_argument("--into", type=Path, help="a page with the markers")
    given = parser.parse_args(arguments)
    text = table(json.loads(given.file.read_text()))
    print(text)
    if given.into:
        given.into.write_text(into(given.into.read_text("utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
