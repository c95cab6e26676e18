"""Pictures of a run: learning curves, couplings, attention weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from qattn.layers import BoltzmannAttention
from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder
from qattn.training.tasks import Task
from qattn.training.trained_run import load
from qattn.transformer import Transformer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_run(folder: Path) -> list[Path]:
    """Write the plots of a run into its folder, as PNG and as SVG; returns the paths of both."""
    run = RunFolder(folder)
    config = run.trained_config(run.read_checkpoint())
    model, task = load(folder)
    figures = {"learning_curves": learning_curves(run.read_metrics(), task, _title(config, run))}
    title = _title(replace(config, ensemble=1), run)  # the other pictures show the first member
    if couplings := _couplings(model):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            first = _couplings(config.model(task.vocab_size))
        figures["couplings"] = coupling_matrices(couplings, first, title)
        figures["couplings_by_distance"] = couplings_by_distance(couplings, title)
    tokens = task.validation()[0][:1]
    weights = [w[0] for w in model.attention_weights(tokens)]
    figures["attention"] = attention_weights(weights, task.token_names(tokens[0]), title)
    paths = []
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            paths.append(folder / f"{name}.{kind}")
            figure.savefig(paths[-1], dpi=120)
    return paths


def learning_curves(records: list[dict[str, Any]], task: Task, title: str) -> "Figure":
    """Training loss, and validation loss and metric, against steps.

    The loss is drawn against QPU time too, where a QPU was used. Of an ensemble the mean with its
    95% interval as a band, and the members as thin lines. Dotted lines are the task's references.
    """
    paid = [r for r in records if "loss" in r and "qpu_seconds" in r]
    figure, (row,) = _figure(1, 3 if paid else 2, 4.6, 3.6)
    left, right = row[:2]
    _curve(left, records, "loss", "training")
    _curve(left, records, "validation_loss", "validation")
    _curve(right, records, task.metric, "validation")
    left.set_ylabel("cross-entropy (nats)")
    right.set_ylabel(f"validation {task.metric}")
    for axes, name in ((left, "loss"), (right, task.metric)):
        axes.set_xlabel("step")
        for label, level in task.references().get(name, {}).items():
            axes.axhline(level, color="black", linestyle=":", linewidth=1, label=label)
    if paid:
        _curve(row[2], paid, "loss", "training", against="qpu_seconds")
        row[2].set_xlabel("QPU access time (s)")
        row[2].set_ylabel("cross-entropy (nats)")
    for axes in row:
        axes.grid(alpha=0.3)
        axes.locator_params(axis="x", integer=axes is not row[-1] or not paid)
        axes.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def coupling_matrices(
    couplings: list[Float[Tensor, "heads n n"]],
    first: list[Float[Tensor, "heads n n"]],
    title: str,
) -> "Figure":
    """J of every layer and head (columns), learned and below it as it was at the start.

    One symmetric colour scale, so that what was learned can be told from what was there.
    """
    rows = [
        (f"layer {layer}, {when}", heads)
        for layer, pair in enumerate(zip(couplings, first, strict=True))
        for when, heads in zip(("learned", "at the start"), pair, strict=True)
    ]
    limit = max(float(J.abs().max()) for J in couplings) or 1.0
    figure, grid = _figure(len(rows), len(couplings[0]), 2.5, 2.5, layout="compressed")
    for (name, heads), line in zip(rows, grid, strict=True):
        for head, axes in enumerate(line):
            J = heads[head].numpy()
            image = axes.imshow(J, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes.set_title(f"{name}, head {head}", fontsize=8)
            axes.locator_params(integer=True)
    _label_edges(grid, "position k", "position j")
    figure.colorbar(image, ax=grid, label="coupling $J_{jk}$")
    figure.suptitle(title, fontsize=10)
    return figure


def couplings_by_distance(couplings: list[Float[Tensor, "heads n n"]], title: str) -> "Figure":
    """Mean of J_jk over the n - d pairs at each distance d, with its standard error.

    A picture for each layer (rows) and head (columns), on one scale. The one pair at the largest
    distance has no standard error and stands as an open circle.
    """
    n = couplings[0].shape[-1]
    distances = np.arange(1, n)
    figure, grid = _figure(len(couplings), len(couplings[0]), 2.6, 2.2, share=True)
    for layer, row in enumerate(grid):
        for head, axes in enumerate(row):
            pairs = [couplings[layer][head].diagonal(d).numpy() for d in distances.tolist()]
            mean = np.array([p.mean() for p in pairs])
            error = np.array([p.std(ddof=1) / len(p) ** 0.5 if len(p) > 1 else 0 for p in pairs])
            axes.axhline(0, color="black", linewidth=0.5)
            axes.errorbar(distances[:-1], mean[:-1], error[:-1], fmt="o-", markersize=3, capsize=2)
            axes.plot(distances[-1:], mean[-1:], "o", color="C0", fillstyle="none")
            axes.set_title(f"layer {layer}, head {head}", fontsize=9)
            axes.locator_params(axis="x", integer=True)
            axes.grid(alpha=0.3)
    _label_edges(grid, f"distance d ({n} − d pairs)", "mean J ± standard error")
    figure.suptitle(title, fontsize=10)
    return figure


def attention_weights(
    weights: list[Float[Tensor, "heads n n"]], names: list[str], title: str
) -> "Figure":
    """Attention weights of one example: every layer (rows) and head (columns).

    Positions that a query cannot see are grey. The colours end at the 99th percentile of the
    weights, so that one outlier does not darken all others.
    """
    figure, grid = _figure(len(weights), len(weights[0]), 2.6, 2.6, layout="compressed")
    seen = np.tril(np.ones((len(names), len(names)), dtype=bool))
    values = np.concatenate([w.numpy()[:, seen].ravel() for w in weights])
    limit = float(np.quantile(values, 0.99)) or 1.0
    ticks, size = range(len(names)), 7 if len(names) <= 16 else 4
    for layer, row in enumerate(grid):
        for head, axes in enumerate(row):
            shown = np.ma.masked_where(~seen, weights[layer][head].numpy())
            image = axes.imshow(shown, cmap="viridis", vmin=0, vmax=limit)
            axes.set_facecolor("lightgrey")
            axes.set_title(f"layer {layer}, head {head}", fontsize=9)
            axes.set_xticks(ticks, names, fontsize=size)
            axes.set_yticks(ticks, names, fontsize=size)
    _label_edges(grid, "key token", "query token")
    extend = "max" if values.max() > limit else "neither"
    figure.colorbar(image, ax=grid, label="attention weight $w_{ij}$", extend=extend)
    figure.suptitle(f"{title}\nvalidation example {''.join(names)}", fontsize=10)
    return figure


def _title(config: TrainConfig, run: RunFolder) -> str:
    """Task, arm, sampler and seed; EMULATED where the reads are no quantum computer's."""
    summary = json.loads(run.summary_file.read_text()) if run.summary_file.is_file() else {}
    sampler = config.sampler + (" (EMULATED)" if summary.get("emulated") else "")
    last = config.seed + config.ensemble - 1
    seeds = f"seed {config.seed}" if config.ensemble == 1 else f"seeds {config.seed} to {last}"
    return (
        f"{config.task}, {config.attention} attention, T = {config.context}, "
        f"sampler {sampler}, {seeds}"
    )


def _couplings(model: Transformer) -> list[Tensor]:
    return [m.couplings.detach() for m in model.modules() if isinstance(m, BoltzmannAttention)]


def _curve(
    axes: "Axes", records: list[dict[str, Any]], name: str, label: str, against: str = "step"
) -> None:
    rows = [r for r in records if name in r]
    x = [r[against] for r in rows]
    (line,) = axes.plot(x, [r[name] for r in rows], label=label, marker=".", markersize=4)
    if rows and f"{name}_members" in rows[0]:
        low, high = zip(*(r[f"{name}_interval"] for r in rows), strict=True)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        members = [r[f"{name}_members"] for r in rows]
        axes.plot(x, members, color=line.get_color(), linewidth=0.5, alpha=0.5)


def _label_edges(grid: Any, x: str, y: str) -> None:
    for axes in grid[-1]:
        axes.set_xlabel(x, fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel(y, fontsize=9)


def _figure(
    rows: int,
    columns: int,
    width: float,
    height: float,
    layout: Literal["constrained", "compressed"] = "constrained",
    *,
    share: bool = False,
) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout=layout)
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
