"""Files of experiments: those of the catalogue are read, and mistakes in others are named."""

import pytest

from qattn.experiments import available_experiments, read_experiment
from qattn.experiments.claims import read_claim

TEXT = """
title = "Two arms"
seeds = 2
measures = ["couplings"]

[settings]
task = "shakespeare"

[arms]
softmax = { attention = "softmax" }
boltzmann = { attention = "boltzmann" }

[grid]
context = [4, 8]

[[claims]]
id = "gain"
says = "It is better."
test = { kind = "difference", arm = "boltzmann", than = "softmax", metric = "perplexity", where = { context = 8 } }
"""  # noqa: E501


def read(tmp_path, text):
    file = tmp_path / "two-arms.toml"
    file.write_text(text, encoding="utf-8")
    return read_experiment(file)


def test_values_of_a_grid_may_be_pairs(tmp_path):
    grid = "betas = [[3.1, 2.5], [11.2, 11.2]]"
    text = TEXT.replace("context = [4, 8]", grid).partition("[[claims]]")[0]
    trainings = read(tmp_path, text).trainings()
    assert [t.config.betas for t in trainings] == [(3.1, 2.5)] * 2 + [(11.2, 11.2)] * 2


@pytest.mark.parametrize("name", available_experiments())
def test_the_catalogue_is_read(name):
    experiment = read_experiment(name)
    assert experiment.name == name
    assert experiment.title
    assert experiment.trainings()


def test_claims_of_the_catalogue_have_names_of_their_own():
    experiments = map(read_experiment, available_experiments())
    claims = [read_claim(table) for experiment in experiments for table in experiment.claims]
    names = [claim.id for claim in claims]
    assert len(set(names)) == len(names) > 0
    assert {claim.beside for claim in claims if claim.beside} <= set(names)


def test_file_is_an_experiment(tmp_path):
    experiment = read(tmp_path, TEXT)
    assert experiment.name == "two-arms"
    assert len(experiment.trainings()) == 4
    assert {training.config.ensemble for training in experiment.trainings()} == {2}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title =", "titel =", "unknown key `titel`: did you mean 'title'"),
        ('title = "Two arms"', "", "lacks the key `title`"),
        ("seeds = 2", "seeds = 0", "`seeds` must be at least 1, but is 0"),
        ("seeds = 2", 'seeds = "2"', "`seeds` must be a whole number, but is '2'"),
        ('["couplings"]', '["coupling"]', "`measures` must be of composite, .*has 'coupling'"),
        ("seeds = 2", 'seeds = 2\nfigures = ["curve"]', "`figures` must be of curves, .*'curve'"),
        ("[arms]\n", "[arms]\nnone = 3\n", "`arms.none` must be a table, but is 3"),
        ('attention = "softmax"', 'attn = "softmax"', "arm 'softmax': .*unknown setting `attn`"),
        ('attention = "softmax"', 'attention = "soft"', "arm 'softmax': .*must be one of"),
        ("[4, 8]", "[]", r"`grid.context` must be a list of values, but is \[\]"),
        ("[4, 8]", "[8, 8]", r"`grid.context` must have each value once, but is \[8, 8\]"),
        ('= "softmax" }', '= "softmax", context = 8 }', "'softmax' must not have `context`"),
        ('task = "shakespeare"', "ensemble = 3", "`seeds` says how many seeds there are"),
        ("[4, 8]", '["4"]', "arm 'softmax': .*`context` .*of type int"),
        ("[4, 8]", "[4, 0]", "arm 'softmax': .*`context` must be at least 1, but is 0"),
        (
            'arm = "boltzmann"',
            'arm = "boltzman"',
            "key `test.arm` must be one of 'softmax'",
        ),
        ("where = { context = 8 }", "where = { context = 9 }", "`test.where.context` must be one"),
        ("where = { context = 8 }", "where = { lr = 8 }", "`test.where` must be one of 'context'"),
        (", where = { context = 8 }", "", "must choose one value of `context`.*leaves 4, 8"),
        ('"perplexity"', '"accuracy"', "must be one of 'validation_loss', .*but is 'accuracy'"),
        (", where", ', part = "one", where', "`test.part` must be one of '', but is 'one'"),
        ("[[claims]]", "[[claims]", "is not a TOML file"),
        ("[[claims]]", f"deep = {'[' * 3000}{']' * 3000}\n[[claims]]", "is not a TOML file"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, message):
    assert TEXT.count(old) >= 1
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, TEXT.replace(old, new, 1))
    assert "two-arms.toml" in str(caught.value)


def test_numbers_of_seeds_that_are_refused():
    with pytest.raises(ValueError, match="Argument `seeds` must be at least 1, but is 0"):
        read_experiment("brackets-arms").trainings(seeds=0)


def test_claims_about_measures_and_slopes(tmp_path):
    test = TEXT[TEXT.index("test = ") :]
    measure = 'test = {{ kind = "measure", arm = "boltzmann", measure = "{}", value = "map", where = {{ context = 8 }} }}'  # noqa: E501
    assert read(tmp_path, TEXT.replace(test, measure.format("couplings"))).claims
    with pytest.raises(ValueError, match=r"`test.measure` must be one of 'couplings', but is"):
        read(tmp_path, TEXT.replace(test, measure.format("outputs")))
    slope = 'test = { kind = "slope", arm = "boltzmann", than = "softmax", metric = "perplexity" }'
    assert read(tmp_path, TEXT.replace(test, slope)).claims


def test_values_of_a_grid_may_be_lists(tmp_path):
    grid = 'sampler = ["gibbs"]\nbetas = [[1.0, 1.0], [2.0, 2.0]]'
    text = TEXT[: TEXT.index("[[claims]]")].replace("context = [4, 8]", grid)
    trainings = read(tmp_path, text.replace('softmax = { attention = "softmax" }', "")).trainings()
    assert [training.point["betas"] for training in trainings] == [[1.0, 1.0], [2.0, 2.0]]


def test_claims_are_about_the_metric_of_the_task_that_the_grid_sets(tmp_path):
    text = TEXT.replace("context = [4, 8]", 'task = ["brackets", "shakespeare"]\ncontext = [8]')
    text = text.replace("where = { context = 8 }", 'where = { task = "brackets" }')
    assert read(tmp_path, text.replace('"perplexity"', '"accuracy"')).claims
    with pytest.raises(ValueError, match=r"'accuracy', .*but is 'perplexity'"):
        read(tmp_path, text)


def test_names_are_unique(tmp_path):
    claim = TEXT[TEXT.index("[[claims]]") :]
    with pytest.raises(ValueError, match=r"`claims.id` must be different"):
        read(tmp_path, TEXT + claim)
    parts = '[[parts]]\nname = "one"\n' * 2
    with pytest.raises(ValueError, match=r"`grid` must stand in the parts"):
        read(tmp_path, TEXT.replace("[[claims]]", f"{parts}[[claims]]"))
    with pytest.raises(ValueError, match=r"`parts.name` must be different"):
        read(tmp_path, TEXT.replace("[grid]\ncontext = [4, 8]", parts))
    with pytest.raises(ValueError, match="`parts` must be a list of tables, but has 3"):
        read(tmp_path, f"parts = [3]\n{TEXT}")


def test_no_experiment():
    with pytest.raises(ValueError, match=r"must be one of .*brackets-arms, .* but is 'nothing'"):
        read_experiment("nothing")
    with pytest.raises(FileNotFoundError, match=r"No experiment at nothing\.toml"):
        read_experiment("nothing.toml")
