"""The page of qattn show: its numbers are the model's, names cannot break it, errors help."""

import math

import pytest
import torch
from _support.command_line import run
from _support.shown import a_model, data_of, unpacked
from torch import nn

from qattn.layers import IsingPattern
from qattn.show import LayerAttention, layers_of, page, write_layers, write_page
from qattn.show.numbers import plain
from qattn.training import TrainConfig, train

TOKENS = torch.tensor([3, 1, 4, 1, 5])
NAMES = [f"t{token}" for token in TOKENS]
STRUCTURES = [
    {},
    {"relative": True, "beta": "learnable"},
    {"couplings": "banded", "width": 2, "content": True},
    {"couplings": "low_rank", "position_bias": "relative"},
    {"couplings": "block", "block_size": 3, "interaction": "occupation"},
    {"interaction": "field", "normalize": True},
]


def shown(tmp_path, model, **options):
    write_page(model, TOKENS, NAMES, tmp_path / "page.html", **options)
    return data_of(tmp_path / "page.html")


@pytest.mark.parametrize("options", STRUCTURES)
def test_numbers_are_those_of_the_model(options):
    model = a_model(**options)
    layers = [unpacked(plain(layer), 5) for layer in layers_of(model, TOKENS)]
    weights, scores = model.attention_weights(TOKENS[None]), model.scores(TOKENS[None])
    batches = model.ising_batches(TOKENS[None])
    for number, layer in enumerate(layers):
        attention = model.blocks[number].attention
        # The numbers are float32 on the page as in the model: equal, not only close.
        assert torch.equal(layer["weights"], weights[number][0])
        assert torch.equal(layer["scores"], scores[number][0])
        assert layer["field_bias"] == attention.field_bias.tolist()
        assert layer["beta"] == torch.as_tensor(attention.beta).expand(2).tolist()
        if options.get("interaction") == "field":
            continue
        batch = batches[number].dense()
        assert torch.equal(layer["couplings"], batch.J)
        if options.get("interaction", "spin") == "spin":
            seen = batch.active.expand_as(batch.h)
            assert torch.allclose(layer["scores"][seen] / 2, batch.h[seen], atol=1e-6)
    # Negative control: the heads are in order.
    assert not torch.equal(layers[0]["weights"], weights[0][0].flip(0))


def test_a_potential_takes_the_place_of_couplings(tmp_path):
    model = a_model(attention="cardinality", max_count=3)
    (layer, _) = shown(tmp_path, model)["layers"]
    assert "couplings" not in layer
    potential = model.blocks[0].attention.couplings.values
    assert torch.equal(torch.tensor(layer["potential"]), potential)
    forbidden = LayerAttention(
        torch.ones(1, 1, 1), torch.zeros(1, 1, 1), potential=torch.tensor([[-math.inf, 0.0]])
    )
    write_layers([forbidden], ["a"], tmp_path / "one.html")
    assert data_of(tmp_path / "one.html")["layers"][0]["potential"] == [[None, 0.0]]


@pytest.mark.parametrize("arm", ["softmax", "sigmoid", "spin-model"])
def test_controls_have_weights_and_no_couplings(arm):
    model = a_model(attention=arm)
    layers = layers_of(model, TOKENS)
    # Softmax attention without weights is fused: what the second layer sees is equal to rounding.
    expected = model.attention_weights(TOKENS[None])[1][0]
    assert torch.allclose(layers[1].weights, expected, atol=1e-6)
    assert (layers[0].kind, layers[0].is_coupled) == (arm, False)


def test_a_page_without_couplings_does_not_speak_of_them(tmp_path):
    shown(tmp_path, a_model(attention="softmax"))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "at J = 0" not in text.split("</style>")[1].split("<script")[0]


@pytest.mark.parametrize("masking", ["causal", "padding", "numbers", "rows"])
@pytest.mark.parametrize("coupled", [False, True])
def test_patterns_within_other_modules(masking, coupled):
    """The scores that are noted make the weights: σ(βz) at J = 0, and not otherwise."""

    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.pattern = IsingPattern(4, 7, beta="learnable", position_bias="relative")

        def forward(self, tokens):
            n = tokens.shape[1]
            query, (key, value) = torch.randn(1, 4, n, 3), torch.randn(2, 1, 2, n, 3)
            added = torch.randn(1, 1, n, n)
            options = {
                "causal": {"is_causal": True, "scale": 0.7},
                "padding": {"attn_mask": torch.arange(n) > 1},
                "numbers": {"attn_mask": added.masked_fill(added > 1, -torch.inf)},
                "rows": {"is_causal": True, "rows": torch.arange(n)[None] + 2},
            }
            if masking == "padding":
                options["padding"]["attn_mask"] = (torch.arange(n) > 1).expand(1, 1, n, n)
            self.weights = self.pattern(query, key, value, **options[masking])[1]
            return self.weights

    torch.manual_seed(1)
    model = Other()
    model.pattern.log_beta.data += torch.tensor([0.3, 0.0, -0.4, 0.1])
    model.pattern.position_bias_values.data = torch.randn(4, 7)
    model.pattern.coupling_values.data *= 20 * coupled
    (layer,) = layers_of(model, TOKENS)
    assert torch.equal(layer.weights, model.weights[0])
    alone = (layer.beta[:, None, None] * layer.scores).sigmoid()
    assert torch.allclose(layer.weights, alone, atol=1e-6) != coupled
    first = 2 if masking == "rows" else 0
    expected = model.pattern.couplings[:, first : first + 5, first : first + 5]
    assert torch.equal(layer.couplings, expected)


