"""Measures of trained models against what their definitions say."""

import json

import numpy as np
import pytest
import torch
from _support.trainings import EVERY, SMALL

from qattn.experiments import Store, Training
from qattn.experiments.measures import MEASURES
from qattn.experiments.measures.couplings import by_distance
from qattn.experiments.measures.outputs import nested_word, of_language, partners
from qattn.training import TrainConfig, load
from qattn.training.tasks.brackets import dyck_words

CONFIG = SMALL | EVERY | {"task": "brackets", "steps": 5, "ensemble": 2, "seed": 3, "lr": 0.01}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function from settings to the run folder and its measures."""
    store = Store(tmp_path_factory.mktemp("store"))

    def measured(measures, **settings):
        training = Training("", "arm", {}, TrainConfig(**(CONFIG | settings)), measures)
        store.train(training)
        run = store.run(training)
        return run, [json.loads((run.path / f"measures/{m}.json").read_text()) for m in measures]

    return measured


def learned(run, member):
    """J of the only layer of a member, (heads, T, T)."""
    (layer,) = [m for m in load(run.path, member=member).model.modules() if hasattr(m, "structure")]
    J = layer.couplings.detach() if isinstance(layer.couplings, torch.Tensor) else layer.couplings
    return J if isinstance(J, torch.Tensor) else J.dense().detach()


def test_couplings_of_each_member_by_distance_and_as_a_map(trained):
    run, (found,) = trained(("couplings",))
    J = torch.stack([learned(run, member) for member in range(2)])  # members, heads, T, T
    T = CONFIG["context"]
    for member in range(2):
        for d in range(1, T):
            pairs = [J[member, :, j, j - d].mean() for j in range(d, T)]
            mean = float(sum(pairs) / len(pairs))
            assert found["by_distance"][member][d - 1] == pytest.approx(mean, rel=1e-4)
            assert found["by_distance_of_layers"][0][member][d - 1] == pytest.approx(mean, rel=1e-4)
        entries = J[member][:, torch.ones(T, T).tril(-1).bool()]
        assert found["sd"][member][0] == pytest.approx(float(entries.std()), rel=1e-4)
    np.testing.assert_allclose(found["map"][0], J.mean((0, 1)), rtol=1e-4, atol=1e-9)


def test_the_start_is_that_of_the_members_seeds(trained):
    _, (found,) = trained(("couplings",))
    _, (other,) = trained(("couplings",), seed=4, ensemble=1)
    assert found["by_distance_at_start"][1] == other["by_distance_at_start"][0]
    assert found["by_distance_at_start"][0] != other["by_distance_at_start"][0]
    assert found["by_distance_at_start"] != found["by_distance"]
    # 2 heads x 15 pairs with standard deviation 0.02, whose estimate has 0.02/sqrt(2 x 29).
    for (sd,) in found["sd_at_start"]:
        assert abs(sd - 0.02) < 5 * 0.02 / 58**0.5


@pytest.mark.parametrize(
    ("options", "reach"),
    [
        ({"couplings": "banded", "coupling_width": 2}, 2),
        ({"couplings": "block", "block_size": 3}, 2),
        ({"couplings": "low_rank"}, 5),
        ({"couplings": "low_rank", "content": True}, 5),
        ({"relative": True}, 5),
        ({"interaction": "occupation"}, 5),
        ({"interaction": "field"}, 5),
        ({"attention": "cardinality", "competitive": True}, 5),
    ],
)
def test_every_structure_counts_only_the_pairs_that_it_couples(trained, options, reach):
    run, (found,) = trained(("couplings",), **options)
    assert [len(profile) for profile in found["by_distance"]] == [reach, reach]
    if options.get("content"):
        return
    J = learned(run, 1)
    for d in range(1, reach + 1):
        pairs = J.diagonal(-d, -2, -1)
        mean = pairs[pairs != 0].mean()  # a learned coupling is never exactly 0
        assert found["by_distance"][1][d - 1] == pytest.approx(float(mean), rel=1e-3)


def test_what_an_arm_does_not_have_is_left_out(trained):
    assert trained(("couplings",), attention="softmax")[1] == [{}]
    assert trained(("couplings",), attention="cardinality", max_count=2)[1] == [{}]


@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_bias_of_position_by_distance(trained, kind):
    run, (found,) = trained(("couplings",), attention="softmax", position_bias=kind)
    assert found.keys() == {"position_bias"}
    for member in range(2):
        values = (
            load(run.path, member=member).model.blocks[0].attention.position_bias_values.detach()
        )
        for d in range(6):
            each = values[:, d] if kind == "relative" else values.diagonal(-d, 1, 2)
            assert found["position_bias"][member][d] == pytest.approx(float(each.mean()), rel=1e-3)


def test_by_distance_of_a_matrix_with_its_distance_as_entries():
    place = torch.arange(5.0)
    J = (place - place[:, None]).abs()[None]
    pairs = torch.ones(5, 5).tril(-1).bool()
    assert by_distance(J, pairs).tolist() == [[1, 2, 3, 4]]
    pairs[4, 0] = pairs[1, 0] = False
    assert by_distance(J, pairs).tolist() == [[1, 2, 3]]


def test_outputs_at_closing_brackets(trained):
    run, (found,) = trained(("outputs",))
    assert found["distances"] == [1, 3, 5]
    for member in range(2):
        model, task = load(run.path, member=member)
        inputs, words = task.validation()
        sums, counts = np.zeros((2, 6, 3)), np.zeros((2, 6, 1))
        for tokens, word in zip(model(inputs).softmax(-1).detach(), words, strict=True):
            stack = []
            for position, bracket in enumerate(word.tolist()):
                if bracket % 2 == 0:
                    stack.append(position)
                    continue
                right = float(tokens[position, bracket])
                wrong = float(tokens[position, [1, 3, 5]].sum()) - right
                opening = float(tokens[position, [0, 2, 4]].sum())
                for kind, place in enumerate((position, (position - stack.pop()) // 2)):
                    sums[kind, place] += right, wrong, opening
                    counts[kind, place] += 1
        for kind, name in enumerate(("by_position", "by_distance")):
            for place, got in enumerate(found[name][member]):
                if not counts[kind, place]:
                    assert got == [None] * 3
                else:
                    np.testing.assert_allclose(got, sums[kind, place] / counts[kind, place], 1e-3)


def test_the_example_is_one_nested_word(trained):
    run, (found,) = trained(("outputs",))
    example = found["example"]
    assert "".join(example["word"]) == "([{}])"
    assert example["symbols"] == list("()[]{}^")
    tokens = torch.tensor([[6, 0, 2, 4, 5, 3]])
    answers = [load(run.path, member=m).model(tokens)[0].softmax(-1).detach() for m in range(2)]
    np.testing.assert_allclose(example["distribution"], sum(answers) / 2, 1e-4)


def test_partners_of_brackets():
    words = torch.tensor([[0, 2, 3, 4, 5, 1], [0, 1, 2, 3, 4, 5]])  # ([]{}) and ()[]{}
    assert partners(words).tolist() == [[-1, -1, 1, -1, 3, 0], [-1, 0, -1, 2, -1, 4]]
    assert nested_word(8, 3).tolist() == [[0, 2, 4, 0, 1, 5, 3, 1]]


def test_the_language_opens_as_often_as_its_words_do():
    words = torch.from_numpy(dyck_words(np.random.default_rng(0), 4000, 8, 3))
    opening = of_language(words)[..., 2]
    # Given what stands before it, a place opens with that probability: the sum of the differences
    # over words is a martingale, with the variance of independent Bernoulli draws.
    surplus = ((words % 2 == 0).double() - opening).sum(0)
    spread = (opening * (1 - opening)).sum(0).sqrt()
    assert bool((surplus.abs() <= 5 * spread + 1e-3).all())
    wrong = ((words % 2 == 0).double() - (1 - opening)).sum(0)
    assert not bool((wrong.abs() <= 5 * spread + 1e-3).all())
    assert torch.equal(of_language(words).sum(-1), torch.ones_like(opening))


def test_outputs_are_of_brackets_only(trained, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be " * 50)
    with pytest.raises(ValueError, match="the task brackets, but the task is shakespeare"):
        trained(("outputs",), task="shakespeare", data=str(text))


def test_a_finished_run_is_measured_where_a_measure_is_missing(tmp_path):
    store, config = Store(tmp_path), TrainConfig(**CONFIG)
    plain = Training("", "arm", {}, config)
    store.train(plain)
    run = store.run(plain)
    weights = run.checkpoint_file.read_bytes()
    assert not (run.path / "measures").exists()
    store.train(Training("", "arm", {}, config, tuple(MEASURES)))
    assert {file.stem for file in (run.path / "measures").iterdir()} == MEASURES.keys()
    assert run.checkpoint_file.read_bytes() == weights
    kept = run.path / "measures/outputs.json"
    kept.write_text("{}")  # what is there is not measured again
    store.train(Training("", "arm", {}, config, tuple(MEASURES)))
    assert kept.read_text() == "{}"
