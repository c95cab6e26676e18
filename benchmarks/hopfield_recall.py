r"""Recall of a Hopfield network against its load α = patterns/n and against β, with the capacity.

Networks of random patterns in Hebb's couplings; the cue is the first pattern with some spins wrong.
Few spins are sampled in equilibrium, in the weak field of the cue, by every sampler ("exact" by
enumeration, "dwave" on an emulated QPU); many by Gibbs sweeps that start at the cue, without a
field. The table has the overlap with the pattern: mean over networks and half of its 95% interval
(t distribution, the reads' noise is in it). Recalled is what is above the overlap of the cue
itself. The control has the same cues and as many other patterns. The capacity, 0.138, is the load
to which patterns are metastable at T = 0 for n → ∞ (Amit, Gutfreund and Sompolinsky, 1985).

    python benchmarks/hopfield_recall.py --out hopfield.png
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from scipy.stats import t as student
from torch import Tensor

from qattn import exact
from qattn.backends import Backend, get_backend
from qattn.thermodynamics import CAPACITY, hopfield_batch, recall, recall_by_dynamics

PATTERNS = (1, 2, 3, 4, 5, 6, 8, 10)
"""Patterns of the small networks."""

LOADS = (0.02, 0.05, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.25, 0.3)
"""Loads of the large ones."""

BETAS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
FEW, MANY = 2, 8
"""Patterns of the two small networks that are shown against β, below and above capacity."""


class Networks(NamedTuple):
    """Patterns, other patterns for the control, and cues."""

    patterns: Tensor
    others: Tensor
    cues: Tensor


def networks(number: int, num_patterns: int, n: int, wrong: int, seed: int) -> Networks:
    """Random networks, and for each the first pattern with so many random spins wrong."""
    generator = torch.Generator().manual_seed(seed)
    patterns, others = 2 * torch.randint(2, (2, number, num_patterns, n), generator=generator) - 1
    flipped = torch.rand(number, 1, n, generator=generator).argsort(-1) < wrong
    return Networks(patterns, others, torch.where(flipped, -1, 1) * patterns[:, :1])


@contextmanager
def emulated_qpu(seed: int) -> Iterator[Backend]:
    """The backend "dwave" on an emulator, whose temperature is known."""
    from qattn.hardware import EmulatedQPU
    from qattn.training.emulated import write_credentials

    with TemporaryDirectory() as folder, EmulatedQPU(shape=(6, 4), seed=seed) as qpu:
        beta = qpu.settings.beta_J  # the ghost spin makes couplings of fields
        backend = get_backend(
            "dwave",
            betas=(beta, beta),
            annealing_time=5.0,
            credentials=str(write_credentials(Path(folder), qpu)),
            journal=str(Path(folder) / "journal"),
            follow_betas=False,
        )
        try:
            yield backend
        finally:
            backend.close()


class Panel:
    """A panel of the picture, and its table on standard output."""

    def __init__(
        self, ax: plt.Axes, title: str, axis: str, xs: Sequence[float], cue: float
    ) -> None:
        self.ax, self.xs = ax, xs
        ax.set(title=title, xlabel=axis)
        ax.axhline(cue, color="0.5", linestyle=":", label=f"the cue's own, {cue:.3g}")
        print(f"\n{title}; cue {cue:.3f}\n{axis:28s}" + "".join(f"{x:15.3g}" for x in xs))

    def add(self, label: str, measured: Iterable[Tensor], style: str = "o-") -> None:
        """A line; each value is printed as soon as it is measured."""
        print(f"{label:28s}", end="", flush=True)
        means, halves = [], []
        for overlaps in measured:
            networks = len(overlaps)
            means.append(float(overlaps.mean()))
            quantile = student.ppf(0.975, networks - 1)
            halves.append(float(quantile * overlaps.std() / networks**0.5))
            print(f"  {means[-1]:6.3f} ±{halves[-1]:5.3f}", end="", flush=True)
        print()
        # Beside each other, so that the bars of samplers that agree can be told apart.
        apart = (max(self.xs) - min(self.xs)) / 200 * (len(self.ax.containers) % 3 - 1)
        xs = [x + apart for x in self.xs]
        self.ax.errorbar(xs, means, halves, fmt=style, capsize=2, markersize=3.5, label=label)


def main() -> None:
    """Print the tables and draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samplers", default="exact,gibbs,dwave")
    parser.add_argument("--num-spins", type=int, default=16, help="of the small networks")
    parser.add_argument("--beta", type=float, default=4.0)
    parser.add_argument("--field", type=float, default=0.3, help="strength of the cue")
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--reads", type=int, default=100)
    parser.add_argument("--large", default="100,200,400", help="spins of the large networks")
    parser.add_argument("--large-beta", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="picture to write: png or svg")
    given = parser.parse_args()
    torch.set_num_threads(1)
    n, wrong = given.num_spins, round(0.2 * given.num_spins)
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6), sharey=True, layout="constrained")

    def drawn(num_patterns: int, n: int = n, wrong: int = wrong) -> Networks:
        return networks(given.networks, num_patterns, n, wrong, 1000 * given.seed + num_patterns)

    def in_equilibrium(backend: str | Backend, num_patterns: int, beta: float) -> Tensor:
        net = drawn(num_patterns)
        settings = {"beta": beta, "field": given.field, "num_reads": given.reads}
        found = recall(net.patterns, net.cues, backend=backend, seed=given.seed, **settings)
        return found.overlaps[:, 0, 0]

    def control(num_patterns: int, beta: float) -> Tensor:
        net = drawn(num_patterns)
        batch = hopfield_batch(net.others, net.cues, beta=beta, field=given.field)
        return (exact.mean_spins(batch) * net.patterns[:, :1]).mean((1, 2))

    def from_the_cue(n: int, load: float) -> Tensor:
        net = drawn(max(1, round(load * n)), n, n // 10)
        settings = {"beta": given.large_beta, "num_sweeps": 50, "num_reads": 10}
        found = recall_by_dynamics(net.patterns, net.cues, seed=given.seed, **settings)
        return found.overlaps[:, 0, 0]

    with ExitStack() as stack:
        samplers: dict[str, str | Backend] = {name: name for name in given.samplers.split(",")}
        if samplers.pop("dwave", None):
            samplers["emulated QPU"] = stack.enter_context(emulated_qpu(given.seed))
        cue, loads = 1 - 2 * wrong / n, [p / n for p in PATTERNS]
        title = f"n = {n}, in the field of the cue"
        panel = Panel(axes[0], f"{title}, β = {given.beta:g}", "load α", loads, cue)
        for label, backend in samplers.items():
            panel.add(label, (in_equilibrium(backend, p, given.beta) for p in PATTERNS))
        panel.add("control: other patterns", (control(p, given.beta) for p in PATTERNS), "x--")

        panel = Panel(axes[2], title, "β", BETAS, cue)
        for patterns, style in ((FEW, "o-"), (MANY, "s--")):
            for label, backend in samplers.items():
                measured = (in_equilibrium(backend, patterns, beta) for beta in BETAS)
                panel.add(f"{label}, α = {patterns / n:.3g}", measured, style)

    title = f"Gibbs sweeps from the cue, β = {given.large_beta:g}"
    panel = Panel(axes[1], title, "load α", LOADS, 0.8)
    for size in map(int, given.large.split(",")):
        panel.add(f"n = {size}", (from_the_cue(size, load) for load in LOADS))
    for ax in axes[:2]:
        ax.axvline(CAPACITY, color="black", linewidth=0.8, label=f"capacity {CAPACITY}")
    for ax in axes:
        ax.legend(fontsize=8)
        ax.grid(alpha=0.3)
    axes[0].set(ylabel="overlap with the pattern", ylim=(-0.1, 1.05))
    figure.suptitle(f"Hopfield recall, {given.networks} networks, mean and 95% interval")
    if given.out is not None:
        figure.savefig(given.out, dpi=90)


if __name__ == "__main__":
    main()
