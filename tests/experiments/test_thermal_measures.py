"""Measures of regimes, thresholds, criticality and composites, against their definitions."""

import json
import math

import numpy as np
import pytest
import torch
from _support.trainings import EVERY, SMALL

from qattn import IsingBatch, exact
from qattn.experiments import Store, Training
from qattn.experiments.measures.composite import dependence, ising_energies, one_model
from qattn.experiments.measures.dominance import BETAS, growth, thresholds_of
from qattn.experiments.measures.members import betas_of, scores_of
from qattn.experiments.measures.thresholds import gap_threshold, rem_threshold
from qattn.training import TrainConfig, load

CONFIG = SMALL | EVERY | {"task": "brackets", "steps": 5, "ensemble": 2, "seed": 3, "lr": 0.01}
T, HEADS, MEMBERS = 6, 2, 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function from a measure and settings to the run folder and what was measured."""
    store = Store(tmp_path_factory.mktemp("store"))

    def measured(name, **settings):
        training = Training("", "arm", {}, TrainConfig(**(CONFIG | settings)), (name,))
        store.train(training, quiet=True)
        run = store.run(training)
        return run, json.loads((run.path / f"measures/{name}.json").read_text())

    return measured


def gaussians(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("attention", ["softmax", "boltzmann"])
def test_regimes_count_the_positions_that_hold_nine_tenths(trained, attention):
    run, found = trained("regimes", attention=attention)
    assert found["classes"] == ["averaging", "clustered", "retrieval"]
    for member in range(MEMBERS):
        model, task = load(run.path, member=member)
        (weights,) = model.attention_weights(task.validation()[0][:64])
        ratios, kinds, last = [], np.zeros((HEADS, 3)), [[] for _ in range(HEADS)]
        for sequence in weights.numpy():
            for head, rows in enumerate(sequence):
                for query in range(3, T):
                    row = np.sort(rows[query, : query + 1])[::-1].cumsum()
                    k, n = 1 + int((row < 0.9 * row[-1]).sum()), query + 1
                    ratios.append(k / n)
                    kinds[head, 0 if k > n / 2 else 2 if k <= max(1, n / 32) else 1] += 1
                    last[head] += [k] if query == T - 1 else []
        shares = kinds / kinds.sum(1, keepdims=True)
        np.testing.assert_allclose(found["shares_of_heads"][member][0], shares, atol=1e-4)
        np.testing.assert_allclose(found["shares"][member][0], shares.mean(0), atol=1e-4)
        assert found["spread"][member][0] == pytest.approx(np.mean(ratios), rel=1e-4)
        lower = [sorted(ks)[(len(ks) - 1) // 2] for ks in last]
        assert found["median"][member][0] == lower
        assert found["spread_lost"][member] == 0  # of a single layer
        lost = found["shares_at_start"][member][0][0] - shares[:, 0].mean()
        assert found["averaging_lost"][member] == pytest.approx(lost, abs=1e-4)


def test_thresholds_of_exponential_gaps_and_of_gaussian_scores():
    """Gaps below the largest of many exponential scores of rate λ are counted by e^λΔ - 1."""
    n, rate, queries = 1000, 1.7, 400
    chance = torch.Generator().manual_seed(1)
    uniform = torch.rand(queries, n, generator=chance, dtype=torch.float64)
    found = float(gap_threshold(-uniform.log() / rate))
    # N(Δ) = 1 at Δ = ln 2/λ: a mean of geometric numbers, whose sd is √(N(1 + N)), over queries,
    # and d ln(1 + N) = dN/(1 + N). The largest of the ratios beyond lies above by some of it.
    error = rate / math.log(2) * math.sqrt(2) / 2 / queries**0.5
    assert -5 * error < found - rate < 8 * error
    assert not -5 * error < 2 * found - rate < 8 * error
    sigma = 0.4
    scores = sigma * gaussians(3, 400, 50)
    variance = sigma**2 * (1 + 5 * math.sqrt(2 / (49 * 400)) * np.array([-1, 1]))
    low, high = np.sqrt(2 * np.log(50) / variance)[::-1]
    assert ((rem_threshold(scores) > low) & (rem_threshold(scores) < high)).all()
    torch.testing.assert_close(gap_threshold(2 * scores), gap_threshold(scores) / 2)


def test_scores_twice_as_large_have_half_the_critical_beta():
    scores = gaussians(1, 2, 200, 12) * torch.tensor([1.0, 2.0])[:, None, None]
    beta = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    found = thresholds_of(torch.cat([scores, scores * 4]), torch.cat([beta, beta / 4]))
    critical = found["critical_beta"]
    np.testing.assert_allclose(critical[1] * 4, critical[0], rtol=2e-3)
    np.testing.assert_allclose(found["log_ratio"][0], found["log_ratio"][1], atol=2e-3)
    np.testing.assert_allclose(found["peak"][0], found["peak"][1], rtol=1e-3)
    # The mean heat capacity itself, on a fine grid around the peak.
    fine = torch.linspace(0.5, 8, 3001, dtype=torch.float64)[:, None, None]
    z = scores[0, 0]
    p = (fine * z).softmax(-1)
    variance = (p * z**2).sum(-1) - (p * z).sum(-1) ** 2
    C = (fine[..., 0] ** 2 * variance).mean(1)
    assert float(critical[0, 0]) == pytest.approx(float(fine[C.argmax()]), rel=3e-3)
    assert float(found["peak"][0, 0]) == pytest.approx(float(C.max()), rel=1e-4)
    assert (found["inside"] == 1).all()


def test_a_peak_that_lies_beyond_the_range_is_none():
    found = thresholds_of(1e-3 * gaussians(1, 1, 50, 12), torch.ones(1, 1).double())
    for name in ("critical_beta", "log_ratio", "rem_error", "gain_of_gaps"):
        assert found[name].isnan().all(), name
    assert (found["inside"] == 0).all()
    assert found["rem_beta"].isfinite().all()


def test_growth_of_the_peak_is_that_of_the_sizes():
    """Scores of two kinds, m high and n - m low ones: ln C at the peak grows with ln(n/m)."""
    rows = [torch.tensor([1.0] + [0.0] * (n - 1)).double().expand(1, 1, 3, n) for n in (4, 8, 16)]
    heights = []
    for n in (4, 8, 16):
        p = 1 / (1 + (n - 1) * (-BETAS).exp())
        heights.append(math.log((BETAS**2 * p * (1 - p)).max()))
    expected = np.polyfit(np.log([4, 8, 16]), heights, 1)[0]
    assert float(growth(rows)) == pytest.approx(expected, rel=0.01)  # peaks are by parabolas


def test_dominance_of_trained_models_before_and_after(trained):
    run, found = trained("dominance", attention="softmax", beta=2.0)
    for member in range(MEMBERS):
        model, task = load(run.path, member=member)
        scores = scores_of(model, task.validation()[0][:128])
        assert betas_of(model).tolist() == [[2.0] * HEADS]
        again = thresholds_of(scores[..., -1, :], betas_of(model))
        for name in ("critical_beta", "log_ratio", "rem_beta", "gap_error"):
            np.testing.assert_allclose(found[name][member], again[name], rtol=1e-4)
        change = np.subtract(found["log_ratio_at_start"][member], found["log_ratio"][member])
        assert found["approach"][member] == pytest.approx(change.mean(), abs=1e-4)
    assert len(found["heat_capacity"][0][0]) == len(found["betas"]) == len(BETAS)
    assert trained("dominance", attention="sigmoid")[1] == {}


@pytest.mark.parametrize("attention", ["softmax", "boltzmann"])
def test_criticality_is_in_units_of_the_scale(trained, attention):
    """Another fixed β, which is not trained, leaves the critical one of the start as it is."""
    found, other = (
        trained("criticality", attention=attention, beta=beta, steps=1)[1] for beta in (1.0, 4.0)
    )
    assert found["critical_beta_at_start"] == other["critical_beta_at_start"]
    for table, beta in ((found, 1.0), (other, 4.0)):
        assert np.shape(table["critical_beta"]) == (MEMBERS, 1, HEADS)
        assert table["beta"] == [[[beta] * HEADS]] * MEMBERS
        critical = np.array(table["critical_beta"], dtype=float)
        np.testing.assert_allclose(
            np.array(table["log_ratio"], dtype=float), abs(np.log(beta / critical)), rtol=1e-3
        )
        assert table["found"] == np.isfinite(critical).mean((1, 2)).tolist()
    if attention == "softmax":
        assert all(share == 1 for share in found["found"])
    assert trained("criticality", attention="sigmoid")[1] == {}


def test_energies_of_independent_heads_are_independent():
    """r of independent normal energies has sd 1/√m, and the excess of H heads √(2(H - 1)/(Hm))."""
    layers, heads, m = 2, 4, 4000
    energies = gaussians(layers, heads, m)
    found = dependence(energies)
    for name in ("correlation", "correlation_of_layers"):
        assert float(found[name].max()) < 5 / m**0.5
    assert float(found["excess"].max()) < 5 * math.sqrt(2 * (heads - 1) / (heads * m))
    shared = dependence(energies[:, :1].expand(-1, heads, -1))
    np.testing.assert_allclose(shared["correlation"], 1)
    np.testing.assert_allclose(shared["excess"], heads - 1)
    between = dependence(energies[:1].expand(layers, -1, -1))
    assert float(between["correlation_of_layers"]) > 1 / heads


def test_quantities_of_heads_add():
    """The composite of two heads, its states pairs of theirs: ln Z, U, S and C are sums."""
    h, couplings = gaussians(2, 1, 3), gaussians(2, 3, 3, seed=1)
    J = (couplings + couplings.mT).triu(1)
    J = J + J.mT
    heads = IsingBatch(h, J)
    both = IsingBatch(h.reshape(1, 1, 6), torch.block_diag(*J)[None])
    torch.testing.assert_close(exact.log_partition(heads).sum(), exact.log_partition(both).sum())
    energies = ising_energies([heads])
    torch.testing.assert_close(energies.sum(), ising_energies([both]).sum())


def test_one_model_of_heads_that_are_alike():
    h, J = gaussians(1, 30, 5), 0.3 * gaussians(1, 5, 5, seed=1).triu(1)
    J = J + J.mT
    alike = [IsingBatch(h.expand(3, -1, -1), J.expand(3, -1, -1))] * 2
    assert float(one_model(alike)["one_model"]) == pytest.approx(1)
    assert float(one_model(alike)["one_model_gain"]) > 0.01
    apart = [IsingBatch(gaussians(3, 30, 5, seed=2), gaussians(3, 1, 1) * J)]
    assert float(one_model(apart)["one_model"]) < 0.99


def test_composite_of_trained_models(trained):
    _, found = trained("composite", attention="boltzmann")
    assert np.shape(found["correlations"]) == (HEADS, HEADS)
    assert np.shape(found["one_model_gain"]) == (MEMBERS,)
    run, found = trained("composite", attention="softmax")
    assert "one_model" not in found
    for member in range(MEMBERS):
        model, task = load(run.path, member=member)
        scores = scores_of(model, task.validation()[0][:512])[0, :, :, -1]
        energies = -(scores.softmax(-1) * scores).sum(-1).numpy()
        r = abs(np.corrcoef(energies)[0, 1])
        assert found["correlation"][member][0] == pytest.approx(r, rel=1e-3)
        excess = abs(energies.sum(0).var() / energies.var(1).sum() - 1)
        assert found["excess"][member][0] == pytest.approx(excess, rel=1e-3)
    assert trained("composite", attention="sigmoid")[1] == {}
