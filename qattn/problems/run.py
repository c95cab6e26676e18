"""The queries of a trained run as Ising problems."""

from pathlib import Path

import torch

from qattn.couplings import joined
from qattn.ising.batch import IsingBatch
from qattn.layers import BoltzmannAttention
from qattn.training.folder import RunFolder
from qattn.training.trained_run import load


@torch.no_grad()
def from_run(folder: Path, num_problems: int, *, seed: int = 0) -> IsingBatch:
    """Queries of a trained run on its validation set, from all layers and heads, float64.

    Every head of every layer gives the same number of queries, at least one, at random positions
    of random validation sequences.

    Raises:
        FileNotFoundError: The folder is not one of a run, or it has no checkpoint.
        ValueError: The run's attention has no couplings.
    """
    model, task = load(folder)
    layers = [layer for layer in model.modules() if isinstance(layer, BoltzmannAttention)]
    if not layers:
        arm = RunFolder(folder).read_config().attention
        raise ValueError(f"The run in {folder} has {arm} attention: no J.")
    heads = sum(layer.num_heads for layer in layers)
    queries = max(1, num_problems // heads)
    generator = torch.Generator().manual_seed(seed)
    words, _ = task.validation()
    words = words[torch.randint(len(words), (queries,), generator=generator)]
    batches = model.ising_batches(words)
    h, J, lengths = [], [], []
    for layer, batch in zip(layers, batches, strict=True):
        # Couplings with a structure make each head of each sequence a group.
        each = max(1, queries * layer.num_heads // batch.num_groups)
        chosen = torch.randint(batch.num_queries, (each,), generator=generator)
        h.append(batch.h[:, chosen].double())
        J.append(batch.J.to(torch.float64))
        active = torch.from_numpy(batch.num_active.copy())
        lengths.append(active[:, chosen])
    return IsingBatch(torch.cat(h), joined(J), torch.cat(lengths), batches[0].beta)
