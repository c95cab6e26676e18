"""Experiments of the catalogue: which trainings they share, and that their arms can be trained."""

import json

import pytest

from qattn.experiments import Store, available_experiments, read_experiment
from qattn.training import TrainConfig, emulated, read_settings


def folders(experiment):
    return {
        (training.part, training.arm): training.name
        for training in read_experiment(experiment).trainings()
    }


def test_the_digest_of_a_training_stays_what_it_was():
    """A new setting is left out where it is not given, or all results would be trained anew."""
    assert folders("shakespeare-arms")["", "boltzmann"].endswith("T12-seeds0-9-2612cc1ce4")
    assert folders("shakespeare-arms")["", "softmax"].endswith("T12-seeds0-9-97bdadaa39")


def test_experiments_share_the_trainings_that_they_have_in_common():
    plain, brackets = folders("no-ffn-outputs"), folders("brackets-arms")
    for (_, arm), name in plain.items():
        assert name == brackets["without feed-forward", arm]
    shakespeare = folders("shakespeare-arms")
    assert folders("couplings-map")["Shakespeare", "boltzmann"] == shakespeare["", "boltzmann"]
    for part in ("with feed-forward", "without feed-forward"):
        assert brackets[part, "boltzmann"] in folders("couplings-map").values()
    biased = folders("position-bias")["T = 12", "boltzmann, free bias"]
    assert folders("couplings-map")["Shakespeare, free bias", "boltzmann"] == biased
    assert folders("ablation-sign")["", "free"] == shakespeare["", "boltzmann"]
    assert folders("ablation-sign")["", "J = 0"] == shakespeare["", "sigmoid"]
    assert folders("capacity")["", "boltzmann"] == shakespeare["", "boltzmann"]


def test_experiments_of_statistical_mechanics_train_nothing_anew_where_they_measure():
    shakespeare, brackets = folders("shakespeare-arms"), folders("brackets-arms")
    for name in ("dominance-threshold", "regimes-by-layer", "composite-heads"):
        for (part, arm), folder in folders(name).items():
            known = shakespeare["", arm] if part == "Shakespeare" else None
            assert folder == (known or brackets["with feed-forward", arm])
    scales = {
        (t.part, t.arm, t.point["attention"]): t.name
        for t in read_experiment("critical-scale").trainings()
    }
    for training in read_experiment("learnable-beta").trainings():
        arm = {"fixed": "1/√d"}.get(training.arm, training.arm)
        assert training.name == scales[training.part, arm, training.point["attention"]]
    spins = folders("spin-model-arms")
    for part in ("Shakespeare", "brackets"):
        for arm in ("softmax", "boltzmann"):
            assert spins[part, arm] == scales[part, "1/√d", arm]


def test_arms_of_equal_capacity():
    sizes = {
        training.arm: sum(p.numel() for p in training.config.model(65).parameters())
        for training in read_experiment("capacity").trainings()
    }
    assert sizes == {
        "boltzmann": 109_785,
        "softmax, ffn 259": 110_023,
        "sigmoid, ffn 259": 110_031,
        "softmax, ffn 512": 175_297,
    }


@pytest.mark.parametrize("name", available_experiments())
def test_a_run_that_goes_on_finds_its_settings_in_its_folder(name, tmp_path):
    for training in read_experiment(name).trainings():
        file = tmp_path / "config.toml"
        file.write_text(training.config.to_toml())
        assert TrainConfig(**read_settings(file)) == training.config


@pytest.mark.slow
def test_every_arm_of_annealed_training_is_trained_and_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(emulated, "SHAPE", (2, 4))  # which is packed in a moment
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question. " * 10)
    small = {"seeds": 1, "steps": 2, "batch_size": 1, "gradient_every": 1, "context": 4}
    store, found = Store(tmp_path / "root"), {}
    for training in read_experiment("annealed-training").trainings(data=text, **small):
        if training.point.get("num_reads", 100) == 100:
            store.train(training, quiet=True)
            records = store.run(training).read_metrics()
            errors = [r["gradient_error"] for r in records if "gradient_error" in r]
            found[training.part, training.arm] = errors
            summary = json.loads(store.run(training).summary_file.read_text())
            assert summary.get("emulated", False) == (training.part == "emulated QPU")
    assert len(found) == 3 + 4 + 2 + 1 + 2
    for (part, _), errors in found.items():
        assert len(errors) == 2
        assert all((error < 1e-5) == (part == "exact") for error in errors)
