"""Nets along a ladder: untrained with a pilot, from checkpoints, and fitted on the way."""

import pytest
import torch
from _support.samplers import SETTINGS, a_checkpoint

from qattn import problems
from qattn.simulators.autoregressive import NetSettings, build_net
from qattn.simulators.autoregressive.checkpoint import parameters_of
from qattn.spin_glass import fitted, of_checkpoints, spin_glass, untrained
from qattn.spin_glass.measure import split
from qattn.spin_glass.nets import chosen


@pytest.fixture
def problem():
    return split(problems.spin_glass(1, 8, seed=4))


def marks(nets):
    return [float(next(net.parameters()).mean()) for net in nets]


def test_at_each_beta_the_checkpoint_that_was_fitted_nearest_to_it(tmp_path, problem):
    folders = [a_checkpoint(tmp_path / f"{b}", problem, b, b) for b in (0.5, 2.0)]
    nets = of_checkpoints(folders)
    assert marks(nets(problem, [0.2, 0.9, 1.1, 3.0])) == [0.5, 0.5, 2.0, 2.0]
    # β of the problem's own is not in its couplings.
    assert marks(nets(problems.with_strength(problem, 0.5), [1.1])) == [2.0]


def test_of_several_problems_each_is_drawn_by_its_own(tmp_path):
    both = split(problems.spin_glass(2, 8))
    folders = []
    for p in range(2):
        one = split(problems.from_bqms([both.to_bqms()[p]]))
        folders.append(a_checkpoint(tmp_path / f"{p}", one, 1.0, 1.0 + p))
        assert marks(of_checkpoints(folders)(one, [1.0])) == [1.0 + p]
    other = split(problems.spin_glass(1, 8, seed=9))
    with pytest.raises(ValueError, match="fitted to others than those of group 0"):
        list(of_checkpoints(folders)(other, [1.0]))


def test_a_fit_goes_on_from_one_beta_to_the_next(problem):
    """Parameters move at each β; the weighted reads stay right."""
    nets = fitted(NetSettings(logit="tap", iterations=2, exact_width=0), seconds=0.4)
    seen = [
        torch.cat([p.detach().flatten().clone() for p in net.parameters()])
        for net in nets(problem, [1.0, 2.0])
    ]
    fresh = parameters_of(build_net(SETTINGS, problem))
    start = torch.cat([p.flatten() for p in fresh.values()])
    assert not torch.equal(seen[0], start)
    assert not torch.equal(seen[1], seen[0])
    section = spin_glass("fitted", problem, [1.0, 2.0], nets, num_reads=500)
    (ladder,) = section.ladders
    for b, judged in enumerate(ladder.judged):
        exactly = float(ladder.of("log_Z")[2][b])
        assert abs(judged.log_Z - exactly) < 5 * judged.log_Z_error
        assert judged.verdict == "usable with weights"


def test_a_pilot_chooses_what_is_left_open(problem):
    nets = list(untrained()(problem, [0.5, 3.0]))
    assert [net.plan.num_spins for net in nets] == [8, 8]
    # The same graph and settings are one net.
    first, again = (next(untrained_pair(problem, [1.0])) for _ in range(2))
    assert first is again


untrained_pair = untrained(NetSettings(logit="pair"))


def test_what_the_command_line_asks_for(tmp_path, problem):
    assert chosen(NetSettings(), [], 0.0, 0)[1] == "untrained, logit auto"
    assert chosen(NetSettings(), [], 5.0, 0)[1] == "fitted 5 s at each β, logit auto"
    folder = a_checkpoint(tmp_path / "run", problem, 1.0, 0.0, couplings=None)
    assert chosen(NetSettings(), [folder], 0.0, 0)[1] == f"fitted: {folder}"
    with pytest.raises(ValueError, match="`fit_seconds` must be 0 with a checkpoint"):
        chosen(NetSettings(), [folder], 5.0, 0)
    with pytest.raises(ValueError, match="`fit_seconds` must not be negative"):
        chosen(NetSettings(), [], -1.0, 0)
    with pytest.raises(FileNotFoundError, match="No fitted sampler"):
        chosen(NetSettings(), [tmp_path], 0.0, 0)
