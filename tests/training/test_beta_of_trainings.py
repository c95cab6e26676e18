"""β of a training: learned, critical, or another number; its path in what a run writes."""

import json
import subprocess

import pytest
import torch
from _support.experiments import command, tiny
from _support.trainings import EVERY, SMALL, assert_members_train_alone, assert_same_end

from qattn.backends.options import declared_options
from qattn.experiments import Store, collect
from qattn.layers import BoltzmannAttention
from qattn.training import (
    Learner,
    RunFolder,
    TrainConfig,
    load,
    plot_run,
    plots,
    read_settings,
    train,
)

ARMS = {
    "softmax, learnable": {"attention": "softmax", "beta": "learnable"},
    "softmax, tracked": {"attention": "softmax", "beta": "critical-tracked", "beta_every": 2},
    "boltzmann, learnable": {"beta": "learnable"},
    "boltzmann, tracked": {"beta": "critical-tracked", "beta_every": 2},
    "fixed": {"attention": "softmax", "beta": 2.0},
}


def config_of(arm, **settings):
    return TrainConfig(**SMALL | ARMS[arm] | settings)


@pytest.mark.parametrize("arm", ARMS)
def test_members_of_an_ensemble_train_like_separate_runs(arm):
    together, alone = assert_members_train_alone(config_of, arm)
    if arm != "fixed":
        betas = torch.cat([learner.betas() for learner in alone])
        torch.testing.assert_close(together.betas(), betas, atol=1e-4, rtol=1e-4)
        assert betas.shape == (2, 1, 2)
        assert (betas != 1).all()


