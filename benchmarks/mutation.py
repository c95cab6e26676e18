"""How many single edits of a room the tests catch: ``python benchmarks/mutation.py exact``.

cosmic-ray (``pip install cosmic-ray``) proposes the edits: another operator, number, comparison or
truth value, a loop that does not run. A random sample of them is applied, one at a time, to a copy
of the checkout, and the room's tests run there until one fails. An edit that no test notices is
printed: it is either equivalent (a larger buffer, the wording of an error) or a hole in the tests.
"""

import argparse
import math
import os
import random
import re
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import MutationSpec, TestOutcome

ROOT = Path(__file__).resolve().parent.parent

ROOMS = {
    "exact": (["qattn/exact"], ["tests/exact"]),
    "estimators": (["qattn/estimators"], ["tests/test_estimators.py", "tests/test_vmap.py"]),
    "ising": (["qattn/ising"], ["tests/test_ising.py", "tests/exact", "tests/backends"]),
    "attention": (["qattn/attention.py", "qattn/layers.py"], ["tests/test_attention.py"]),
    "quality": (["qattn/quality"], ["tests/test_quality.py", "tests/compare"]),
    "compare": (["qattn/compare/table.py", "qattn/compare/sweeps.py"], ["tests/compare"]),
    "budget": (["hardware/service/budget.py"], ["tests/hardware/service", "tests/hardware/calls"]),
    "jobs": (["hardware/calls"], ["tests/hardware/calls", "tests/hardware/test_dwave.py"]),
}
"""Sources of a room, and the tests that ought to notice an edit of them."""

KINDS = re.compile(
    "core/(Number|ReplaceTrue|ReplaceFalse|ReplaceAnd|ReplaceOr|AddNot|ReplaceBreak|ReplaceContinue"
    "|ZeroIteration|ReplaceComparison|ReplaceUnary|ReplaceBinaryOperator_(?!BitOr))"
)
"""Kinds of edits; `|` stands in type hints, which break at import whatever the tests are."""

TIME_LIMIT = 300.0
"""Seconds after which the tests of an edit count as failed."""


def edits(sources: list[str]) -> list[MutationSpec]:
    """Every edit of these files and folders."""
    files = [p for s in sources for p in ([ROOT / s] if s.endswith(".py") else ROOT.glob(s + "/*"))]
    modules = sorted(path.relative_to(ROOT) for path in files if path.suffix == ".py")
    items = _all_work_items(modules, {})
    specs = [mutation for item in items for mutation in item.mutations]
    return [spec for spec in specs if KINDS.match(spec.operator_name)]


def into_a_copy(folder: str) -> None:
    """Work in a copy of the checkout from now on; its qattn is the one that is imported."""
    copy = Path(tempfile.mkdtemp(dir=folder)) / "copy"
    ignored = shutil.ignore_patterns(".git", ".venv*", "runs", ".*_cache", "__pycache__", "_build")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored)
    os.chdir(copy)
    os.environ |= {"PYTHONPATH": str(copy / ".import"), "OMP_NUM_THREADS": "1"}


def outcome(spec: MutationSpec, command: str) -> tuple[bool, str]:
    """Whether a test caught an edit, and the edit."""
    result = mutate_and_test([spec], command, TIME_LIMIT)
    changed = [x for x in (result.diff or "").splitlines() if re.match(r"[+-](?![+-])", x)]
    where = f"{spec.module_path}:{spec.start_pos[0]}"
    return result.test_outcome == TestOutcome.KILLED, "\n    ".join([where, *changed])


def main() -> None:
    """Print the rate of a room, and the edits that survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("room", choices=ROOMS)
    parser.add_argument("--sample", type=int, default=30, help="number of edits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="edits at a time")
    args = parser.parse_args()
    sources, tests = ROOMS[args.room]
    command = f"{sys.executable} -m pytest -q -x -n0 -p no:cacheprovider {' '.join(tests)}"
    os.chdir(ROOT)
    all_edits = edits(sources)
    chosen = random.Random(args.seed).sample(all_edits, min(args.sample, len(all_edits)))
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(args.jobs, initializer=into_a_copy, initargs=(folder,)) as pool,
    ):
        untouched, output = pool.submit(run_tests, command, TIME_LIMIT).result()
        if untouched != TestOutcome.SURVIVED:
            sys.exit(f"The tests fail without an edit:\n{output}")
        outcomes = list(pool.map(outcome, chosen, [command] * len(chosen)))
    caught = sum(killed for killed, _ in outcomes)
    for killed, edit in outcomes:
        if not killed:
            print(f"survived: {edit}")
    rate, n = caught / len(outcomes), len(outcomes)
    error = math.sqrt(rate * (1 - rate) / n)
    print(
        f"{args.room}: {caught} of {n} edits caught, {rate:.0%} ± {error:.0%} (of {len(all_edits)})"
    )


if __name__ == "__main__":
    main()
