"""The backend autoregressive: weighted reads of any batch, and a warning where they are few."""

import warnings

import dimod
import pytest
import torch
from _support.annealing import problems
from _support.brute_force import expectations
from _support.trainings import EVERY, SMALL

from qattn import BoltzmannAttention, IsingBatch, as_dimod_sampler, exact, get_backend
from qattn.backends.spec import parse_samplers
from qattn.compare import CompareSettings, compare
from qattn.simulators.autoregressive import NetSettings
from qattn.simulators.autoregressive.backend import AutoregressiveBackend, EssWarning
from qattn.simulators.autoregressive.build import build_net
from qattn.simulators.autoregressive.checkpoint import (
    FittedSampler,
    couplings_hash,
    parameters_of,
    save_sampler,
)
from qattn.simulators.autoregressive.models import as_columns
from qattn.simulators.autoregressive.sampling import sampler as sampler_module
from qattn.testing import BackendConformance, deviation_from_exact
from qattn.training import TrainConfig, train

PAIR = {"logit": "pair", "exact_width": 0}
"""A sampler that is not exact, small as the problems are."""


class TestWeighted(BackendConformance):
    def make_backend(self):
        return AutoregressiveBackend(**PAIR)


class TestExact(BackendConformance):
    def make_backend(self):
        return AutoregressiveBackend()


class TestResampled(BackendConformance):
    def make_backend(self):
        return AutoregressiveBackend(**PAIR, resample=True)


class TestAnnealed(BackendConformance):
    def make_backend(self):
        return AutoregressiveBackend(**PAIR, anneal="always", resample=True)


class TestMetropolis(BackendConformance):
    def make_backend(self):
        return AutoregressiveBackend(**PAIR, metropolis_steps=3)


def glass(n=10, *, groups=2, queries=3):
    """Couplings that are too strong for the plain reads, and not for their weights."""
    return problems(n, groups=groups, queries=queries, fields=0.3, couplings=0.6)


def sigmas(batch, num_reads=2000, **options):
    """Largest error of the moments in standard errors of effective reads, and its bound."""
    samples = AutoregressiveBackend(**PAIR, **options).sample(batch, num_reads=num_reads, seed=1)
    found = deviation_from_exact(samples, batch)
    return found.sigmas * float(samples.info["ess"].min()) ** 0.5, found.bound


@pytest.mark.parametrize("how", [{}, {"resample": True}, {"anneal": "always"}])
def test_moments_of_a_glass(how):
    found, bound = sigmas(glass(), **how)
    assert found < bound


def test_without_weights_they_are_wrong():
    found, bound = sigmas(glass(), weighted=False)
    assert found > 2 * bound


def test_what_is_known_of_the_reads():
    batch = glass()
    samples = AutoregressiveBackend(**PAIR).sample(batch, num_reads=2000, seed=1)
    info, known = samples.info, expectations(batch, batch.h, batch.matrix)
    assert ((info["log_Z"] - known.log_Z).abs() < 5 * info["log_Z_error"]).all()
    assert (info["log_Z_bound"] < known.log_Z).all()
    assert torch.allclose(info["energies"], batch.energies(samples.spins), atol=1e-4)
    assert info["log_q"].shape == info["energies"].shape == (2, 3, 2000)
    log_w = -info["energies"] - info["log_q"]
    assert torch.allclose(samples.weights, 2000 * log_w.softmax(-1))
    assert torch.equal(samples.counts(), torch.full((2, 3), 2000.0, dtype=torch.float64))
    # Kish's effective number of reads is that of the weights.
    effective = samples.weights.sum(-1).square() / samples.weights.square().sum(-1)
    assert torch.allclose(info["ess"], effective / 2000)
    assert info["worst_ess"] == float(info["ess"].min()) == float(info["ess"][info["worst_query"]])


def test_groups_with_their_own_graphs():
    """A dense group, one without couplings, and the same ring twice: three graphs."""
    n = 8
    ring = torch.diag(torch.full((n - 1,), 0.7), 1)
    ring[0, -1] = -0.4
    J = torch.stack([glass(n, groups=1).matrix[0].float(), torch.zeros(n, n), ring, 2 * ring])
    J = J.triu(1) + J.triu(1).mT
    batch = IsingBatch(torch.randn(4, 2, n, generator=torch.Generator().manual_seed(0)), J)
    backend = AutoregressiveBackend()
    samples = backend.sample(batch, num_reads=4000, seed=0)
    found, bound = deviation_from_exact(samples, batch)
    assert found < bound / float(samples.info["ess"].min()) ** 0.5
    assert samples.info["ess"][1].min() > 1 - 1e-9
    groups = [g.tolist() for g, _ in backend._sampler.nets(batch)]
    assert groups == [[0], [1], [2, 3]]


def test_a_graph_is_planned_once(monkeypatch):
    built = []
    original = sampler_module.build_net
    monkeypatch.setattr(
        sampler_module, "build_net", lambda *args: built.append(0) or original(*args)
    )
    backend = AutoregressiveBackend(**PAIR)
    many = problems(6, groups=1000, queries=1, dtype=torch.float32)
    one = problems(6, groups=1, queries=1000, dtype=torch.float32)
    for batch in (many, one, many):
        assert backend.sample(batch, num_reads=3, seed=0).spins.shape[2:] == (3, 6)
    assert len(built) == 1


def test_lengths_and_one_read():
    batch = problems(6, queries=3, lengths=torch.tensor([6, 0, 2]))
    samples = AutoregressiveBackend().sample(batch, num_reads=1, seed=0)
    assert torch.equal(samples.weights, torch.ones(2, 3, 1, dtype=torch.float64))
    assert (samples.info["log_q"][:, 1] == 0).all()


