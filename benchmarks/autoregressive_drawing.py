r"""Time of a read of 4,096 spins: ours level by level, and transformers that attend to all before.

    python benchmarks/autoregressive_drawing.py
    python benchmarks/autoregressive_drawing.py --lattices 2d --size 32 --logit bp

Lattices of random signs: square and open, square and periodic, cubic and open. `net` draws by
`--logit` and a head of `--layers` layers; `net, narrow` draws spins with narrow scopes from their
exact conditionals. `dense` is a causal transformer of as many layers and the same width, one spin
after the other row by row, as variational autoregressive networks draw: `cached`, keys and values
of spins that are drawn are kept; `uncached`, every spin takes a pass over all before it. A whole
uncached draw takes too long: passes of PASSES lengths are timed and summed over all lengths by the
trapezium rule, and the line says so. Parameters are random: time does not depend on them.

CPU time of one thread, a process for each line; memory is the peak of a draw above what the process
had before. `a level` is the time of a draw of one read over its levels: what Python and calls cost.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from qattn.problems import edwards_anderson
from qattn.simulators.autoregressive.build import build_net
from qattn.simulators.autoregressive.settings import NetSettings

LATTICES = {"2d": (2, False), "2d-torus": (2, True), "3d": (3, False), "3d-torus": (3, True)}
PASSES = 9


class Dense(nn.Module):
    """A causal transformer of n spins in the order of the models, logits of all of them.

    Args:
        num_spins: Number of spins.
        layers: Number of layers.
        width: Embedding dimension; the inner width is four times that.
        heads: Attention heads.
    """

    def __init__(self, num_spins: int, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.site = nn.Embedding(num_spins, width)
        self.spin = nn.Linear(1, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(width),
                    "qkv": nn.Linear(width, 3 * width),
                    "out": nn.Linear(width, width),
                    "norm2": nn.LayerNorm(width),
                    "up": nn.Linear(width, 4 * width),
                    "down": nn.Linear(4 * width, width),
                }
            )
            for _ in range(layers)
        )
        self.readout = nn.Linear(width, 1)

    def forward(self, before: Tensor, start: int, cache: list[Tensor] | None = None) -> Tensor:
        """Logits of positions from `start` on, (reads, positions).

        Args:
            before: The spin before each of them, (reads, positions); 0 before the first.
            start: The first position.
            cache: Keys and values of each layer, (2, reads, heads, spins, width of a head), which
                are read and written; None where all positions are given.
        """
        rows = slice(start, start + before.shape[1])
        x = self.site.weight[rows] + self.spin(before.unsqueeze(2))
        for k, layer in enumerate(self.layers):
            qkv = layer["qkv"](layer["norm"](x)).unflatten(2, (3, self.heads, -1))
            query, key, value = qkv.permute(2, 0, 3, 1, 4)
            if cache is not None:
                cache[k][0, :, :, rows], cache[k][1, :, :, rows] = key, value
                key, value = cache[k][:, :, :, : rows.stop]
            found = scaled_dot_product_attention(query, key, value, is_causal=cache is None)
            x = x + layer["out"](found.transpose(1, 2).flatten(2))
            x = x + layer["down"](gelu(layer["up"](layer["norm2"](x))))
        return self.readout(x).squeeze(2)

    def draw(self, num_reads: int, generator: torch.Generator) -> Tensor:
        """States, one spin after the other with a cache, (reads, spins)."""
        n, width = self.site.weight.shape
        shape = 2, num_reads, self.heads, n, width // self.heads
        cache = [torch.zeros(shape) for _ in self.layers]
        spins = torch.zeros(num_reads, n + 1)  # a 0 before the first
        for i in range(n):
            probability = self(spins[:, i : i + 1], i, cache).sigmoid().squeeze(1)
            u = torch.rand(num_reads, generator=generator)
            spins[:, i + 1] = torch.where(u < probability, 1.0, -1.0)
        return spins[:, 1:]


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of a call, and the MiB it takes at its peak."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    start_memory, start = _peak(), time.process_time()
    call()
    return time.process_time() - start, _peak() - start_memory


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(x for x in lines if x.startswith("VmHWM")).split()[1]) / 1024


@torch.no_grad()
def ours(options: argparse.Namespace, lattice: str, **settings: int) -> str:
    """A line of one of our nets."""
    torch.set_num_threads(1)
    dimensions, periodic = LATTICES[lattice]
    side = options.size if dimensions == 2 else round(options.size ** (2 / 3))
    batch = edwards_anderson(1, side, dimensions=dimensions, periodic=periodic)
    start = time.process_time()
    chosen = NetSettings(
        logit=options.logit,
        **{"exact_width": 0, "head_width": options.width, "head_heads": options.heads, **settings},
    )
    net = build_net(chosen, batch)
    built, models, generator = time.process_time() - start, net.arranged(batch), torch.Generator()
    net.draw(models, 1, generator)
    single, _ = timed(lambda: net.draw(models, 1, generator))
    seconds, memory = timed(lambda: net.draw(models, options.reads, generator))
    plan = net.plan
    keys, levels = sum(map(len, plan.scopes)) / plan.num_spins, len(plan.levels)
    reads = options.reads
    return (
        f"{reads:6d}  {1e3 * seconds / reads:9.2f}  {memory:6.0f}  {levels} levels, "
        f"{keys:.1f} keys a query, at most {plan.width}; {1e6 * single / levels:.0f} µs a level; "
        f"{plan.num_spins - plan.num_core} spins exact; built in {built:.1f} s"
    )


@torch.no_grad()
def dense(options: argparse.Namespace, cached: bool) -> str:
    """A line of a transformer that attends to all spins before."""
    torch.set_num_threads(1)
    n, reads = options.size**2, options.dense_reads
    net, generator = Dense(n, options.layers, options.width, options.heads), torch.Generator()
    if cached:
        net.draw(1, generator)
        seconds, memory = timed(lambda: net.draw(reads, generator))
        note = f"{n} levels, {(n - 1) / 2:.1f} keys a query"
    else:
        lengths = torch.linspace(1, n, PASSES).long().tolist()
        runs = [timed(lambda t=t: net(torch.ones(reads, t), 0)) for t in lengths]
        times = torch.tensor([seconds for seconds, _ in runs])
        seconds = float(torch.trapezoid(times, torch.tensor(lengths).float()))
        memory = max(memory for _, memory in runs)
        note = f"extrapolated from {PASSES} passes of {', '.join(map(str, lengths))} spins"
    return f"{reads:6d}  {1e3 * seconds / reads:9.2f}  {memory:6.0f}  {note}"


def main() -> None:
    """Print a line for each lattice and sampler."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lattices", nargs="*", default=list(LATTICES)[:3], choices=LATTICES)
    parser.add_argument(
        "--size", type=int, default=64, help="side of a square; cubes as many spins"
    )
    parser.add_argument("--logit", default="pair", help="physics in the logit of ours")
    parser.add_argument("--exact-width", type=int, default=10, help="of `net, narrow`")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--reads", type=int, default=64, help="reads of ours, drawn at once")
    parser.add_argument("--dense-reads", type=int, default=16, help="the same of `dense`")
    options = parser.parse_args()
    print(f"{'lattice':9} {'sampler':16}  reads  ms a read     MiB")
    context = get_context("spawn")

    def line(
        lattice: str, sampler: str, call: Callable[..., str], *args: object, **settings: int
    ) -> None:
        with ProcessPoolExecutor(1, context) as process:
            found = process.submit(call, options, *args, **settings).result()
        print(f"{lattice:9} {sampler:16} {found}", flush=True)

    for lattice in options.lattices:
        line(lattice, options.logit, ours, lattice)
        line(lattice, "net", ours, lattice, head=options.layers)
        exact = options.exact_width
        line(lattice, "net, narrow", ours, lattice, head=options.layers, exact_width=exact)
    for name in ("cached", "uncached"):
        line("any", f"dense, {name}", dense, name == "cached")


if __name__ == "__main__":
    main()
