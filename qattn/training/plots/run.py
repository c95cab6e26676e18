"""All pictures of a run."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder
from qattn.training.plots.attention import attention_weights, position_biases
from qattn.training.plots.beta import beta_paths
from qattn.training.plots.couplings import coupling_figures
from qattn.training.plots.curves import learning_curves
from qattn.training.trained_run import load


def plot_run(folder: Path) -> list[Path]:
    """Write the plots of a run into its folder, as PNG and as SVG; returns the paths of both."""
    run = RunFolder(folder)
    config = run.trained_config(run.read_checkpoint())
    model, task = load(folder)
    records, title = run.read_metrics(), _title(config, run)
    figures = {"learning_curves": learning_curves(records, task, title)}
    if any("beta" in record for record in records):
        figures["beta"] = beta_paths(records, title)
    title = _title(replace(config, ensemble=1), run)  # the other pictures show the first member
    tokens = task.validation()[0][:1]
    names = task.token_names(tokens[0])
    with torch.no_grad():
        if couplings := model.couplings(tokens):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                first = config.model(task.vocab_size).couplings(tokens)
            own = names if config.content else None
            figures |= coupling_figures(couplings, first, title, own)
    biases = [v.detach() for k, v in model.named_parameters() if k.endswith("position_bias_values")]
    if biases:
        figures["position_bias"] = position_biases(biases, title)
    weights = [w[0] for w in model.attention_weights(tokens)]
    figures["attention"] = attention_weights(weights, names, title)
    paths = []
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            paths.append(folder / f"{name}.{kind}")
            figure.savefig(paths[-1], dpi=120)
    return paths


def _title(config: TrainConfig, run: RunFolder) -> str:
    """Task, arm, sampler and seed; EMULATED where the reads are no quantum computer's."""
    summary = json.loads(run.summary_file.read_text()) if run.summary_file.is_file() else {}
    sampler = config.sampler + (" (EMULATED)" if summary.get("emulated") else "")
    last = config.seed + config.ensemble - 1
    seeds = f"seed {config.seed}" if config.ensemble == 1 else f"seeds {config.seed} to {last}"
    arm = config.arm if "(" in config.arm else f"{config.arm} attention"
    beta = "" if config.beta == 1 else f"β = {config.beta}, "
    return f"{config.task}, {arm}, {beta}T = {config.context}, sampler {sampler}, {seeds}"
