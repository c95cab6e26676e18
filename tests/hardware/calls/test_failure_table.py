"""The table of failures in the documentation has a row for each test of a failure, and no other."""

import ast
from pathlib import Path

import test_qpu_failures
from test_qpu_failures import GOES_ON, STOPS

PAGE = Path(__file__).parents[3] / "docs" / "failures.md"
OF_ROWS = {"test_run_goes_on", "test_run_stops_with_a_line_and_goes_on_later"}


def tables():
    """The rows of each table of the page, as lists of cells; without header and rule."""
    found, rows = [], []
    for line in [*PAGE.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append(rows[2:])
            rows = []
    return found


def test_every_row_is_a_test_and_every_test_a_row():
    goes_on, stops, others, _ = tables()
    assert [row[0] for row in goes_on] == list(GOES_ON)
    assert [row[0] for row in stops] == list(STOPS)
    tree = ast.parse(Path(test_qpu_failures.__file__).read_text(encoding="utf-8"))
    names = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert sorted(row[-1].strip("`") for row in others) == sorted(names - OF_ROWS)


def test_every_row_says_what_is_done():
    for rows, width in zip(tables(), (4, 4, 5, 4), strict=True):
        for row in rows:
            assert len(row) == width
            assert all(cell for cell in (row[0], *row[2:]))
