"""Couplings of models of transformers in files: beside any model, and by classes of their own."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

transformers = pytest.importorskip("transformers", reason="needs Hugging Face transformers")

from _support.transformers_models import (
    CONTEXT,
    LLAMA,
    STRUCTURES,
    WORDS,
    coupled_model,
    plain_model,
    tokens,
)
from transformers import AutoModel, AutoModelForCausalLM

from qattn.integrations.transformers import (
    BoltzmannGPT2Config,
    BoltzmannGPT2LMHeadModel,
    BoltzmannLlamaConfig,
    BoltzmannLlamaForCausalLM,
    attach,
    load_couplings,
    patterns,
    save_couplings,
)

GPT2 = {**WORDS, "n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": CONTEXT}
CLASSES = {
    "gpt2": (BoltzmannGPT2LMHeadModel, lambda given: BoltzmannGPT2Config(**GPT2, boltzmann=given)),
    "llama": (
        BoltzmannLlamaForCausalLM,
        lambda given: BoltzmannLlamaConfig(**LLAMA, num_key_value_heads=2, boltzmann=given),
    ),
}


def made(name, **options):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CLASSES[name][1](options or None)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", CLASSES)
@torch.no_grad()
def test_a_file_beside_a_model_of_a_stock_class(name, structure, tmp_path):
    model = coupled_model(name, structure, beta="learnable")
    for pattern in patterns(model).values():
        pattern.log_beta.normal_()
    expected = model(tokens()).logits
    model.save_pretrained(tmp_path)
    save_couplings(model, tmp_path / "couplings.safetensors")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (loaded(tokens()).logits - expected).abs().max() > 1e-2  # the couplings are not there
    load_couplings(loaded, tmp_path / "couplings.safetensors")
    torch.testing.assert_close(loaded(tokens()).logits, expected, rtol=0, atol=0)
    # Into couplings that are there, too.
    attached = coupled_model(name, structure, seed=5, beta="learnable")
    load_couplings(attached, tmp_path / "couplings.safetensors", num_reads=7)
    for key, pattern in patterns(attached).items():
        assert pattern.num_reads == 7
        for part, value in pattern.state_dict().items():
            assert (value == patterns(model)[key].state_dict()[part]).all()


def test_the_file_says_what_it_holds(tmp_path):
    file = tmp_path / "couplings.safetensors"
    save_couplings(coupled_model("llama", "banded", window=5), file)
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    assert header["format"] == "pt"
    assert "positive J is cooperative" in header["conventions"]
    settings = json.loads(header["modules"])["model.layers.0.self_attn"]
    expected = {"couplings": "banded", "width": 2, "context": CONTEXT, "window": 5}
    assert expected.items() <= settings.items()
    assert len(load_file(file)) == 4


def test_couplings_that_do_not_fit(tmp_path):
    file = tmp_path / "couplings.safetensors"
    with pytest.raises(FileNotFoundError, match="No couplings"):
        load_couplings(plain_model(), file)
    with pytest.raises(ValueError, match="call attach"):
        save_couplings(plain_model(), file)
    model = coupled_model("gpt2", "banded")
    before = model(tokens()).logits
    save_couplings(model, file)
    with pytest.raises(ValueError, match=r"couplings of transformer\.h\.0\.attn.*model\.layers\.0"):
        load_couplings(plain_model("llama"), file)
    wider = transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2 | {"n_head": 4}))
    with pytest.raises(ValueError, match="its heads are others"):
        load_couplings(wider, file)
    assert wider.config._attn_implementation != "boltzmann"
    other = coupled_model("gpt2", "dense")
    with pytest.raises(ValueError, match=r"couplings='banded'.*detach\(model\) first"):
        load_couplings(other, file)
    save_file({"a": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="holds no couplings"):
        load_couplings(plain_model(), file)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        load_couplings(plain_model(), file)
    torch.testing.assert_close(model(tokens()).logits, before)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", CLASSES)
@torch.no_grad()
def test_classes_of_their_own_keep_couplings(name, structure, tmp_path):
    model = made(name, context=10, **STRUCTURES[structure])
    assert type(model) is CLASSES[name][0]
    expected = model(tokens()).logits
    model.save_pretrained(tmp_path)
    for seed, loader in enumerate((AutoModelForCausalLM, CLASSES[name][0])):
        torch.manual_seed(seed)
        loaded, info = loader.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info.values())
        assert type(loaded) is type(model)
        torch.testing.assert_close(loaded(tokens()).logits, expected, rtol=0, atol=0)
        assert {p.context for p in patterns(loaded).values()} == {10}
    base = AutoModel.from_pretrained(tmp_path)
    inner = model.base_model(tokens()).last_hidden_state
    torch.testing.assert_close(base(tokens()).last_hidden_state, inner)
    # Asked for another implementation, it has it.
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="sdpa")
    assert plain.config._attn_implementation == "sdpa"
    assert (plain(tokens()).logits - expected).abs().max() > 1e-2


@pytest.mark.parametrize("name", CLASSES)
def test_couplings_start_as_attached_ones_do(name, tmp_path):
    """Where a checkpoint has none, and in a new model: small values, and none that was loaded."""
    model = plain_model(name)
    model.save_pretrained(tmp_path)
    config = CLASSES[name][1]({"couplings": "dense"})
    torch.manual_seed(3)
    loaded, info = CLASSES[name][0].from_pretrained(
        tmp_path, config=config, output_loading_info=True
    )
    assert {key.rpartition(".")[2] for key in info["missing_keys"]} == {
        "coupling_values",
        "field_bias",
    }
    states = [AutoModelForCausalLM.from_config(config).state_dict(), loaded.state_dict()]
    for state in states:
        start = torch.cat([v.flatten() for k, v in state.items() if k.endswith("coupling_values")])
        # 264 or more normal numbers of standard deviation 0.02, whose own has 1/√(2·264) = 4.4%.
        assert abs(start.std() / 0.02 - 1) < 5 * 0.044
        for key in state:
            if key.endswith("field_bias"):
                torch.testing.assert_close(state[key], torch.full_like(state[key], -2.4849067))
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0)
    # One that is attached starts the same way.
    attach(model, CONTEXT)
    assert patterns(model).keys() == patterns(loaded).keys()


def test_a_class_of_its_own_with_other_couplings(tmp_path):
    model = made("gpt2", couplings="dense")
    attach(model, 11, couplings="banded", width=1, window=4)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(tokens()).logits, model(tokens()).logits, rtol=0, atol=0)
    assert patterns(loaded)["transformer.h.0.attn"].window == 4


def test_a_context_that_cannot_be_enumerated_is_refused_by_the_class():
    with pytest.raises(ValueError, match="window=16"):
        AutoModelForCausalLM.from_config(
            BoltzmannGPT2Config(**GPT2 | {"n_positions": 64}, boltzmann={"couplings": "dense"})
        )
