"""Autoregressive samplers that are wrong in a known way, and files of fitted ones."""

import torch

from qattn.simulators.autoregressive import (
    AutoregressiveNet,
    Conditional,
    FittedSampler,
    NetSettings,
    Plan,
    build_net,
    save_sampler,
)
from qattn.simulators.autoregressive.checkpoint import couplings_hash, parameters_of
from qattn.simulators.autoregressive.pair import Pair

SETTINGS = NetSettings(logit="tap", iterations=2, exact_width=0, parameters="couplings")


class Constant(Conditional):
    """Logits that depend on no spin."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def begin(self, models, num_reads):
        return models.num_queries * num_reads

    def logits(self, state, level, spins):
        return self.values[None, level, None].expand(len(spins), -1, state)

    def of_states(self, models, spins, positions):
        return self.values[None, positions, None].expand(len(spins), -1, spins.shape[2])


def pushed(by):
    """The untrained sampler with a constant added to its first logit."""

    def nets(problem, betas):
        for _ in betas:
            values = torch.zeros(problem.num_spins)
            values[0] = by
            yield AutoregressiveNet(Plan.dense(problem.num_spins), [Pair(), Constant(values)])

    return nets


def a_checkpoint(folder, problem, beta, mark, couplings="own"):
    """A sampler in a folder, whose parameters are all a number that says which it is."""
    folder.mkdir()
    net = build_net(SETTINGS, problem)
    state = {name: torch.full_like(p, mark) for name, p in parameters_of(net).items()}
    known = couplings_hash(problem.matrix[0]) if couplings == "own" else couplings
    save_sampler(folder, FittedSampler(SETTINGS, state, (beta,), known, net.plan))
    return folder
