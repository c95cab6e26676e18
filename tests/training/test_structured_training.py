"""Trainings with structured couplings and position biases, and the settings that choose them."""

import copy

import pytest
import torch
from _support.command_line import run
from _support.trainings import EVERY, SMALL, assert_members_train_alone, assert_same_end

from qattn.layers import BoltzmannAttention
from qattn.training import Learner, TrainConfig, load, plot_run, read_settings, train
from qattn.training.steps import OWN_RATE

ARMS = {
    "banded": {"couplings": "banded", "coupling_width": 2, "position_bias": "relative"},
    "gated": {
        "couplings": "banded", "relative": True, "content": True, "interaction": "occupation",
    },
    "rank 1": {"couplings": "low_rank", "coupling_sign": -1, "position_bias": "absolute"},
    "rank 1 by content": {"couplings": "low_rank", "content": True},
    "block": {"couplings": "block", "block_size": 4},
    "cardinality": {"attention": "cardinality", "max_count": 3},
    "competitive": {"attention": "cardinality", "competitive": True},
    "field": {"interaction": "field"},
    "softmax": {"attention": "softmax", "position_bias": "relative"},
}  # fmt: skip


def config_of(arm, **settings):
    return TrainConfig(**SMALL | ARMS[arm] | settings)


@pytest.mark.parametrize("arm", ARMS)
def test_members_of_an_ensemble_train_like_separate_runs(arm):
    assert_members_train_alone(config_of, arm)


@pytest.mark.parametrize("arm", ["gated", "rank 1", "cardinality"])
def test_resuming_equals_not_stopping(arm, tmp_path, monkeypatch):
    config = config_of(arm, steps=25, lr_decay="cosine", coupling_lr_factor=5.0, **EVERY)
    train(config, tmp_path / "whole")
    real_step, stop_at = Learner.step, [13]

    def step(self, number):
        if stop_at and number == stop_at[0]:
            stop_at.pop()
            raise KeyboardInterrupt
        return real_step(self, number)

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts")
    train(config, tmp_path / "parts", resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    "arm",
    [
        arm
        if arm in ("banded", "rank 1", "cardinality")
        else pytest.param(arm, marks=pytest.mark.slow)
        for arm in ARMS
    ],
)
def test_runs_are_loaded_and_drawn(arm, tmp_path):
    config = config_of(arm, steps=2, ensemble=2)
    train(config, tmp_path / "run")
    assert TrainConfig(**read_settings(tmp_path / "run" / "config.toml")) == config
    model, task = load(tmp_path / "run", member=1)
    learner = Learner(config)
    for number in range(2):
        learner.step(number)
    tokens = task.validation()[0][:4]
    wanted = {name: value[1] for name, value in learner.parameters.items()}
    found = torch.func.functional_call(learner.model, wanted, (tokens,))
    torch.testing.assert_close(model(tokens), found)
    drawn = {path.stem for path in plot_run(tmp_path / "run")}
    expected = {"learning_curves", "attention"}
    expected |= set() if arm == "softmax" else {"couplings"}
    expected |= {"couplings_by_distance"} if arm in ("banded", "gated", "field") else set()
    expected |= {"position_bias"} if config.position_bias != "none" else set()
    assert drawn == expected


@pytest.mark.parametrize(
    ("arm", "sampler"),
    [("banded", "neal"), ("rank 1 by content", "gibbs"), ("cardinality", "exact")],
)
def test_reads_train_structured_couplings_too(arm, sampler):
    learner = Learner(config_of(arm, sampler=sampler, estimator="callen", num_reads=10))
    assert learner.step(0).isfinite().all()
    for name, value in learner.parameters.items():
        assert value.grad.isfinite().all(), name
        assert not name.endswith("coupling_values") or value.grad.abs().max() > 0


