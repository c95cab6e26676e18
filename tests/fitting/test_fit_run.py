"""Runs of a fit: what they reach, how they stop and go on, and what they leave."""

import dataclasses
import math
import os
import signal

import pytest
import torch
from _support.brute_force import all_states

from qattn import exact
from qattn.fitting import (
    Fit,
    FitConfig,
    FitFolder,
    FitSettings,
    Schedule,
    fit_sampler,
    plot_fit,
    run,
)
from qattn.problems import named
from qattn.simulators.autoregressive import NetSettings, build_net, load_sampler
from qattn.simulators.autoregressive.models import as_columns
from qattn.training import Interrupted

SMALL = {"batch_size": 16, "log_every": 2, "num_reads": 50, "evaluations": 2}
TINY = FitConfig(
    problems="sk:spins=6,problems=2",
    problem=1,
    steps=12,
    distil=0.2,
    tempering_reads=4,
    net=NetSettings(logit="tap", iterations=2, parameters="couplings", exact_width=0),
    **SMALL,
)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(run, "plot_fit", lambda folder: [])


def stops_after(steps):
    """Says stop when it is asked once more."""
    asked = iter(range(steps))
    return lambda: next(asked, None) is None


def divergence(net, batch):
    """KL(q|p), from all states."""
    n = batch.num_spins
    spins = as_columns(all_states(n).to(torch.int8)[None, None], net.plan, torch.float32)
    models = net.arranged(batch)
    with torch.no_grad():
        log_q = net.log_q(models, spins)
    mean = (log_q.exp() * (log_q + models.energies(spins))).sum()
    return float(mean + exact.log_partition(batch)[0, 0])


def test_a_fit_comes_near_the_distribution():
    batch = named("sk:spins=10,problems=1", seed=3)
    settings = NetSettings(logit="tap", iterations=2, parameters="couplings", exact_width=0)
    net = build_net(settings, batch)
    fit = Fit([(net, batch)], 2.0, FitSettings(steps=120, batch_size=64))
    at_target = fit.at(2.0, batch)
    before = divergence(net, at_target)
    for step in range(120):
        found = fit.step(step / 120)
    assert fit.schedule.beta == 2.0
    with fit.averaged():
        after = divergence(net, at_target)
    assert 0 <= after < before / 10
    assert after < 2e-3
    assert math.isclose(after, found.spread**2 / 2, abs_tol=2e-3)  # KL is half the variance


def test_schedule():
    path = Schedule.between(0.5, 1.0)
    for step in range(61):
        path.record(step / 100, ess=1.0, mean=-1.0, error=0.1)
    assert path.beta == 1.0
    assert path.rate(0.6) == 1
    assert path.rate(1.0) == pytest.approx(0.03)
    slow = Schedule.between(0.5, 1.0)
    for step in range(50):
        slow.record(step / 100, ess=0.1, mean=-1.0, error=0.1)
    assert 0.5 < slow.beta < 0.8  # late, though not beyond what the budget allows
    for step in range(50, 90):
        slow.record(step / 100, ess=0.1, mean=-1.0, error=0.1)
    assert slow.beta == 1.0


def test_a_plateau_ends_it_early():
    path, steps = Schedule.between(1.0, 1.0), 0
    while not path.is_over(steps / 10_000):
        path.record(steps / 10_000, ess=1.0, mean=-1.0, error=0.1)
        steps += 1
    assert steps < 2000
    falling, steps = Schedule.between(1.0, 1.0), 0
    while not falling.is_over(steps / 1000):
        falling.record(steps / 1000, ess=1.0, mean=-float(steps), error=0.1)
        steps += 1
    assert steps == 1000


def test_few_positions_where_steps_are_long():
    batch = TINY.batches()[0]
    net = build_net(TINY.built, batch)
    fit = Fit([(net, batch)], 1.0, FitSettings(seconds=10.0, batch_size=8))
    fit.take_fewer_positions(0.1)
    assert fit.positions is None
    fit.take_fewer_positions(0.2)
    assert fit.positions == 3
    fit.step(0.0)
    assert fit.steps == 1


def test_resumed_to_the_bit(tmp_path):
    summary = fit_sampler(TINY, tmp_path / "whole")
    with pytest.raises(Interrupted, match=r"Stopped at step 9; checkpoint written\. Continue with"):
        fit_sampler(TINY, tmp_path / "parts", stop=stops_after(9))
    again = fit_sampler(TINY, tmp_path / "parts", resume=True)
    whole, parts = (FitFolder(tmp_path / name).read_checkpoint() for name in ("whole", "parts"))
    for name, value in whole["fit"]["parameters"].items():
        assert torch.equal(value, parts["fit"]["parameters"][name]), name
    assert torch.equal(whole["fit"]["generator"], parts["fit"]["generator"])
    records = [
        [{k: v for k, v in record.items() if k != "seconds"} for record in folder.read_metrics()]
        for folder in (FitFolder(tmp_path / "whole"), FitFolder(tmp_path / "parts"))
    ]
    assert records[0] == records[1]
    assert len(records[0]) > 5
    assert {**summary, "seconds": 0} == {**again, "seconds": 0}
    pictures = plot_fit(FitFolder(tmp_path / "parts"))
    assert [path.name for path in pictures if path.is_file()] == ["fit.png", "fit.svg"]