def fitted(folder, batch, couplings):
    """A sampler with other parameters than an untrained one, as a file."""
    settings = NetSettings(logit="tap", parameters="scalars", exact_width=0)
    net = build_net(settings, batch)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.9)
    save_sampler(folder, FittedSampler(settings, parameters_of(net), (1.0,), couplings))
    return net


def test_a_fitted_sampler(tmp_path):
    batch = glass(8, groups=1)
    net = fitted(tmp_path, batch, couplings_hash(batch.matrix[0]))
    backend = AutoregressiveBackend(checkpoint=tmp_path, resample=True)
    samples = backend.sample(batch, num_reads=500, seed=0)
    models = net.arranged(batch)
    with torch.no_grad():
        log_q = net.log_q(models, as_columns(samples.spins, net.plan, torch.float32))
    assert torch.allclose(samples.info["log_q"].flatten(), log_q.flatten(), atol=1e-5)
    with pytest.raises(ValueError, match="fitted to others than those of group 0"):
        backend.sample(glass(8), num_reads=5)


def test_a_sampler_of_a_family_draws_any_couplings(tmp_path):
    fitted(tmp_path, glass(8, groups=1), None)
    batch = glass(6)
    samples = AutoregressiveBackend(checkpoint=tmp_path).sample(batch, num_reads=2000, seed=0)
    found, bound = deviation_from_exact(samples, batch)
    assert found * samples.info["worst_ess"] ** 0.5 < bound


def test_few_effective_reads_give_one_warning():
    batch = problems(16, groups=2, queries=3, fields=0.1, couplings=2.0)
    with pytest.warns(EssWarning, match=r"\d of 6 problems.*anneal=auto.*fit-sampler") as caught:
        samples = AutoregressiveBackend(**PAIR).sample(batch, num_reads=500, seed=0)
    assert len(caught) == 1
    assert samples.num_reads == 500  # what was computed is not lost
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        annealed = AutoregressiveBackend(**PAIR, anneal="auto").sample(batch, num_reads=500, seed=0)
    assert annealed.info["is_annealed"].any()
    assert annealed.info["temperatures"] > 2
    log_Z = exact.log_partition(batch)
    z = (annealed.info["log_Z"] - log_Z) / annealed.info["log_Z_error"]
    assert z.abs().max() < 8  # the error is of eight populations: Student's t with 7, 5 sigma


def test_metrics_are_those_of_the_last_call():
    backend = AutoregressiveBackend(**PAIR, anneal="auto")
    assert backend.metrics() == {}
    backend.sample(problems(4), num_reads=100, seed=0)
    info = backend.sample(glass(8), num_reads=100, seed=0).info
    annealed = float(info["is_annealed"].double().mean())
    assert 0 < annealed < 1
    found = {"ess": info["mean_ess"], "worst_ess": info["worst_ess"], "annealed": annealed}
    assert backend.metrics() == found
    resumed = AutoregressiveBackend()
    resumed.load_state_dict(backend.state_dict())
    assert resumed.metrics() == found


def test_dimod_takes_whole_reads():
    bqm = dimod.BinaryQuadraticModel({0: -0.5, 1: 0.3}, {(0, 1): -1.0}, 0.0, "SPIN")
    found = as_dimod_sampler(get_backend("autoregressive", resample=True)).sample(bqm, num_reads=9)
    assert found.record.num_occurrences.sum() == 9
    with pytest.raises(ValueError, match="resample=True"):
        as_dimod_sampler(get_backend("autoregressive", **PAIR)).sample(
            dimod.generators.gnp_random_bqm(6, 1, "SPIN", random_state=0), num_reads=9, seed=0
        )


@pytest.mark.parametrize("estimator", ["callen", "moment", "score"])
def test_gradients_honour_the_weights(estimator):
    """A layer with weighted reads has the exact gradient; with reads of q alone it has not."""
    torch.manual_seed(0)
    layer = BoltzmannAttention(8, 1, 8, num_reads=4000)
    torch.nn.init.normal_(layer.coupling_values, std=0.7)
    x = torch.randn(4, 8, 8)

    def gradient(backend, estimator):
        layer.zero_grad()
        layer.backend, layer.estimator = backend, estimator
        torch.manual_seed(1)
        layer.weights(x).square().sum().backward()
        return layer.coupling_values.grad.clone()

    wanted = gradient("exact", None)
    weighted, plain = (
        (gradient(AutoregressiveBackend(**PAIR, weighted=w), estimator) - wanted).norm()
        for w in (True, False)
    )
    assert weighted < 0.1 * wanted.norm()
    assert plain > 3 * weighted


@pytest.mark.parametrize("estimator", ["callen", "score"])
def test_training(tmp_path, estimator):
    """Metrics and the summary have the ESS."""
    config = TrainConfig(
        **SMALL | {"context": 4, "num_reads": 20, "steps": 6},
        **EVERY,
        sampler="autoregressive",
        estimator=estimator,
    )
    train(config, tmp_path / "run")
    for name in ("metrics.jsonl", "summary.json"):
        assert '"worst_ess"' in (tmp_path / "run" / name).read_text()


def test_compare():
    """Weighted reads are judged, and their effective number is that of the weights."""
    settings = CompareSettings(num_reads=400, floor_repeats=3)
    batch = glass(8, groups=1, queries=4)
    samplers = parse_samplers("autoregressive:logit=pair,exact_width=0")
    comparison = compare(samplers, {"glass": batch}, settings)
    (result,) = comparison.sets[0].results
    share = result.info["ess"].mean()
    assert result.quality.effective_reads == pytest.approx(400 * float(share), rel=1e-6)
    assert result.quality.scores["mean_rms"].ratio < 3
