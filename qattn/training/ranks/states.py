"""One checkpoint of several processes, of the same format as that of one, and back.

Tensors of an ensemble's members are joined along their first axis. Random numbers and the states of
backends belong to a process: those of rank 0 stand where one process has its own, the others' in a
list under "ranks".
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

OF_A_RANK = ("rng", "cuda_rng", "samplers", "moments_found")
"""What of a learner's state each process has for itself."""


def joined(states: list[dict[str, Any]], *, members: bool) -> dict[str, Any]:
    """The state of a run from the states of the ranks; empty where there are none.

    Args:
        states: The state of each rank's learner.
        members: Whether they are of different members; otherwise they are of one model.
    """
    if not states:
        return {}
    whole = dict(states[0])
    if members:
        whole["parameters"] = _catenated([state["parameters"] for state in states])
        whole["optimizer"] = {
            **whole["optimizer"],
            "state": _catenated([state["optimizer"]["state"] for state in states]),
        }
        if whole["beta_found"] is not None:
            whole["beta_found"] = torch.cat([state["beta_found"] for state in states])
    others = [{k: v for k, v in state.items() if k in OF_A_RANK} for state in states[1:]]
    return whole | {"ranks": others}


def own_chances(state: dict[str, Any], rank: int) -> dict[str, Any]:
    """The state of a run as a rank goes on with it: with its own random numbers and backends."""
    return state | state["ranks"][rank - 1] if rank else state


def own_members(state: dict[str, Any], members: range, ensemble: int) -> dict[str, Any]:
    """The state of these members from that of all; all of them stay as they are."""
    if len(members) == ensemble:
        return state
    own = slice(members.start, members.stop)
    cut = {
        **state,
        "parameters": {name: value[own] for name, value in state["parameters"].items()},
        "optimizer": {
            **state["optimizer"],
            # The number of steps that AdamW has made is a tensor without axes.
            "state": tree_map_only(
                Tensor, lambda v: v[own] if v.ndim else v, state["optimizer"]["state"]
            ),
        },
    }
    if state.get("beta_found") is not None:
        cut["beta_found"] = state["beta_found"][own]
    return cut


def on_cpu(state: dict[str, Any]) -> dict[str, Any]:
    """A state whose tensors can be sent to another process."""
    moved: dict[str, Any] = tree_map_only(Tensor, Tensor.cpu, state)
    return moved


def _catenated(parts: list[Any]) -> Any:
    """Nested dictionaries of tensors joined along the members; numbers are equal in all."""
    if isinstance(parts[0], dict):
        return {key: _catenated([part[key] for part in parts]) for key in parts[0]}
    if isinstance(parts[0], Tensor) and parts[0].ndim:
        return torch.cat(parts)
    return parts[0]
