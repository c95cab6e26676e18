"""Trainings that bring their own emulated QPU."""

import json

import pytest
from _support.trainings import EVERY, SMALL

from qattn.training import Learner, RunFolder, TrainConfig, emulated, train

CONFIG = SMALL | EVERY | {
    "context": 4, "batch_size": 4, "num_reads": 20, "steps": 4, "sampler": "dwave",
    "emulate_qpu": True, "betas": (11.2, 11.2), "annealing_time": 5.0, "checkpoint_every": 2,
}  # fmt: skip


@pytest.mark.usefixtures("packings_are_kept")
def test_a_run_goes_on_with_an_emulator_of_its_own(tmp_path, monkeypatch):
    config, step, died = TrainConfig(**CONFIG), Learner.step, []

    def dies(learner, number):
        if number == 3 and not died:
            died.append(number)
            raise KeyboardInterrupt
        return step(learner, number)

    monkeypatch.setattr(emulated, "SHAPE", (2, 4))  # which is packed in a moment
    monkeypatch.setattr(Learner, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run")
    summary = train(config, tmp_path / "run", resume=True)
    assert summary["steps"] == 4
    assert summary["emulated"] is True
    # Two submissions a step: those between checkpoint and death came from the journal.
    assert len([*(tmp_path / "run/journal/answers").iterdir()]) == 2 * 4
    assert [r["step"] for r in RunFolder(tmp_path / "run").read_metrics() if "loss" in r] == [4]
    assert json.loads((tmp_path / "run/summary.json").read_text())["emulated"] is True
    assert RunFolder(tmp_path / "run").read_config().credentials is None  # the emulator's are gone


def test_emulation_is_for_dwave_alone():
    with pytest.raises(ValueError, match="`emulate_qpu` must be left out unless the sampler is"):
        TrainConfig(**CONFIG | {"sampler": "gibbs", "betas": None, "annealing_time": None})
