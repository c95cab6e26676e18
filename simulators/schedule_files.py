"""Reading D-Wave's published annealing-schedule tables (xlsx or CSV)."""

import csv
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHEETS = {"fast": "Fast-Annealing Schedule", "standard": "Standard-Annealing Schedule"}
"""Titles of the two sheets of a published xlsx."""


def read_schedule(file: Path, sheet: str) -> tuple[NDArray[np.float64], ...]:
    """The columns s, A (GHz) and B (GHz) of a published table.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file has another form.
    """
    if sheet not in SHEETS:
        raise ValueError(f"Argument `sheet` must be 'fast' or 'standard', but is {sheet!r}.")
    if not file.is_file():
        raise FileNotFoundError(f"Argument `file` must be an existing file, but is {file}.")
    suffix = file.suffix.lower()
    if suffix == ".csv":
        with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
            return _columns(csv.reader(lines), file)
    if suffix == ".xlsx":
        return _columns(_xlsx_rows(file, sheet), file)
    raise ValueError(f"Argument `file` must be an xlsx or csv file, but is {file}.")


def _xlsx_rows(file: Path, sheet: str) -> Iterable[Sequence[Any]]:
    import openpyxl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles, which do not matter here
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        except Exception as error:
            raise ValueError(f"{file} is not a readable xlsx file: {error}") from error
        try:
            if SHEETS[sheet] not in book.sheetnames:
                raise ValueError(
                    f"{file} must have a sheet {SHEETS[sheet]!r}, "
                    f"but has {', '.join(map(repr, book.sheetnames))}."
                )
            return list(book[SHEETS[sheet]].iter_rows(values_only=True))
        finally:
            book.close()


def _columns(rows: Iterable[Sequence[Any]], file: Path) -> tuple[NDArray[np.float64], ...]:
    table = iter(rows)
    # Which columns hold s, A and B: titles such as "A(s) (GHz)", in any order, among others.
    header = [str(cell or "").strip().lower() for cell in next(table, ())]
    index = []
    for name in ("s", "a(s)", "b(s)"):
        matching = [i for i, cell in enumerate(header) if cell.split(" ")[0] == name]
        if len(matching) != 1:
            raise ValueError(
                f"{file} must have a header with the columns 's', 'A(s) (GHz)' and 'B(s) (GHz)', "
                f"but its first row is {', '.join(header)[:120]!r}."
            )
        index.append(matching[0])
    # The numbers, a row each; spreadsheets and CSVs may end in empty rows.
    values = []
    for number, row in enumerate(table, start=2):
        cells = [row[i] if i < len(row) else None for i in index]
        if all(cell in (None, "") for cell in cells):
            continue
        try:
            values.append([float(cell) for cell in cells])  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ValueError(
                f"{file} must hold numbers, but row {number} holds {cells!r}."
            ) from None
    if len(values) < 2:
        raise ValueError(f"{file} must have at least 2 rows of numbers, but has {len(values)}.")
    s, A, B = np.array(values, dtype=np.float64).T
    return s, A, B
