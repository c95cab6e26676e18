"""Problems from files of binary quadratic models in dimod's own serializations."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dimod
import torch

from qattn.ising.batch import IsingBatch, to_dimod_signs

BINARY_START = b"DIMODBQM"
"""First bytes of a file that ``bqm.to_file()`` wrote."""


def from_bqms(bqms: Sequence[dimod.BinaryQuadraticModel], beta: float = 1.0) -> IsingBatch:
    r"""Models with P ∝ exp(-βE), one group a model, in float64.

    Binary models are turned into spin models first, 0 to -1 and 1 to +1. Constant offsets change
    no distribution and are dropped. Spins are in the order of their labels where these are
    numbers, else in that of ``bqm.variables``.

    Raises:
        ValueError: There is no model, or one has no variables.
    """
    if not bqms:
        raise ValueError("Argument `bqms` must hold a model, but is empty.")
    sizes = [bqm.num_variables for bqm in bqms]
    if min(sizes) == 0:
        raise ValueError(
            f"Argument `bqms` must have variables, but model {sizes.index(0)} has none."
        )
    linear = torch.zeros(len(bqms), 1, max(sizes), dtype=torch.float64)
    quadratic = torch.zeros(len(bqms), max(sizes), max(sizes), dtype=torch.float64)
    for p, bqm in enumerate(bqms):
        spin = bqm.change_vartype(dimod.SPIN, inplace=False)
        labels: list[Any] = list(spin.variables)
        if all(isinstance(label, int) for label in labels):
            labels.sort()
        vectors: Any = spin.to_numpy_vectors(variable_order=labels)
        biases, (row, col, values), _ = vectors
        linear[p, 0, : len(biases)] = torch.as_tensor(biases)
        quadratic[p, torch.as_tensor(row).long(), torch.as_tensor(col).long()] = torch.as_tensor(
            values, dtype=torch.float64
        )
    h, J = to_dimod_signs(linear, quadratic + quadratic.mT)  # the conversion is its own inverse
    return IsingBatch(h, J, torch.tensor(sizes).unsqueeze(1), beta)


def read_bqms(file: str | Path) -> list[dimod.BinaryQuadraticModel]:
    """The models of a file.

    It may be what ``bqm.to_file()`` writes, or JSON of ``bqm.to_serializable()``, of one model or
    of a list of them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of neither form.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"No file of problems at {path}.")
    data = path.read_bytes()
    try:
        if data.startswith(BINARY_START):
            return [dimod.BinaryQuadraticModel.from_file(data)]
        content = json.loads(data)
        models = content if isinstance(content, list) else [content]
        return [dimod.BinaryQuadraticModel.from_serializable(model) for model in models]
    except Exception as error:  # dimod's parsers raise whatever a broken file brings about
        raise ValueError(
            f"{path} must hold BQMs as bqm.to_file() writes them, or JSON of bqm.to_serializable() "
            f"(one or a list), but cannot be read: {type(error).__name__}: {error}"
        ) from None
