"""Chains that are kept between calls of a sampler, to start the next ones from."""

from typing import Any

from jaxtyping import Int8
from torch import Tensor

from qattn.ising.batch import IsingBatch

NEAR = 0.1
"""Largest |J - J'|/|J| of couplings that count as those of a call before, after a training step."""

CAPACITY = 64
"""Calls whose chains are kept."""


class ChainStore:
    """The last configurations of chains, by the shape of a call and the couplings of its models.

    A training calls a backend with the batches of several layers in turn, and changes their
    couplings a little between the calls: of chains of the same shape those with the nearest
    couplings are taken.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor]] = []

    def find(self, models: IsingBatch, num_chains: int) -> Int8[Tensor, "g q chains n"] | None:
        """The chains of a call like this; None if there was none."""
        place = self._place(models, num_chains)
        return None if place is None else self._kept[place][1]

    def keep(self, models: IsingBatch, spins: Int8[Tensor, "g q chains n"]) -> None:
        """Keep chains for the next call like this; the oldest are dropped beyond 64."""
        place = self._place(models, spins.shape[2])
        if place is not None:
            self._kept.pop(place)
        self._kept.append((_numbers(models).clone(), spins))
        del self._kept[:-CAPACITY]

    def state_dict(self) -> dict[str, Any]:
        """All chains."""
        return {"chains": list(self._kept)} if self._kept else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._kept = [(J, spins) for J, spins in state.get("chains", [])]

    def _place(self, models: IsingBatch, num_chains: int) -> int | None:
        """Index of the kept call of this shape whose couplings are near and nearest."""
        G, Q, n = models.h.shape
        values = _numbers(models)
        distances = {
            i: float((values - J).norm())
            for i, (J, spins) in enumerate(self._kept)
            if spins.shape == (G, Q, num_chains, n)
            and spins.device == models.h.device
            and J.shape == values.shape
        }
        nearest = min(distances, key=distances.__getitem__, default=None)
        if nearest is None or distances[nearest] > NEAR * float(values.norm()):
            return None
        return nearest


def _numbers(models: IsingBatch) -> Tensor:
    """What the couplings are known by."""
    return models.J if isinstance(models.J, Tensor) else models.J.values
