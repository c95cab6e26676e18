r"""Autoregressive samplers of spin glasses side by side, at the same CPU time and reads of a step.

    python benchmarks/spin_glass.py --problems sk:50:1 ea:8:1 --nets tap fitted made made-cached
    python benchmarks/spin_glass_table.py spin_glass.json

A problem is SET:SIZE:BETA: `sk` (spins), `ea` (side of a square torus), `ea3` (of a cubic one). Its
instances are seeds 0, 1, …, not chosen. What runs, with its options after colons:

    pair, tap, bp, auto          ours, untrained
    fitted[:LOGIT[:HEAD]]        ours, fitted, couplings as parameters; HEAD layers of a transformer
    made[:DEPTH:WIDTH]           variational autoregressive network (VAN), as published
    made-cached                  the same, drawn with a cache
    pixelcnn[:DEPTH:WIDTH:HALF]  VAN of convolutions, square lattices only; pixelcnn-cached
    two-body                     linear net of two-body interactions
    tempering                    what an independent read costs
    gibbs, neal                  reads in equilibrium

Time is CPU time of this process, of one thread unless told otherwise. Each trained net runs once
with each of `--optimisers` RATE:CLIP[:LAST]; 1e-3:1 is what VANs were published with, LAST the rate
at the end relative to RATE. Each finished piece is kept in the JSON file, and not run again.
`spin_glass_figures.py` says what the figures are.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from spin_glass_figures import Problem, figures, quality, seconds_a_read
from spin_glass_peers import (
    MADE,
    OfNet,
    Optimiser,
    PixelCNN,
    Sampler,
    Training,
    TwoBody,
    Van,
    independent_reads,
    reads_of,
    train,
)
from torch import nn

from qattn.simulators.autoregressive import AutoregressiveNet, Models
from qattn.simulators.autoregressive.build import build_net
from qattn.simulators.autoregressive.orders import plan_of
from qattn.simulators.autoregressive.settings import NetSettings

UNTRAINED = ("auto", "pair", "tap", "bp")
CHAINS = ("tempering", "gibbs", "neal")
DEPTH, WIDTH = 1, 1
"""Of MADE where nothing is said, as published for SK: no hidden units."""

LATTICE_DEPTH, LATTICE_WIDTH = 3, 4
"""The same for a square lattice, as published for the Ising model."""

PIXEL_CNN = (3, 64, 6)
"""Depth, width and half of a window of PixelCNN, as published."""


class LeftOutError(ValueError):
    """A net that a problem has no use for."""


def sampler_of(net: str, problem: Problem) -> tuple[Sampler, list[nn.Parameter]]:
    """An untrained sampler and what may be trained."""
    kind, *options = net.split(":")
    sizes = [int(option) for option in options]
    if kind.startswith("made"):
        depth, width = sizes or ((LATTICE_DEPTH, LATTICE_WIDTH) if problem.size else (DEPTH, WIDTH))
        made = MADE(
            problem.batch.num_spins, depth, width, bias=bool(problem.size), cached="-" in kind
        )
        return made, list(made.parameters())
    if kind.startswith("pixelcnn"):
        if problem.size is None:
            raise LeftOutError("PixelCNN needs a square lattice")
        cnn = PixelCNN(problem.size, *(sizes or PIXEL_CNN), cached="-" in kind)
        return cnn, list(cnn.parameters())
    if kind == "two-body":
        plan = plan_of((problem.batch.matrix != 0).any(0), "natural")
        ours = AutoregressiveNet(plan, [TwoBody(plan, torch.Generator().manual_seed(0))])
    else:
        ours = build_net(NetSettings(logit=kind), problem.batch)
    models = Models.arranged(problem.batch, ours.plan)
    return OfNet(ours, models), list(ours.parameters())


def untrained(net: str, problem: Problem, given: argparse.Namespace) -> dict[str, Any]:
    """Figures of a net of ours as it is."""
    return figures(sampler_of(net, problem)[0], problem, given.reads, seed=10)


def fitted(net: str, problem: Problem, given: argparse.Namespace) -> dict[str, Any]:
    """Figures of a net of ours after its fit."""
    from qattn.fitting import Fit, FitSettings

    logit, head = [*net.split(":")[1:], *("auto", "0")[net.count(":") :]]
    start = time.process_time()
    torch.manual_seed(1000 + problem.seed)  # of the weights at the start
    settings = NetSettings(logit=logit, head=int(head), parameters="couplings")
    ours = build_net(settings, problem.batch)
    of_fit = FitSettings(seconds=given.seconds, batch_size=given.reads_a_step, seed=problem.seed)
    try:
        fit, spent = Fit([(ours, problem.batch)], 1.0, of_fit), 0.0
    except ValueError as error:  # all spins are drawn exactly
        raise LeftOutError(error) from None
    while not fit.schedule.is_over(spent):
        fit.step(spent)
        spent = min(1.0, (time.process_time() - start) / given.seconds)
    took = Training(time.process_time() - start, fit.steps)
    with fit.averaged():
        sampler = OfNet(ours, Models.arranged(problem.batch, ours.plan))
        found = figures(sampler, problem, given.reads, seed=10)
    return found | facts(took, fit.learned.values())


def facts(took: Training, parameters: Iterable[nn.Parameter]) -> dict[str, Any]:
    """What a training took, and the number of parameters."""
    size = sum(p.numel() for p in parameters)
    return {"training_" + k: v for k, v in vars(took).items()} | {"parameters": size}


def trained(
    net: str, problem: Problem, given: argparse.Namespace, optimiser: Optimiser
) -> dict[str, Any]:
    """Figures of a peer after its training."""
    torch.manual_seed(1000 + problem.seed)  # of the weights at the start
    sampler, parameters = sampler_of(net, problem)
    took = train(
        sampler,
        parameters,
        problem.J,
        problem.beta,
        seconds=given.seconds,
        num_reads=given.reads_a_step,
        optimiser=optimiser,
        generator=torch.Generator().manual_seed(problem.seed),
    )
    uncached = {}
    if isinstance(sampler, Van) and not sampler.cached:
        seconds = seconds_a_read(sampler)
        # The same reads with a cache: what is judged need not take as long.
        sampler.cached = True
        uncached = {"seconds_a_read": seconds}
    found = figures(sampler, problem, given.reads, seed=10) | uncached
    found["seconds_a_read_over_ESS"] = found["seconds_a_read"] / found["ESS"]
    return found | facts(took, parameters)


def reference(problem: Problem) -> dict[str, Any]:
    """What an instance is compared with."""
    log_Z, error = problem.log_Z
    return {
        "kind": problem.reference.kind,
        "log_Z": log_Z,
        "F_error": error / (problem.beta * problem.batch.num_spins),
        "in_equilibrium": not problem.reference.not_in_equilibrium,
    }


def chain(net: str, problem: Problem, given: argparse.Namespace) -> dict[str, Any]:
    """What reads of a Markov chain cost and are worth."""
    if net == "tempering":
        cost = independent_reads(problem.batch)
        return dataclasses.asdict(cost) | {"seconds_a_read_over_ESS": cost.seconds}
    samples, seconds, settled = reads_of(net, problem.batch, given.chain_reads)
    found = quality(samples.spins[0, 0], None, problem)
    return found | {"seconds_a_read": seconds, "in_equilibrium": settled}


def pieces(given: argparse.Namespace) -> dict[str, Callable[[Problem], dict[str, Any]]]:
    """What is to be run for each problem, by the name of its row."""
    found: dict[str, Callable[[Problem], dict[str, Any]]] = {"reference": reference}
    for net in given.nets:
        kind = net.partition(":")[0]
        if kind in UNTRAINED:
            found[net] = lambda p, net=net: untrained(net, p, given)
        elif kind == "fitted":
            found[f"{net}, {given.seconds:g} s"] = lambda p, net=net: fitted(net, p, given)
        elif kind in CHAINS:
            found[net] = lambda p, net=net: chain(net, p, given)
        elif kind in ("made", "made-cached", "pixelcnn", "pixelcnn-cached", "two-body"):
            for optimiser in given.optimisers:
                name = f"{net}, {given.seconds:g} s, {optimiser}"
                found[name] = lambda p, net=net, o=optimiser: trained(net, p, given, o)
        else:
            raise SystemExit(f"Argument `--nets` names no net: {net!r}.")
    return found


class Results:
    """Finished pieces in a file.

    Args:
        file: JSON, read if it is there.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []

    def __contains__(self, key: tuple[str, int, str]) -> bool:
        """Whether a piece is finished."""
        return any((row["problem"], row["seed"], row["net"]) == key for row in self.rows)

    def add(self, problem: Problem, net: str, found: dict[str, Any]) -> None:
        """Keep a piece: the whole file or none of it is written."""
        key = {"problem": problem.name, "seed": problem.seed, "net": net}
        self.rows.append(key | found)
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(self.rows, indent=1) + "\n")
        partial.replace(self.file)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", default=["sk:50:1"])
    parser.add_argument("--nets", nargs="+", default=["tap", "made", "made-cached", "tempering"])
    parser.add_argument("--seconds", type=float, default=60, help="CPU time of a training")
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--reads-a-step", type=int, default=256)
    parser.add_argument("--reads", type=int, default=10_000, help="reads that are judged")
    parser.add_argument("--chain-reads", type=int, default=1000, help="those of gibbs and neal")
    parser.add_argument(
        "--optimisers", nargs="+", default=["1e-3:1"], help="RATE:CLIP[:LAST] of peers"
    )
    parser.add_argument("--tempering-sweeps", type=int, default=100_000, help="of references")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("spin_glass.json"))
    given = parser.parse_args(arguments)
    given.optimisers = [Optimiser(*map(float, o.split(":"))) for o in given.optimisers]
    torch.set_num_threads(given.threads)
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])  # imports what the first training need not pay
    results = Results(given.json)
    for name in given.problems:
        for seed in range(given.instances):
            problem = Problem(name, seed, given.tempering_sweeps)
            for net, run in pieces(given).items():
                if (name, seed, net) in results:
                    continue
                start = time.process_time()
                try:
                    found = run(problem)
                except LeftOutError as error:
                    print(f"{name} {seed} {net}: left out, {error}", file=sys.stderr)
                    continue
                results.add(problem, net, found)
                seconds = time.process_time() - start
                shown = {k: f"{v:.3g}" for k, v in found.items() if isinstance(v, float)}
                print(f"{name} {seed} {net} ({seconds:.0f} s): {shown}", file=sys.stderr)


if __name__ == "__main__":
    main()
