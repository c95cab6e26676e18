"""Trainings of spin-model attention, and the settings that choose it."""

import pytest
from _support.command_line import run
from _support.trainings import SMALL, assert_members_train_alone

from qattn.layers import SpinModelAttention
from qattn.training import Learner, TrainConfig, load, plot_run, read_settings, train

ARMS = {
    "vector": {},
    "tap": {"spin_mean_field": "tap"},
    "steady": {"steady_state": True},
    "binary": {"spins": "binary"},
    "binary-tap": {"spins": "binary", "spin_mean_field": "tap"},
    "steady-binary-tap": {"spins": "binary", "spin_mean_field": "tap", "steady_state": True},
    "residual": {"spin_field": "residual"},
}


def config_of(arm, **settings):
    return TrainConfig(**SMALL | {"attention": "spin-model"} | ARMS[arm] | settings)


@pytest.mark.parametrize("arm", ARMS)
def test_members_of_an_ensemble_train_like_separate_runs(arm):
    assert_members_train_alone(config_of, arm, atol=1e-4)


@pytest.mark.parametrize("arm", ARMS)
def test_the_loss_falls(arm):
    settings = {"width": 16, "batch_size": 32, "lr": 1e-2, "warmup": 5}
    learner = Learner(config_of(arm, **settings))
    losses = [float(learner.step(number)) for number in range(30)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_vector_spins_train_at_64_positions():
    learner = Learner(config_of("tap", context=64, steady_state=True))
    for number in range(2):
        assert learner.step(number).isfinite().all()
    assert all(p.grad.isfinite().all() for p in learner.parameters.values())


@pytest.mark.parametrize("arm", ["vector", "residual"])
def test_runs_are_loaded_and_drawn(arm, tmp_path):
    config = config_of(arm, steps=2, ensemble=2)
    train(config, tmp_path / "run")
    assert TrainConfig(**read_settings(tmp_path / "run" / "config.toml")) == config
    model, task = load(tmp_path / "run", member=1)
    tokens = task.validation()[0][:4]
    assert model(tokens).isfinite().all()
    assert {path.stem for path in plot_run(tmp_path / "run")} == {"learning_curves", "attention"}


def test_settings_reach_the_layers_and_name_the_arm():
    layer = config_of("steady-binary-tap").model(5).blocks[0].attention
    assert isinstance(layer, SpinModelAttention)
    assert (layer.spins, layer.mean_field, layer.steady_state) == ("binary", "tap", True)
    assert config_of("steady-binary-tap").arm == "spin-model (steady-binary-tap)"
    assert config_of("vector", spins="vector").arm == "spin-model"
    assert config_of("residual").arm == "spin-model (residual)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "softmax", "spins": "binary"}, "`spins` must be left out for softmax att"),
        ({"steady_state": True}, "`steady_state` .* for boltzmann .* it is for spin-model"),
        ({"attention": "spin-model", "spins": "potts"}, "`spins` must be one of vector, binary"),
        ({"attention": "spin-model", "spin_mean_field": "x"}, "`spin_mean_field` must be one of"),
        ({"attention": "spin-model", "couplings": "banded"}, "out for spin-model attention"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


@pytest.mark.usefixtures("as_users_call")
def test_the_command_line_names_the_way_out(tmp_path, monkeypatch, capsys):
    arguments = "train --attention spin-model --width 8 --heads 4 --out"
    code, _, error = run(monkeypatch, capsys, *arguments.split(), str(tmp_path / "run"))
    assert code != 0
    assert "take fewer heads, or spins='binary'" in error
    assert not (tmp_path / "run").exists()
