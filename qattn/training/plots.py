"""Pictures of a run: learning curves, couplings, attention weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from qattn.layers import BoltzmannAttention
from qattn.training.folder import RunFolder
from qattn.training.trained_run import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_run(folder: Path) -> list[Path]:
    """Write the plots of a run into its folder; returns their paths."""
    run = RunFolder(folder)
    config = run.trained_config(run.read_checkpoint())
    model, task = load(folder)
    title = f"{config.task}, {config.attention} attention, T = {config.context}"
    figures = {"learning_curves": learning_curves(run.read_metrics(), task.metric, title)}
    couplings = [
        layer.couplings.detach()
        for layer in model.modules()
        if isinstance(layer, BoltzmannAttention)
    ]
    if couplings:
        figures["couplings"] = coupling_matrices(couplings)
        figures["couplings_by_distance"] = couplings_by_distance(couplings)
    tokens = task.validation()[0][:1]
    weights = [w[0] for w in model.attention_weights(tokens)]
    figures["attention"] = attention_weights(weights, task.token_names(tokens[0]))
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=120)
    return paths


def learning_curves(records: list[dict[str, Any]], metric: str, title: str) -> "Figure":
    """Training loss, and validation loss and metric, against steps; members as thin lines."""
    figure, ((left, right),) = _figure(1, 2, 4.6, 3.4)
    for axes, name, label in (
        (left, "loss", "training"),
        (left, "validation_loss", "validation"),
        (right, metric, "validation"),
    ):
        rows = [r for r in records if name in r]
        steps = [r["step"] for r in rows]
        (line,) = axes.plot(steps, [r[name] for r in rows], label=label, marker=".", markersize=3)
        if rows and f"{name}_members" in rows[0]:
            members = [r[f"{name}_members"] for r in rows]
            axes.plot(steps, members, color=line.get_color(), linewidth=0.5, alpha=0.5)
    left.set_ylabel("cross-entropy (nats)")
    right.set_ylabel(f"validation {metric}")
    left.legend()
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


def coupling_matrices(couplings: list[Float[Tensor, "heads n n"]]) -> "Figure":
    """J of every layer (rows) and head (columns) on one symmetric colour scale."""
    limit = max(float(J.abs().max()) for J in couplings) or 1.0
    figure, grid = _figure(len(couplings), len(couplings[0]), 2.5, 2.4, layout="compressed")
    for layer, row in enumerate(grid):
        for head, axes in enumerate(row):
            J = couplings[layer][head].numpy()
            image = axes.imshow(J, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes.set_title(f"layer {layer}, head {head}", fontsize=9)
            axes.locator_params(integer=True)
    _label_edges(grid, "position k", "position j")
    figure.colorbar(image, ax=grid, label="coupling $J_{jk}$")
    return figure


def couplings_by_distance(couplings: list[Float[Tensor, "heads n n"]]) -> "Figure":
    """Mean of J_jk over the pairs at each distance, with the standard deviation as a band."""
    n = couplings[0].shape[-1]
    distances = range(1, n)
    figure, grid = _figure(1, len(couplings), 4.2, 3.4)
    for layer, axes in enumerate(grid[0]):
        for head, J in enumerate(couplings[layer]):
            pairs = [J.diagonal(d) for d in distances]
            mean = np.array([p.mean().item() for p in pairs])
            std = np.array([p.std(correction=0).item() for p in pairs])
            axes.plot(distances, mean, marker=".", label=f"head {head}")
            axes.fill_between(distances, mean - std, mean + std, alpha=0.15)
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set_title(f"layer {layer}", fontsize=10)
        axes.set_xlabel("distance |j − k|")
        axes.set_ylabel("mean coupling J (band: sd over pairs)")
        axes.legend(fontsize=8)
    return figure


def attention_weights(weights: list[Float[Tensor, "heads n n"]], names: list[str]) -> "Figure":
    """Attention weights of one example: every layer (rows) and head (columns)."""
    figure, grid = _figure(len(weights), len(weights[0]), 2.6, 2.5, layout="compressed")
    limit = max(float(w.max()) for w in weights)
    ticks = range(len(names))
    size = 7 if len(names) <= 16 else 4
    for layer, row in enumerate(grid):
        for head, axes in enumerate(row):
            image = axes.imshow(weights[layer][head].numpy(), cmap="viridis", vmin=0, vmax=limit)
            axes.set_title(f"layer {layer}, head {head}", fontsize=9)
            axes.set_xticks(ticks, names, fontsize=size)
            axes.set_yticks(ticks, names, fontsize=size)
    _label_edges(grid, "key token", "query token")
    figure.colorbar(image, ax=grid, label="attention weight $w_{ij}$")
    return figure


def _label_edges(grid: Any, x: str, y: str) -> None:
    for axes in grid[-1]:
        axes.set_xlabel(x)
    for axes in grid[:, 0]:
        axes.set_ylabel(y)


def _figure(
    rows: int,
    columns: int,
    width: float,
    height: float,
    layout: Literal["constrained", "compressed"] = "constrained",
) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout=layout)
    return figure, figure.subplots(rows, columns, squeeze=False)
