"""What is collected of trainings, and the file of it."""

import json
import re

import numpy as np
import pytest
from _support.trainings import EVERY, SMALL

from qattn.experiments import Experiment, Results, Store, Training, collect
from qattn.training import TrainConfig

EXPERIMENT = Experiment("small", "A small one", "", (), (), (), {"title": "A small one"})


def collected(store, *trainings, steps=4, **settings):
    """Results of trainings of these settings, each with the number of seeds that it has."""
    shared = SMALL | EVERY | {"steps": steps} | settings
    made = [Training("", arm, {}, TrainConfig(**(shared | own))) for arm, own in trainings]
    for training in made:
        store.train(training, quiet=True)
    return made, collect(EXPERIMENT, made, store)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_metrics_and_curves_are_those_of_the_members(store):
    (training,), results = collected(store, ("boltzmann", {"ensemble": 2}), eval_every=2)
    (found,) = results.trainings
    records = [r for r in store.run(training).read_metrics() if "validation_loss" in r]
    assert found.curves["step"] == [0, 2, 4]
    for name in ("accuracy", "validation_loss"):
        members = [record[f"{name}_members"] for record in records]
        np.testing.assert_allclose(found.curves[name], members, rtol=1e-4)
        assert found.metrics[name] == found.curves[name][-1]
    assert found.seeds == list(training.seeds)
    assert found.seconds > 0


def test_one_member_is_a_list_of_one(store):
    _, results = collected(store, ("boltzmann", {}))
    assert len(results.trainings[0].metrics["accuracy"]) == 1


def test_errors_of_gradients_along_the_way(store):
    sampled = {"sampler": "exact", "estimator": "callen", "num_reads": 20, "gradient_every": 2}
    (training,), results = collected(store, ("reads", sampled | {"ensemble": 2}))
    (found,) = results.trainings
    records = [r for r in store.run(training).read_metrics() if "gradient_error" in r]
    assert found.curves["gradient_step"] == [r["step"] for r in records] != []
    members = [r["gradient_error_members"] for r in records]
    np.testing.assert_allclose(found.curves["gradient_error"], members, rtol=1e-4)
    assert found.metrics["gradient_error"] == found.curves["gradient_error"][-1]


def test_no_folder_and_no_name_of_the_machine_is_in_the_file(store, tmp_path):
    text = tmp_path / "texts" / "mine.txt"
    text.parent.mkdir()
    text.write_text("To be, or not to be, that is the question.\n" * 60)
    of_text = {"task": "shakespeare", "data": str(text)}
    _, results = collected(store, ("boltzmann", of_text), steps=2)
    results.write(tmp_path / "results.json")
    content = (tmp_path / "results.json").read_text()
    assert str(tmp_path) not in content
    assert results.trainings[0].settings["data"] == "mine.txt"
    assert "host" not in content
    assert "torch" in content


def test_what_is_not_finished_is_missing_with_its_time_and_its_failure(store):
    (done,), _ = collected(store, ("done", {}))
    config = TrainConfig(**(SMALL | EVERY | {"steps": 40}))
    other = Training("", "more steps", {"steps": 40}, config)
    store.run(other).path.mkdir()
    store.failure_file(other).write_text("FloatingPointError: it diverged. The rest in '/tmp'\n")
    results = collect(EXPERIMENT, [done, other], store)
    (missing,) = results.missing
    assert (missing.arm, missing.point, missing.steps) == ("more steps", {"steps": 40}, 40)
    assert missing.steps_done == 0
    assert missing.seconds_needed == pytest.approx(10 * results.trainings[0].seconds, rel=0.01)
    assert missing.failure == "FloatingPointError: it diverged"


def test_the_file_has_a_line_for_each_training_and_reads_back(store, tmp_path):
    _, results = collected(store, ("one", {}), ("two", {"attention": "sigmoid"}))
    results.write(tmp_path / "new" / "results.json")
    text = (tmp_path / "new" / "results.json").read_text()
    assert sum(line.startswith('{"part"') for line in text.splitlines()) == 2
    assert json.loads(text)["experiment"] == "small"
    assert Results.read(tmp_path / "new" / "results.json") == results


@pytest.mark.parametrize("text", ["[]", "{", '{"experiment": "x"}'])
def test_a_file_that_is_not_one_of_results(tmp_path, text):
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"'{file}' is not a file of results")):
        Results.read(file)