def test_only_the_budget_may_change(tmp_path):
    with pytest.raises(Interrupted):
        fit_sampler(TINY, tmp_path / "run", stop=stops_after(1))
    with pytest.raises(ValueError, match=r"with lr = 0.1: it was started with 0.005\. Only the bu"):
        fit_sampler(dataclasses.replace(TINY, lr=0.1), tmp_path / "run", resume=True)
    longer = dataclasses.replace(TINY, steps=14, threads=1)
    assert fit_sampler(longer, tmp_path / "run", resume=True)["steps"] == 14
    with pytest.raises(FileExistsError, match="qattn fit-sampler --resume"):
        fit_sampler(TINY, tmp_path / "run")


def test_ctrl_c_leaves_a_sampler(tmp_path, monkeypatch):
    real = Fit.step

    def step(fit, spent):
        if fit.steps == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(fit, spent)

    monkeypatch.setattr(Fit, "step", step)
    with pytest.raises(Interrupted, match=r"step 4; .*: qattn fit-sampler --resume \S*run$"):
        fit_sampler(TINY, tmp_path / "run")
    batch = TINY.batches()[0]
    net = load_sampler(tmp_path / "run").net_for(batch)
    assert divergence(net, batch) < 0.1


def test_what_is_not_finite_stops_it(tmp_path, monkeypatch):
    real = run.Fit.step

    def step(fit, spent):
        if fit.steps == 5:
            with torch.no_grad():
                fit.net.parts[0].readout += math.nan
        return real(fit, spent)

    monkeypatch.setattr(run.Fit, "step", step)
    message = r"diverged at step 5: .* Lower --lr, .* The checkpoint of step 0 in '.*run' is from"
    with pytest.raises(FloatingPointError, match=message):
        fit_sampler(TINY, tmp_path / "run")
    batch = TINY.batches()[0]
    net = load_sampler(tmp_path / "run").net_for(batch)
    assert all(bool(p.isfinite().all()) for p in net.parameters())


def test_other_couplings_are_refused(tmp_path):
    fit_sampler(TINY, tmp_path / "run")
    sampler = load_sampler(tmp_path / "run")
    assert sampler.betas == (1.0,)
    assert sampler.figures["reference"] == "enumeration"
    own, other = TINY.batches()[0], named("sk:spins=6,problems=2")
    hotter = dataclasses.replace(own, beta=0.5, h=own.h + 0.1, validate=True)
    sampler.check(hotter)
    with pytest.raises(ValueError, match=r"'\S*run' was fitted to others than those of group 0"):
        sampler.net_for(other)  # the second of these is its own
    (tmp_path / "run" / "sampler.pt").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"Cannot read the sampler '\S*sampler\.pt': "):
        load_sampler(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="No fitted sampler in"):
        load_sampler(tmp_path)


def test_a_family_has_one_set_of_numbers_for_all_sizes(tmp_path):
    family = "sk:spins=6,problems=3; sk:spins=8,problems=3"
    settings = NetSettings(logit="tap", parameters="scalars", exact_width=0)
    config = FitConfig(family=family, net=settings, steps=6, beta=1.5, **SMALL)
    summary = fit_sampler(config, tmp_path / "run")
    assert [found["num_spins"] for found in summary["sets"]] == [6, 8]
    sampler = load_sampler(tmp_path / "run")
    assert sampler.betas == (0.375, 1.5)
    larger = named("sk:spins=11,problems=1")
    net = sampler.net_for(larger)
    fresh = build_net(settings, larger)
    both = zip(net.parameters(), fresh.parameters(), strict=True)
    moved = [not torch.equal(a, b) for a, b in both]
    assert any(moved)
    assert sum(p.numel() for p in net.parameters()) < 50
    spins, _ = net.draw(net.arranged(larger), 5, torch.Generator().manual_seed(0))
    assert spins.shape == (1, 11, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "`problems` must name problems one of which is fitted, or `family`"),
        ({"problems": "sk:spins=6", "problem": 10}, "`problem` must be below 10"),
        ({"problems": "sk:spins=6", "lr": 0.0}, "`lr` must be positive and finite, but is 0.0"),
        ({"problems": "sk:spins=6", "batch_size": 1}, "`batch_size` must be at least 2"),
        ({"problems": "sk:spins=6", "tempering_reads": 5}, "`tempering_reads` must go with"),
        ({"problems": "sk:spins=6", "distil": 2.0}, "`distil` must be from 0 to 1"),
        ({"family": "sk:spins=6", "distil": 0.1}, "`distil` must be 0 for a family"),
        ({"family": "sk", "net": NetSettings(parameters="couplings")}, "must be scalars for a fa"),
        ({"problems": "sk:spins=12", "net": NetSettings()}, "`parameters` must be scalars or coup"),
        ({"problems": "ring:spins=8,problems=1"}, "all spins are drawn exactly"),
        (
            {
                "problems": "sk:spins=28",
                "net": NetSettings(iterations=1, parameters="couplings"),
                "reference": "exact",
            },
            "too dense for exact values",
        ),
    ],
)
def test_errors_name_the_argument(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        fit_sampler(FitConfig(**settings), tmp_path / "run")