def test_names_cannot_break_the_page(tmp_path):
    names = ["</script><script>alert(1)</script>", '"', " ", "\n", "a'b"]
    write_page(a_model(), TOKENS, names, tmp_path / "page.html", about={"run": "<b>x</b>"})
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<b>x</b>" not in text
    assert data_of(tmp_path / "page.html")["names"] == [names[0], '"', "␣", "↵", "a'b"]


def test_some_of_the_layers(tmp_path):
    model = a_model(num_layers=3)
    data = shown(tmp_path, model, layers=[2, 0])
    assert data["numbers"] == [2, 0]
    expected = model.attention_weights(TOKENS[None])
    assert torch.equal(data["layers"][0]["weights"], expected[2][0])
    with pytest.raises(ValueError, match="numbers from 0 to 2, but has 3"):
        shown(tmp_path, model, layers=[3])


def test_errors_name_the_way_out(tmp_path, monkeypatch):
    model, path = a_model(), tmp_path / "page.html"
    with pytest.raises(ValueError, match="each of the 5 positions of every layer, but has 4"):
        write_page(model, TOKENS, NAMES[:4], path)
    with pytest.raises(ValueError, match="one sequence of at least 1 token"):
        write_page(model, TOKENS[:0], [], path)
    with pytest.raises(ValueError, match="but is Embedding: give the numbers of its layers"):
        layers_of(nn.Embedding(9, 5), TOKENS)
    with pytest.raises(ValueError, match="at least 1 layer"):
        write_layers([], [], path)
    monkeypatch.setattr(page, "LARGEST", 1000)
    with pytest.raises(ValueError, match="fewer of the layers, or a shorter text"):
        write_page(model, TOKENS, NAMES, path)
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'boltzmann-attention\[show\]'"):
        write_page(model, TOKENS, NAMES, path)
    assert not path.exists()


@pytest.mark.usefixtures("as_users_call")
def test_layers_are_checked():
    with pytest.raises(
        ValueError, match=r"`scores` must have shape \(1, 2, 2\), but has \(1, 1, 2"
    ):
        LayerAttention(torch.ones(1, 2, 2), torch.ones(1, 1, 2))
    with pytest.raises(ValueError, match="'spin-model', but is 'other'"):
        LayerAttention(torch.ones(1, 2, 2), torch.ones(1, 2, 2), kind="other")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    small = {"context": 6, "width": 8, "heads": 2, "layers": 2, "batch_size": 4, "steps": 2}
    train(TrainConfig(**small, ensemble=2, seed=5), folder / "boltzmann", quiet=True)
    train(TrainConfig(**small, attention="softmax"), folder / "softmax", quiet=True)
    return folder


@pytest.mark.usefixtures("as_users_call")
def test_command(runs, tmp_path, monkeypatch, capsys):
    from qattn import load

    folder, out = runs / "boltzmann", tmp_path / "deep" / "page.html"
    status, printed, _ = run(
        monkeypatch, capsys, "show", folder, "--text", "([", "--member", 1, "--out", out
    )
    assert (status, printed) == (0, f"{out}\n")
    data = data_of(out)
    assert data["names"] == ["^", "(", "["]
    model, task = load(folder, member=1)
    expected = model.attention_weights(task.encode("([")[None])
    assert torch.equal(data["layers"][1]["weights"], expected[1][0])
    text = out.read_text()
    assert "seed <strong>6</strong>" in text
    assert "step <strong>2</strong>" in text
    assert run(monkeypatch, capsys, "show", folder, "--sampler", "gibbs", "--layers", "1")[0] == 0
    data = data_of(folder / "show.html")
    assert len(data["names"]) == 6
    assert data["layers"][0]["source"] == "1000 reads of GibbsBackend for each query"
    assert data["numbers"] == [1]
    # Of 1000 reads weights differ from the exact ones, by 5 standard errors √(w(1-w)/R) at most:
    # callen averages over what a read says of its partners, and has a smaller one.
    exact = load(folder).model.attention_weights(load(folder).task.validation()[0][:1])[1][0]
    error = (exact * (1 - exact) / 1000).sqrt()
    assert ((data["layers"][0]["weights"] - exact).abs() <= 5 * error + 1e-3).all()
    assert not torch.equal(data["layers"][0]["weights"], exact)


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--text", "(((((((("], "at most 6 tokens, the run's context, but has 9"),
        (["--text", "x"], "characters of the task's vocabulary only, but has 'x'"),
        (["--layers", "one"], "whole numbers as in 0,3, but is 'one'"),
        (["--layers", "4"], "numbers from 0 to 1, but has 4"),
        (["--sampler", "neal"], "left out for attention without couplings"),
    ],
)
def test_command_errors(runs, monkeypatch, capsys, arguments, expected):
    status, _, error = run(monkeypatch, capsys, "show", runs / "softmax", *arguments)
    assert status == 1
    assert expected in error
    assert not (runs / "softmax" / "show.html").exists()
