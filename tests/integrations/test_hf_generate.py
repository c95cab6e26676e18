"""`generate` with couplings: with and without a cache, dynamic and static, with padding."""

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="needs Hugging Face transformers")

from _support.transformers_models import (
    CONFIGS,
    LLAMA,
    STRUCTURES,
    WORDS,
    coupled_model,
    left_padded,
    tokens,
)

from qattn.integrations.transformers import attach, patterns, set_backend

NEW = 5
OTHERS = {
    "qwen2": lambda: transformers.Qwen2Config(**LLAMA, num_key_value_heads=2),
    "phi": lambda: transformers.PhiConfig(**LLAMA, num_key_value_heads=2),
    "gemma": lambda: transformers.GemmaConfig(**LLAMA, num_key_value_heads=2, head_dim=4),
    "neox": lambda: transformers.GPTNeoXConfig(**LLAMA),
    "opt": lambda: transformers.OPTConfig(
        **WORDS,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=16,
        max_position_embeddings=12,
        word_embed_proj_dim=16,
    ),
}


def generated(model, text, mask=None, **options):
    """Tokens, and the logits of each step."""
    mask = torch.ones_like(text) if mask is None else mask
    found = model.generate(
        text,
        attention_mask=mask,
        max_new_tokens=NEW,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return found.sequences[:, text.shape[1] :], torch.stack(found.logits, 1)


def assert_same(found, expected):
    assert (found[0] == expected[0]).all()
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=2e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", CONFIGS)
def test_caches_change_nothing(name, structure):
    model, text = coupled_model(name, structure), tokens(2, 5)
    full = generated(model, text, use_cache=False)
    assert_same(generated(model, text), full)
    assert_same(generated(model, text, cache_implementation="static"), full)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", CONFIGS)
def test_left_padding_changes_nothing(name, structure):
    model = coupled_model(name, structure)
    short, long = tokens(1, 3), tokens(1, 5, seed=2)
    one, two = generated(model, short), generated(model, long)
    both = torch.cat([one[0], two[0]]), torch.cat([one[1], two[1]])
    assert_same(generated(model, *left_padded(short, long)), both)
    static = generated(model, *left_padded(short, long), cache_implementation="static")
    assert_same(static, both)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_a_position_bias_goes_by_positions_of_the_text(cache):
    model = coupled_model(position_bias="relative")
    for pattern in patterns(model).values():
        torch.nn.init.normal_(pattern.position_bias_values)
    short, long = tokens(1, 3), tokens(1, 5, seed=2)
    one, two = (generated(model, text, use_cache=False) for text in (short, long))
    both = torch.cat([one[0], two[0]]), torch.cat([one[1], two[1]])
    found = generated(model, *left_padded(short, long), cache_implementation=cache)
    assert_same(found, both)
    for pattern in patterns(model).values():
        torch.nn.init.zeros_(pattern.position_bias_values)
    assert (generated(model, long)[1][:, 0] - two[1][:, 0]).abs().max() > 1e-3  # control


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_by_the_same_route(name):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(OTHERS[name]()).eval()
    for pattern in attach(model, 12, couplings="banded", width=2).values():
        torch.nn.init.normal_(pattern.coupling_values)
        torch.nn.init.zeros_(pattern.field_bias)
    short, long = tokens(1, 3), tokens(1, 5, seed=2)
    full = generated(model, short, use_cache=False)
    assert_same(generated(model, short), full)
    assert_same(generated(model, short, cache_implementation="static"), full)
    padded = generated(model, *left_padded(short, long))
    assert_same((padded[0][:1], padded[1][:1]), full)


def test_a_text_in_chunks():
    model, text = coupled_model("llama"), tokens(1, 6)
    expected = model(text).logits
    name = "past_key_values" if transformers.__version__ < "5" else "cache"
    cache = {name: transformers.DynamicCache()}
    found = [model(chunk, **cache).logits for chunk in text.split(2, 1)]
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=0, atol=1e-5)


def test_generation_ends_where_the_context_does():
    model = coupled_model("gpt2", context=7)
    generated(model, tokens(1, 3))
    with pytest.raises(ValueError, match="for 7 positions, but this text has 8"):
        generated(model, tokens(1, 5))


def test_beams():
    model = coupled_model("gpt2", "banded")
    text, mask = left_padded(tokens(1, 3), tokens(1, 5, seed=2))
    found = model.generate(
        text, attention_mask=mask, num_beams=3, max_new_tokens=4, do_sample=False
    )
    alone = model.generate(
        text[:1, 2:], attention_mask=mask[:1, 2:], num_beams=3, max_new_tokens=4, do_sample=False
    )
    assert (found[0, 5:] == alone[0, 3:]).all()


def test_reads_are_drawn_for_each_token():
    model, text = coupled_model("gpt2", "banded"), tokens(1, 3)
    exactly = generated(model, text)[1]
    set_backend(model, "neal", num_reads=20)
    torch.manual_seed(0)
    drawn = generated(model, text)
    torch.manual_seed(0)
    again = generated(model, text)
    assert (again[1] == drawn[1]).all()
    assert (drawn[1][:, 0] - exactly[:, 0]).abs().max() > 1e-4
