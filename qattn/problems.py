r"""Sets of Ising problems to judge samplers on."""

from pathlib import Path

import torch

from qattn.ising import IsingBatch
from qattn.layers import BoltzmannAttention
from qattn.training.folder import RunFolder
from qattn.training.learner import Learner

QUERIES_PER_GROUP = 10
"""Synthetic problems that share one J."""


def synthetic(
    num_problems: int,
    num_spins: int,
    *,
    field_sd: float = 1.0,
    coupling_sd: float = 0.3,
    seed: int = 0,
) -> IsingBatch:
    r"""Attention-like problems: h_j ~ N(0, field_sd²), J_jk ~ N(0, coupling_sd²), float64.

    Ten problems share a J. The number of problems is rounded up to a multiple of that.

    Raises:
        ValueError: A number is not positive.
    """
    for name, value in (("num_problems", num_problems), ("num_spins", num_spins)):
        if value < 1:
            raise ValueError(f"Argument `{name}` must be positive, but is {value}.")
    for name, sd in (("field_sd", field_sd), ("coupling_sd", coupling_sd)):
        if not 0 <= sd < float("inf"):
            raise ValueError(f"Argument `{name}` must not be negative, but is {sd}.")
    generator = torch.Generator().manual_seed(seed)
    groups, n = -(-num_problems // QUERIES_PER_GROUP), num_spins
    shape = (groups, min(num_problems, QUERIES_PER_GROUP), n)
    h = field_sd * torch.randn(shape, generator=generator, dtype=torch.float64)
    J = coupling_sd * torch.randn(groups, n, n, generator=generator, dtype=torch.float64)
    return IsingBatch(h, J.triu(1) + J.triu(1).mT)


@torch.no_grad()
def from_run(folder: Path, num_problems: int, *, seed: int = 0) -> IsingBatch:
    """Queries of a trained run on its validation set, from all layers and heads, float64.

    Every head of every layer gives the same number of queries, at least one, at random positions
    of random validation sequences.

    Raises:
        FileNotFoundError: The folder is not one of a run, or it has no checkpoint.
        ValueError: The run's attention has no couplings.
    """
    run = RunFolder(folder)
    learner = Learner(run.read_config())
    state = run.read_checkpoint()
    if state is None:
        raise FileNotFoundError(f"The run in {folder} has no checkpoint yet.")
    learner.load_state_dict(state["learner"])
    model = learner.first_member()
    layers = [layer for layer in model.modules() if isinstance(layer, BoltzmannAttention)]
    if not layers:
        raise ValueError(f"The run in {folder} has {learner.config.attention} attention: no J.")
    heads = sum(layer.num_heads for layer in layers)
    queries = max(1, num_problems // heads)
    generator = torch.Generator().manual_seed(seed)
    words, _ = learner.tasks[0].validation()
    words = words[torch.randint(len(words), (queries,), generator=generator)]
    batches = model.ising_batches(words.to(learner.device))
    h, J, lengths = [], [], []
    for batch in batches:
        chosen = torch.randint(batch.num_queries, (queries,), generator=generator)
        h.append(batch.h[:, chosen].cpu().double())
        J.append(batch.J.cpu().double())
        active = torch.from_numpy(batch.num_active.copy())
        lengths.append(active[:, chosen])
    return IsingBatch(torch.cat(h), torch.cat(J), torch.cat(lengths), batches[0].beta)