def test_settings_reach_the_layers():
    layer = config_of("gated", coupling_width=3).model(5).blocks[0].attention
    assert isinstance(layer, BoltzmannAttention)
    options = {"width": 3, "relative": True, "content": True}
    assert (layer.structure.kind, layer.structure.options) == ("banded", options)
    assert layer.interaction == "occupation"
    assert config_of("rank 1").model(5).blocks[0].attention.structure.options["sign"] == -1
    assert config_of("cardinality").model(5).blocks[0].attention.coupling_values.shape == (2, 4)
    assert config_of("softmax").model(5).blocks[0].attention.position_bias == "relative"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"couplings": "sparse"}, "`couplings` must be one of 'dense', 'banded'"),
        ({"coupling_width": 3}, "`coupling_width` must be left out for couplings = 'dense'"),
        ({"couplings": "low_rank", "coupling_sign": 3}, "`coupling_sign` must be 1 or -1, but is"),
        ({"couplings": "banded", "max_count": 3}, "`max_count` must .* it is for 'cardinality'"),
        ({"couplings": "block", "block_size": 0}, "`block_size` must be at least 1, but is 0"),
        ({"content": True}, "`content` must be left out for couplings = 'dense'"),
        ({"attention": "softmax", "couplings": "banded"}, "out for softmax attention, but is 'b"),
        ({"attention": "softmax", "max_count": 3}, "but is 3: it is for cardinality"),
        ({"attention": "sigmoid", "interaction": "field"}, "`interaction` must be left out for"),
        ({"attention": "cardinality", "couplings": "banded"}, "out for cardinality attention"),
        ({"attention": "cardinality", "interaction": "field"}, "`interaction` must be 'spin'"),
        ({"position_bias": "both"}, "`position_bias` must be one of none, relative, absolute"),
        ({"lr_decay": "exponential"}, "`lr_decay` must be one of none, linear, cosine"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize("settings", [{"sampler": "neal"}, {"eval_sampler": "gibbs:num_sweeps=9"}])
def test_samplers_of_a_potential_on_counts_are_refused_before_the_first_step(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"`{name}` must be 'exact' for cardinality"):
        config_of("cardinality", **settings).check_here()
    config_of("cardinality", estimator="moment").check_here()
    with pytest.raises(ValueError, match="`max_count` of at least the context"):
        config_of("competitive", max_count=2, **settings).check_here()


def test_competition_keeps_its_matrix_and_is_trained_by_reads():
    learner = Learner(config_of("competitive", sampler="neal:num_sweeps=5", num_reads=20))
    for number in range(3):
        loss = learner.step(number)
    assert bool(loss.isfinite().all())
    for layer in learner.model.blocks:
        J = layer.attention.couplings.dense()
        assert (J <= 0).all()
        assert layer.attention.coupling_values.grad.abs().min() > 0


def test_long_contexts_are_refused_for_enumeration_only():
    for settings in (ARMS["banded"], ARMS["block"], ARMS["field"], ARMS["cardinality"]):
        TrainConfig(context=200, **settings).check_here()
    for settings in ({}, {"couplings": "block", "block_size": 40}):
        with pytest.raises(MemoryError, match="Exact enumeration"):
            TrainConfig(context=200, **settings).check_here()


@pytest.mark.parametrize(
    ("decay", "share"), [("linear", {10: 1.0, 15: 0.5, 19: 0.1}), ("cosine", {10: 1.0, 15: 0.5})]
)
def test_the_learning_rate_falls_to_zero_after_the_last_step(decay, share):
    learner = Learner(TrainConfig(lr=0.01, warmup=10, steps=20, lr_decay=decay, **SMALL))
    for number, wanted in ({0: 0.1, 9: 1.0, 20: 0.0} | share).items():
        learner.step(number)
        assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * wanted, abs=1e-12)


def test_a_decayed_run_is_not_lengthened(tmp_path):
    config = TrainConfig(steps=2, lr_decay="linear", **SMALL)
    train(config, tmp_path / "run")
    with pytest.raises(ValueError, match=r"Only --steps may grow \(without lr_decay\)"):
        train(TrainConfig(steps=4, lr_decay="linear", **SMALL), tmp_path / "run", resume=True)


def test_biases_and_couplings_have_a_rate_of_their_own():
    learner = Learner(config_of("gated", position_bias="absolute", coupling_lr_factor=3.0))
    names = {id(value): name for name, value in learner.parameters.items()}
    slow, fast = (
        {names[id(value)].rpartition(".")[2] for value in group["params"]}
        for group in learner.optimizer.param_groups
    )
    assert fast == {
        "coupling_values", "content_coupling_values", "field_bias", "position_bias_values",
    }  # fmt: skip
    assert not slow & fast


def test_checkpoints_from_when_biases_had_the_common_rate(tmp_path):
    config = TrainConfig(**SMALL | {"layers": 2})
    learner = Learner(config)
    for number in range(3):
        learner.step(number)
    state = copy.deepcopy(learner.state_dict())
    saved = state["optimizer"]
    names = sorted(learner.parameters, key=lambda name: name.endswith(OWN_RATE))
    by_name = dict(zip(names, saved["state"].values(), strict=True))
    # The two groups as they were: all others, and couplings.
    before = sorted(learner.parameters, key=lambda name: name.endswith("coupling_values"))
    sizes = len(names) - 2, 2
    for group, places in zip(
        saved["param_groups"], torch.arange(len(names)).split(sizes), strict=True
    ):
        group["params"] = places.tolist()
    saved["state"] = {number: by_name[name] for number, name in enumerate(before)}
    resumed = Learner(config)
    resumed.load_state_dict(state)
    for number in range(3, 5):
        learner.step(number)
        resumed.step(number)
    for name, value in learner.parameters.items():
        assert torch.equal(value, resumed.parameters[name]), name


@pytest.mark.usefixtures("as_users_call")
def test_the_command_line_trains_beyond_enumeration(tmp_path, monkeypatch, capsys):
    arguments = (
        "train --task brackets --context 40 --layers 1 --heads 2 --width 8 --steps 2 "
        "--batch-size 2 --couplings banded --coupling-width 2 --relative --interaction occupation "
        f"--position-bias relative --lr-decay linear --threads 1 --out {tmp_path / 'run'}"
    )
    code, out, error = run(monkeypatch, capsys, *arguments.split())
    assert code == 0, error
    assert "position_bias.png" in out
    code, _, error = run(monkeypatch, capsys, "train", "--attention", "softmax", "--content")
    assert code != 0
    assert "`content` must be left out for softmax attention" in error
    assert error.count("\n") == 1
