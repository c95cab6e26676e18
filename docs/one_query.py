"""The picture at the top of the README: ``python docs/one_query.py RUN docs/one_query.png``.

One query of a trained run on the way from tokens to attention weights.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import qattn

LAYER, READS = 0, 100


@torch.no_grad()
def picture(run: Path) -> Figure:
    """Fields, couplings, reads and weights of the head and query where the couplings do most."""
    model, task = qattn.load(run)
    tokens, _ = task.validation()
    names = task.token_names(tokens[0])
    batch = model.ising_batches(tokens[:1])[LAYER]
    head, query = strongest(batch)
    n = int(batch.num_active[head, query])
    h, J = batch.h[head, query, :n], batch.J[head, :n, :n]
    one = qattn.IsingBatch(h[None, None], J[None])
    exact = (1 + qattn.exact.mean_spins(one)[0, 0]) / 2
    reads = qattn.get_backend("neal").sample(one, num_reads=READS, seed=0)
    mean = (1 + reads.mean_spins()[0, 0]) / 2
    error = (mean * (1 - mean) / READS).sqrt()

    figure = Figure(figsize=(13, 3.3), layout="constrained")
    fields, couplings, states, weights = figure.subplots(1, 4, width_ratios=(1, 1.15, 0.9, 1.2))
    ticks = range(n)
    colours = ["#b2182b" if x > 0 else "#2166ac" for x in h.tolist()]
    fields.bar(ticks, h, color=colours)
    fields.axhline(0, color="black", linewidth=0.6)
    fields.set(title=r"fields $h_j = (q\cdot k_j/\sqrt{d} + b)/2$", ylabel="$h_j$")
    limit = float(J.abs().max())
    image = couplings.imshow(J, cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.colorbar(image, ax=couplings, shrink=0.8)
    couplings.set(title="learned couplings $J_{jk}$ of the head")
    couplings.set_yticks(ticks, names[:n])
    states.imshow(reads.spins[0, 0], cmap="gray_r", aspect="auto", interpolation="nearest")
    states.set(title=f"{READS} reads of its BQM (neal)", ylabel="read (black: $s_j = +1$)")
    weights.bar(ticks, exact, color="#bbbbbb", label="exact")
    weights.errorbar(ticks, mean, error, fmt="k.", label=f"{READS} reads ± s.e.")
    weights.plot(ticks, torch.sigmoid(2 * h), "_", color="#b2182b", ms=12, mew=2, label="J = 0")
    weights.set(title=r"attention weights $w_j = (1 + \langle s_j\rangle)/2$", ylabel="$w_j$")
    weights.legend(fontsize=8)
    for axes in (fields, couplings, states, weights):
        axes.set_xticks(ticks, names[:n])
    figure.suptitle(f"query “{names[query]}” after “{''.join(names[:query])}”", fontsize=11)
    return figure


def strongest(batch: qattn.IsingBatch) -> tuple[int, int]:
    """Head and query, with all its predecessors, where J changes the weights most."""
    free = qattn.IsingBatch(batch.h, torch.zeros_like(batch.J), batch.lengths)
    change = (qattn.exact.mean_spins(batch) - qattn.exact.mean_spins(free)).abs().amax(-1)
    change[batch.num_active < batch.num_spins - 3] = 0  # short patterns show little
    return divmod(int(change.argmax()), change.shape[1])


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    picture(source).savefig(target, dpi=110)