@pytest.mark.parametrize(
    ("arm", "stop_at"),
    [
        ("softmax, tracked", 16),  # where β is set
        ("boltzmann, learnable", 13),
        pytest.param("softmax, tracked", 13, marks=pytest.mark.slow),
        pytest.param("boltzmann, tracked", 16, marks=pytest.mark.slow),
    ],
)
def test_resuming_equals_not_stopping(arm, stop_at, tmp_path, monkeypatch):
    config = config_of(arm, steps=25, ensemble=2, **EVERY | {"checkpoint_every": 4})
    config = TrainConfig(**{**config.__dict__, "beta_every": 8})
    train(config, tmp_path / "whole")
    real_step, stops = Learner.step, [stop_at]

    def step(self, number):
        if stops and number == stops[0]:
            stops.pop()
            raise KeyboardInterrupt
        return real_step(self, number)

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts")
    train(config, tmp_path / "parts", resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_a_critical_beta_is_set_once_or_again_and_again():
    once = Learner(config_of("softmax, tracked", beta="critical", lr=0.1, warmup=1))
    again = Learner(config_of("softmax, tracked", lr=0.1, warmup=1))
    paths = []
    for learner in (once, again):
        path = []
        for number in range(5):
            learner.step(number)
            path.append(learner.betas()[0, 0, 0].item())
        paths.append(path)
    assert paths[0] == paths[0][:1] * 5
    assert paths[0][0] == paths[1][0] == paths[1][1] != 1
    assert len(set(paths[1][::2])) == 3  # before steps 0, 2 and 4
    # Neither is learned.
    assert not any(name.endswith("log_beta") for name in again.learned)


def test_setting_it_twice_is_as_good_as_once():
    learner = Learner(config_of("boltzmann, tracked", num_reads=10, eval_sampler="gibbs"))
    learner.set_betas(0)
    first, state = learner.betas(), torch.get_rng_state()
    learner.set_betas(0)
    assert torch.equal(learner.betas(), first)
    learner.set_betas(1)  # not due
    assert torch.equal(learner.betas(), first)
    assert torch.equal(torch.get_rng_state(), state)
    learner.set_betas(2)  # another batch
    assert not torch.equal(learner.betas(), first)


def test_layers_get_theirs_one_after_the_other():
    learner = Learner(config_of("softmax, tracked", layers=2))
    learner.set_betas(0)
    tokens, _ = learner.tasks[0].batch(0, learner.config.batch_size)
    second = learner.betas()[0, 1]
    for (attention, x), beta in zip(
        learner.model._attention_inputs(tokens), learner.betas()[0], strict=True
    ):
        attention.set_critical_beta(x)
        torch.testing.assert_close(attention.beta, beta)
    # What the second layer would have found behind a first one at β = 1.
    learner.model.blocks[0].attention.beta = 1.0
    (*_, (attention, x)) = learner.model._attention_inputs(tokens)
    attention.set_critical_beta(x)
    assert not torch.equal(attention.beta, second)


def test_what_a_run_writes_of_it(tmp_path, monkeypatch):
    # Without couplings there is no peak.
    alone = {"coupling_constraint": "frozen", "coupling_std": 0.0}
    config = config_of("boltzmann, tracked", steps=14, ensemble=2, beta_every=5, **EVERY, **alone)
    summary = train(config, tmp_path / "run")
    records = RunFolder(tmp_path / "run").read_metrics()
    assert [r["step"] for r in records if "beta" in r] == [0, 7, 14, 14]
    members = torch.tensor(summary["beta_members"])
    assert members.shape == (2, 1, 2)  # members, layers, heads
    torch.testing.assert_close(torch.tensor(summary["beta"]), members.mean(0))
    assert summary["beta"] == [[1.0, 1.0]]
    assert summary["beta_kept"] == [[1.0, 1.0]]
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    drawn = {}
    monkeypatch.setattr(
        "qattn.training.plots.run.beta_paths",
        lambda *args: drawn.setdefault("figure", plots.beta_paths(*args)),
    )
    assert {"beta.png", "beta.svg"} <= {path.name for path in plot_run(tmp_path / "run")}
    (axes,) = drawn["figure"].axes
    assert "β = critical-tracked" in drawn["figure"].get_suptitle()
    path, ring = axes.lines[:2]
    assert path.get_xdata().tolist() == ring.get_xdata().tolist() == [0, 7, 14]
    # Nothing of it where β is a number.
    plain = train(config_of("fixed", steps=2), tmp_path / "plain")
    assert not any(name.startswith("beta") for name in plain)
    assert "beta.png" not in {path.name for path in plot_run(tmp_path / "plain")}


def test_bands_are_one_standard_deviation_of_the_members():
    records = [
        {"step": step, "beta": [[1.0]], "beta_members": [[[1 - step / 10]], [[1 + step / 10]]]}
        for step in (0, 1, 2)
    ]
    (axes,) = plots.beta_paths(records, "").axes
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    # The members 0.8 and 1.2 have the standard deviation 0.2 √2.
    assert heights.max() == pytest.approx(1 + 0.2 * 2**0.5)
    assert heights.min() == pytest.approx(1 - 0.2 * 2**0.5)


def test_runs_are_loaded_with_their_beta(tmp_path):
    for arm in ("boltzmann, learnable", "softmax, tracked"):
        config = config_of(arm, steps=4, ensemble=2, lr=0.05, warmup=1)
        summary = train(config, tmp_path / arm)
        model, task = load(tmp_path / arm, member=1)
        expected = summary["beta_members"][1][0]
        attention = model.blocks[0].attention
        assert attention.beta.tolist() == pytest.approx(expected)
        assert expected != [1.0, 1.0]
        if isinstance(attention, BoltzmannAttention):
            (batch,) = model.ising_batches(task.validation()[0][:2])
            assert batch.beta.tolist() == pytest.approx(expected)
    fixed = config_of("fixed", steps=2)
    train(fixed, tmp_path / "fixed")
    assert load(tmp_path / "fixed").model.blocks[0].attention.beta == 2.0


def test_runs_from_before_there_was_a_beta_go_on(tmp_path):
    config = TrainConfig(steps=8, **SMALL, **EVERY)
    train(config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    state = folder.read_checkpoint()
    assert not any("beta" in name for name in state["learner"]["parameters"])
    assert state["learner"].pop("beta_found") is None
    lines = state["config"].splitlines()
    state["config"] = "\n".join(line for line in lines if not line.startswith("beta"))
    folder.write_checkpoint(state)
    train(TrainConfig(steps=12, **SMALL, **EVERY), folder.path, resume=True)
    assert load(folder.path).model.blocks[0].attention.beta == 1.0


def test_its_learning_rate_is_that_of_couplings_and_biases():
    learner = Learner(config_of("softmax, learnable", coupling_lr_factor=5.0))
    _, own = learner.optimizer.param_groups
    (value,) = own["params"]
    assert value is learner.parameters["blocks.0.attention.log_beta"]
    assert own["peak_lr"] == pytest.approx(5 * learner.config.lr)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "sigmoid", "beta": "critical"}, "'learnable' for sigmoid attention, but is"),
        ({"beta": float("inf")}, "`beta` must be finite and not negative, but is inf"),
        ({"beta_every": 0}, "`beta_every` must be at least 1, but is 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_validations_that_cost_money_are_refused(monkeypatch):
    from qattn.simulators.neal import NealBackend

    config = config_of("boltzmann, tracked", eval_sampler="neal")
    config.check_here()
    monkeypatch.setattr(NealBackend, "paid", True)
    with pytest.raises(
        ValueError, match="`eval_sampler` must cost nothing where beta is 'critical"
    ):
        config.check_here()


def test_settings_of_files_and_flags(tmp_path):
    flag = declared_options(TrainConfig)["beta"]
    for text, value in (("0.25", 0.25), ("2", 2.0), ("critical-tracked", "critical-tracked")):
        assert flag.from_text(text) == value
        assert type(flag.from_text(text)) is type(value)
    file = tmp_path / "settings.toml"
    for line, value in (("beta = 2", 2.0), ('beta = "learnable"', "learnable")):
        file.write_text(line)
        assert read_settings(file) == {"beta": value}
    file.write_text('beta = "crtical"')
    with pytest.raises(ValueError, match="must be of type float or 'learnable' or 'critical'"):
        read_settings(file)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    out = tmp_path / "run"
    words = command("qattn", "train", *flags, "--steps=1", "--beta=learnable", f"--out={out}")
    subprocess.run(words, check=True, capture_output=True)
    assert RunFolder(out).read_config().beta == "learnable"


def test_experiments_keep_its_path_and_trainings_without_it_their_names(tmp_path):
    text = """
title = "Scales"
seeds = 2
[settings]
task = "brackets"
context = 4
width = 8
heads = 2
layers = 1
batch_size = 4
steps = 4
eval_every = 2
attention = "softmax"
[arms]
plain = {}
"learnable" = { beta = "learnable" }
"double" = { beta = 2 }
"""
    experiment = tiny("scales", text)
    plain, learnable, double = experiment.trainings()
    assert "beta" not in plain.settings
    assert (learnable.settings["beta"], double.settings["beta"]) == ("learnable", 2.0)
    store = Store(tmp_path)
    train(learnable.config, store.run(learnable).path)
    (found,) = collect(experiment, [learnable], store).trainings
    assert found.curves["step"] == [0, 2, 4]
    assert torch.tensor(found.curves["beta"]).shape == (3, 2, 1, 2)  # step, member, layer, head
    assert set(found.metrics) == {"validation_loss", "accuracy"}
