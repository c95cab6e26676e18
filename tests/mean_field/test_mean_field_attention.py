"""Attention whose mean spins are a mean-field method's."""

import json

import pytest
import torch

import qattn
from qattn import BoltzmannAttention, boltzmann_attention
from qattn.mean_field import NotConvergedWarning
from qattn.training import TrainConfig, train
from qattn.training.learner import Learner


def attention(J, **options):
    query, key, value = torch.randn(3, 2, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    return boltzmann_attention(query, key, value, J, is_causal=True, **options)


def test_function_is_near_exact_and_refuses_reads_beside():
    J = 0.05 * (torch.ones(2, 5, 5) - torch.eye(5))
    near, true = (attention(J, moments=moments) for moments in ("tap", "exact"))
    assert 1e-7 < float((near - true).abs().max()) < 1e-3
    with pytest.raises(ValueError, match="`moments` must be 'exact' with the backend neal"):
        attention(J, moments="tap", backend="neal")
    with pytest.raises(ValueError, match="Argument `moments` must be one of 'exact', 'mean-field'"):
        attention(J, moments="plefka")
    with pytest.warns(NotConvergedWarning):
        attention(40 * J, moments="tap")


def test_layer_says_how_good_its_moments_are():
    torch.manual_seed(0)
    layer = BoltzmannAttention(8, 2, 6, moments="tap")
    x = torch.randn(3, 6, 8)
    near = layer(x)
    assert 0 < layer.last_info["mean_field_error"] < 1e-3
    assert layer.last_info["not_converged"] == 0
    assert "moments='tap'" in repr(layer)
    layer.moments = "exact"
    torch.testing.assert_close(near, layer(x), atol=1e-3, rtol=0)
    assert layer.last_info == {}


def test_layer_warns_once():
    layer = BoltzmannAttention(8, 2, 6, moments="tap", std=3.0)
    x = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))
    with pytest.warns(NotConvergedWarning):
        layer(x)
    layer(x)  # warnings are errors here
    assert layer.last_info["not_converged"] > 0


SETTINGS = {"steps": 2, "log_every": 1, "batch_size": 4, "layers": 1, "heads": 2, "width": 8}


@pytest.mark.parametrize("ensemble", [1, 2])
def test_training_reports_the_figures(tmp_path, ensemble):
    config = TrainConfig(context=6, moments="bethe", ensemble=ensemble, **SETTINGS)
    summary = train(config, tmp_path / "run", quiet=True)
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert len(logged) == 2
    assert all(0 < line["mean_field_error"] < 1e-3 for line in logged)
    assert all(line["not_converged"] == 0 for line in logged)
    assert summary["mean_field_error"] == logged[-1]["mean_field_error"]


def test_long_contexts_are_validated_by_the_same_method():
    short = TrainConfig(context=8, moments="tap")
    assert short.eval_moments == "exact"
    long = TrainConfig(context=64, moments="tap", **SETTINGS)
    assert long.eval_moments == "tap"
    learner = Learner(long)  # memory is not refused
    assert bool(learner.step(0).isfinite().all())
    with pytest.raises(MemoryError):
        Learner(TrainConfig(context=64, **SETTINGS))
    with pytest.raises(MemoryError):
        Learner(TrainConfig(context=64, moments="tap", gradient_every=1, **SETTINGS))


def test_a_long_run_loads_with_its_method(tmp_path):
    run = tmp_path / "run"
    config = TrainConfig(context=6, moments="tap", **SETTINGS)
    train(config, run, quiet=True)
    model, _ = qattn.load(run)
    layers = [m for m in model.modules() if isinstance(m, BoltzmannAttention)]
    assert [layer.moments for layer in layers] == ["exact"]


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="Argument `moments` must be 'exact' with the backend"):
        TrainConfig(moments="tap", sampler="neal")
    with pytest.raises(ValueError, match="Argument `moments` must be left out for softmax"):
        TrainConfig(moments="tap", attention="softmax")
    with pytest.raises(ValueError, match="Argument `moments` must be one of"):
        TrainConfig(moments="plefka")
