"""Couplings attached to models of transformers: what their attention computes."""

import copy
import importlib
import sys

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="needs Hugging Face transformers")

from _support.transformers_models import (
    CONTEXT,
    STRUCTURES,
    coupled_model,
    enumerated_attention,
    left_padded,
    plain_model,
    sigmoid_attention,
    tokens,
    with_implementation,
    zero_couplings,
)
from transformers import AttentionInterface, GPT2Config, GPT2LMHeadModel

from qattn.integrations.transformers import (
    AttachedPattern,
    attach,
    detach,
    patterns,
    set_backend,
)
from qattn.integrations.transformers.attach import set_implementation
from qattn.integrations.transformers.functions import attention
from qattn.integrations.transformers.pattern import attend

MODELS = ("gpt2", "llama")


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_equals_enumeration(name, structure):
    model = coupled_model(name, structure)
    text, mask = left_padded(tokens(1, 4), tokens(1, 6, seed=2))
    live = mask.bool()
    found = model(text, attention_mask=mask).logits[live]
    with_implementation(model, "enumerated", enumerated_attention)
    expected = model(text, attention_mask=mask).logits[live]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    # The control: without couplings it is something else.
    zero_couplings(model)
    assert (model(text, attention_mask=mask).logits[live] - expected).abs().max() > 1e-2


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_without_couplings_it_is_sigmoid_attention(name, structure):
    model = coupled_model(name, structure)
    zero_couplings(model)
    found = model(tokens()).logits
    with_implementation(model, "sigmoid", sigmoid_attention)
    torch.testing.assert_close(found, model(tokens()).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", MODELS)
def test_padding_moves_no_couplings(name, structure):
    model = coupled_model(name, structure)
    short, long = tokens(1, 4), tokens(1, 6, seed=2)
    text, mask = left_padded(short, long)
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    padded = model(text, attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(padded[:1, 2:], model(short).logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(padded[1:], model(long).logits, rtol=0, atol=1e-5)
    right = model(torch.nn.functional.pad(short, (0, 2)), attention_mask=mask[:1].flip(1)).logits
    torch.testing.assert_close(right[:, :4], model(short).logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_masks_of_four_axes():
    model = coupled_model("llama")
    text = tokens()
    seen = torch.ones(6, 6, dtype=torch.bool).tril().expand(2, 1, 6, 6)
    expected = model(text).logits
    torch.testing.assert_close(model(text, attention_mask=seen).logits, expected)
    added = torch.zeros(2, 1, 6, 6).masked_fill(~seen, torch.finfo(torch.float32).min)
    torch.testing.assert_close(model(text, attention_mask=added).logits, expected)
    # Numbers that are finite are added to the scores.
    assert (model(text, attention_mask=added - 1).logits - expected).abs().max() > 1e-2


def test_texts_that_are_packed_into_one_row_are_refused():
    model, block = coupled_model("llama"), torch.ones(3, 3).tril()
    packed = torch.block_diag(block, block).bool()
    with pytest.raises(ValueError, match="a single text in each row"):
        model(tokens(), attention_mask=packed.expand(2, 1, 6, 6))


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_other_implementations_and_back(name):
    model = plain_model(name)
    before = model(tokens()).logits
    for pattern in attach(model, CONTEXT).values():
        torch.nn.init.normal_(pattern.coupling_values)
    coupled = model(tokens()).logits
    assert (coupled - before).abs().max() > 1e-2
    set_implementation(model, "sdpa")
    torch.testing.assert_close(model(tokens()).logits, before)
    if hasattr(model, "set_attn_implementation"):
        model.set_attn_implementation("boltzmann")
    else:
        set_implementation(model, "boltzmann")
    torch.testing.assert_close(model(tokens()).logits, coupled)
    detach(model)
    torch.testing.assert_close(model(tokens()).logits, before)
    with pytest.raises(ValueError, match="call attach"):
        patterns(model)


def test_a_typo_in_a_name_is_an_error():
    with pytest.raises(ValueError, match="boltzman"):
        transformers.AutoModelForCausalLM.from_config(GPT2Config(), attn_implementation="boltzman")
    model = coupled_model("llama")
    if hasattr(model, "set_attn_implementation"):
        with pytest.raises(ValueError, match="boltzman"):
            model.set_attn_implementation("boltzman")
    # An attention function without a mask function: transformers would make no mask.
    AttentionInterface.register("boltzmann-again", attention)
    set_implementation(model, "boltzmann-again")
    with pytest.raises(ValueError, match="has no mask function"):
        model(tokens())


def test_a_model_without_couplings_does_not_compute():
    model = plain_model()
    set_implementation(model, "boltzmann")
    with pytest.raises(ValueError, match=r"has no couplings: call .*attach"):
        model(tokens())


def test_a_context_that_cannot_be_enumerated_is_refused():
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=9))
    with pytest.raises(ValueError, match=r"but is 1024.*'banded'.*'tap'.*window=16"):
        attach(model)
    assert not [name for name in model.state_dict() if "boltzmann" in name]
    assert model.config._attn_implementation != "boltzmann"
    with pytest.raises(ValueError, match="block couplings can be enumerated"):
        attach(model, couplings="block", block_size=64)
    attach(model, couplings="block", block_size=8)
    attach(model, moments="tap")
    attach(model, window=8, relative=True)
    attach(model, couplings="banded")
    attach(model, 12)


def test_a_text_beyond_the_context_is_refused():
    model = coupled_model(context=5)
    with pytest.raises(ValueError, match="for 5 positions, but this text has 6"):
        model(tokens(1, 6))
    # Padding is no text.
    model(tokens(1, 6), attention_mask=torch.tensor([[0, 1, 1, 1, 1, 1]]))


@pytest.mark.parametrize("structure", STRUCTURES)
@torch.no_grad()
def test_a_window_of_the_last_positions(structure):
    model = coupled_model("mistral", structure)  # whose own window has 3 positions
    expected = model(tokens()).logits
    own = coupled_model("llama", structure, window=3)
    own.load_state_dict(model.state_dict())
    torch.testing.assert_close(own(tokens()).logits, expected, rtol=0, atol=1e-5)
    for pattern in patterns(own).values():
        pattern.window = None
    assert (own(tokens()).logits - expected).abs().max() > 1e-2


def test_a_window_over_couplings_by_distance():
    """They are a band there, with the values and gradients of the whole matrix."""
    torch.manual_seed(0)
    by_distance = AttachedPattern(2, 9, window=4, relative=True, std=0.5)
    whole = AttachedPattern(2, 9, window=4)
    j, k = torch.triu_indices(9, 9, 1)
    J = by_distance.couplings.detach()[:, j, k]
    whole.load_state_dict({"field_bias": by_distance.field_bias, "coupling_values": J})
    query, key, value = torch.randn(3, 1, 2, 9, 4).unbind()
    outputs = [
        attend(pattern, query, key, value, None, positions=None, is_causal=True)[0]
        for pattern in (by_distance, whole)
    ]
    torch.testing.assert_close(*outputs)
    sum(output.square().sum() for output in outputs).backward()
    summed = torch.zeros(2, 8).index_add(1, k - j - 1, whole.coupling_values.grad)
    assert summed[:, :3].abs().min() > 1e-4
    torch.testing.assert_close(by_distance.coupling_values.grad, summed)


def test_a_window_begins_where_its_mask_says():
    model = coupled_model("mistral")
    with pytest.raises(ValueError, match="does not say where a window begins"):
        model(tokens(), attention_mask=torch.ones(2, 1, 6, 6, dtype=torch.bool).tril())


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_an_output(name):
    model = coupled_model(name)
    found = model(tokens(), output_attentions=True).attentions
    heads = model.config.num_attention_heads
    assert [tuple(weights.shape) for weights in found] == 2 * [(2, heads, 6, 6)]
    seen = torch.ones(6, 6).tril()
    assert (found[0] * (1 - seen)).abs().max() == 0
    assert ((found[0] > 0) == seen.bool()).all()


def test_which_models_are_refused():
    crossed = GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=9, add_cross_attention=True)
    with pytest.raises(ValueError, match=r"one text.*h\.0\.crossattention"):
        attach(GPT2LMHeadModel(crossed), 8)
    other = transformers.MambaConfig(num_hidden_layers=1, hidden_size=8, vocab_size=9)
    with pytest.raises(ValueError, match="has none"):
        attach(transformers.AutoModelForCausalLM.from_config(other), 8)
    capped = transformers.Gemma2Config(
        num_hidden_layers=1, hidden_size=8, vocab_size=9, intermediate_size=8, head_dim=4
    )
    model = transformers.AutoModelForCausalLM.from_config(capped)
    attach(model, 8)
    with pytest.raises(ValueError, match="no `softcap`"):
        model(torch.tensor([[1, 2]]))


def test_a_bidirectional_model():
    config = transformers.BertConfig(
        num_hidden_layers=1, num_attention_heads=2, hidden_size=8, intermediate_size=8, vocab_size=9
    )
    model = transformers.AutoModel.from_config(config).eval()
    if not hasattr(model, "set_attn_implementation"):
        with pytest.raises(ValueError, match="has none"):
            attach(model, 8)
        return
    with pytest.raises(ValueError, match="not causal"):
        attach(model, 8, window=2)
    attach(model, 8)
    text, mask = tokens(2, 5) % 9, torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    found = model(text, attention_mask=mask).last_hidden_state[0, :4]
    torch.testing.assert_close(found, model(text[:1, :4]).last_hidden_state[0])


def test_the_backend_of_all_layers():
    model = coupled_model()
    exactly = model(tokens()).logits
    set_backend(model, "gibbs", num_reads=7)
    assert {(type(p.backend).__name__, p.num_reads) for p in patterns(model).values()} == {
        ("GibbsBackend", 7)
    }
    torch.manual_seed(5)
    drawn = model(tokens()).logits
    torch.manual_seed(5)
    torch.testing.assert_close(model(tokens()).logits, drawn, rtol=0, atol=0)
    assert (drawn - exactly).abs().max() > 1e-4
    set_backend(model, "exact")
    torch.testing.assert_close(model(tokens()).logits, exactly)


def test_precision_copies_and_parameters():
    model = coupled_model("llama")
    expected = model(tokens()).logits
    names = [f"model.layers.{i}.self_attn.boltzmann.coupling_values" for i in range(2)]
    assert set(names) <= model.state_dict().keys()
    assert set(names) <= dict(model.named_parameters()).keys()
    twin = copy.deepcopy(model)
    torch.testing.assert_close(twin(tokens()).logits, expected)
    torch.nn.init.zeros_(twin.get_parameter(names[0]))
    torch.testing.assert_close(model(tokens()).logits, expected)
    half = model.bfloat16()(tokens()).logits
    assert half.dtype == torch.bfloat16
    # Eight bits of mantissa, over some ten operations in a row.
    assert (half - expected).abs().max() < 0.1 * expected.abs().max()
    late = plain_model("llama").bfloat16()
    assert {p.coupling_values.dtype for p in attach(late, 8).values()} == {torch.bfloat16}


def test_without_transformers_the_error_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("qattn.integrations.transf")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"boltzmann-attention\[transformers\]"):
        importlib.import_module("qattn.integrations.transformers")
