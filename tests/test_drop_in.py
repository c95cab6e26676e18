"""Boltzmann attention in the place of nn.MultiheadAttention: inputs, masks, PyTorch's layers."""

import copy
import pickle
import warnings

import pytest
import torch
from _support.drop_in import NESTED, E, H, L, N, S, attention, enumerated, projected
from torch import nn

from qattn import BoltzmannMultiheadAttention
from qattn.layers import replace_attention


def not_attended(*shape, seed=1):
    """A mask in nn.MultiheadAttention's convention, with every query attending to something."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(*shape, generator=generator) < 0.4
    mask[..., 0] = False
    return mask


def as_numbers(mask):
    return torch.zeros(mask.shape).masked_fill(mask, -torch.inf)


MASKS = {
    "none": (None, None),
    "attn_mask": (not_attended(L, S), None),
    "attn_mask of heads": (not_attended(N * H, L, S), None),
    "padding": (None, not_attended(N, S, seed=2)),
    "both": (not_attended(L, S), not_attended(N, S, seed=2)),
    "both, of heads": (not_attended(N * H, L, S), not_attended(N, S, seed=2)),
}


def absent_of(attn_mask, padding):
    absent = torch.zeros(N, 1, 1, S, dtype=torch.bool)
    if attn_mask is not None:
        absent = absent | (attn_mask if attn_mask.ndim == 2 else attn_mask.unflatten(0, (N, H)))
    return absent if padding is None else absent | padding[:, None, None]


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("written", ["booleans", "numbers", "one of each"])
def test_cross_attention_equals_enumeration(masks, written):
    module = attention()
    query, memory = torch.randn(N, L, E), torch.randn(N, S, E)
    attn_mask, padding = MASKS[masks]
    expected = enumerated(module, query, memory, memory, absent_of(attn_mask, padding))
    if written != "booleans" and attn_mask is not None:
        attn_mask = as_numbers(attn_mask)
    if written == "numbers" and padding is not None:
        padding = as_numbers(padding)
    output, weights = module(
        query, memory, memory, padding, attn_mask=attn_mask, average_attn_weights=False
    )
    torch.testing.assert_close(weights, expected[1].float(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output, expected[0].float(), atol=1e-5, rtol=1e-5)
    # Negative control: in a model without couplings these weights are others.
    module.pattern.coupling_values.data.zero_()
    other = module(query, memory, memory, padding, attn_mask=attn_mask, average_attn_weights=False)
    assert (other[1] - weights).abs().max() > 0.05


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 5, "vdim": 3}])
def test_without_couplings_it_is_sigmoid_attention(options):
    module = attention(coupled=False, **options)
    query = torch.randn(N, L, E)
    key, value = torch.randn(N, S, module.kdim), torch.randn(N, S, module.vdim)
    reference = nn.MultiheadAttention(E, H, batch_first=True, **options)
    state = {name: x for name, x in module.state_dict().items() if "pattern" not in name}
    reference.load_state_dict(state)
    q, k, v = projected(reference, query, key, value)
    scores = q @ k.mT / (E // H) ** 0.5
    # PyTorch's own attention has the softmax of these scores, ours the sigmoid.
    softmax = reference(query, key, value, average_attn_weights=False)[1]
    torch.testing.assert_close(scores.softmax(-1).float(), softmax, atol=1e-6, rtol=1e-5)
    expected = (scores + module.pattern.field_bias.reshape(-1, 1, 1)).sigmoid()
    output, weights = module(query, key, value, average_attn_weights=False)
    torch.testing.assert_close(weights, expected.float(), atol=1e-6, rtol=1e-5)
    heads = (expected @ v).transpose(1, 2).flatten(2).float()
    torch.testing.assert_close(output, reference.out_proj(heads), atol=1e-5, rtol=1e-5)


def test_layouts_of_inputs_agree():
    module, query, memory = attention(), torch.randn(N, L, E), torch.randn(N, S, E)
    mask, padding = not_attended(L, S), not_attended(N, S)
    options = {"attn_mask": mask, "average_attn_weights": False}
    output, weights = module(query, memory, memory, padding, **options)
    assert (output.shape, weights.shape) == ((N, L, E), (N, H, L, S))
    for n in range(N):
        alone = module(query[n], memory[n], memory[n], padding[n], **options)
        torch.testing.assert_close(alone, (output[n], weights[n]))
    module.batch_first = False
    turned = [x.transpose(0, 1) for x in (query, memory, memory)]
    second, same = module(*turned, padding, **options)
    torch.testing.assert_close((second.transpose(0, 1), same), (output, weights))
    mean = module(*turned, padding, attn_mask=mask)[1]
    torch.testing.assert_close(mean, weights.mean(1))
    assert module(*turned, need_weights=False)[1] is None


def test_a_hint_of_causality_is_one():
    module, x = attention(), torch.randn(N, S, E)
    mask = nn.Transformer.generate_square_subsequent_mask(S)
    full = module(x, x, x, attn_mask=mask)[0]
    for padding in (None, torch.zeros(N, S)):
        for need_weights in (True, False):
            hinted = module(x, x, x, padding, need_weights, mask, is_causal=True)[0]
            torch.testing.assert_close(hinted, full, atol=1e-6, rtol=1e-5)
    # Queries of another sequence: the mask is read as it stands.
    corner = torch.ones(L, S, dtype=torch.bool).triu(1)
    found = [module(x[:, :L], x, x, None, False, corner, is_causal=c)[0] for c in (True, False)]
    torch.testing.assert_close(*found)


def test_queries_that_attend_to_nothing_get_no_values():
    module, x = attention(), torch.randn(N, S, E)
    padding = torch.zeros(N, S, dtype=torch.bool)
    padding[1] = True
    output, weights = module(x, x, x, padding)
    assert weights[1].abs().max() == 0
    torch.testing.assert_close(output[1], module.out_proj.bias.expand(S, E))
    output.sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


def encoder(*, swapped, built_first, **options):
    """nn.TransformerEncoder of two layers, where fused inference would take over."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(E, H, 16, 0.0, batch_first=True)
    layer.self_attn = layer.self_attn if built_first or not swapped else attention()
    with warnings.catch_warnings():
        # PyTorch says that it will not take nested tensors.
        warnings.filterwarnings("ignore", message="enable_nested_tensor is True")
        model = nn.TransformerEncoder(layer, 2, **options)
    if built_first and swapped:
        replace_attention(model, context=S)
        for part in model.layers:
            part.self_attn.load_state_dict(attention().state_dict())
    return model


@NESTED
@pytest.mark.parametrize("built_first", [True, False])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_evaluation_is_the_attention_that_was_trained(built_first, padded, masked):
    model, x = encoder(swapped=True, built_first=built_first), torch.randn(N, S, E)
    padding = torch.arange(S) >= torch.tensor([S, 4, 2])[:, None] if padded else None
    mask = nn.Transformer.generate_square_subsequent_mask(S) if masked else None
    padding = as_numbers(padding) if padded and masked else padding
    trained = model(x, mask, padding)
    with torch.no_grad():
        evaluated = model.eval()(x, mask, padding)
    real = torch.ones(N, S, dtype=torch.bool) if not padded else padding == 0
    torch.testing.assert_close(evaluated[real], trained[real], atol=1e-5, rtol=1e-5)
    # Negative control: PyTorch's own attention of these projections is something else.
    softmax = encoder(swapped=False, built_first=True).eval()
    softmax.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        assert (softmax(x, mask, padding)[real] - evaluated[real]).abs().max() > 0.1


@NESTED
def test_fused_inference_is_what_is_avoided(monkeypatch):
    """The calls that would be silently wrong: PyTorch's module makes them, ours does not."""
    calls = []

    def watched(name, fused):
        def call(*args, **kwargs):
            calls.append(name)
            return fused(*args, **kwargs)

        monkeypatch.setattr(torch, name, call)

    for name in ("_transformer_encoder_layer_fwd", "_native_multi_head_attention"):
        watched(name, getattr(torch, name))
    x = torch.randn(N, S, E)
    padding = torch.arange(S) >= torch.tensor([S, 4, 2])[:, None]
    for swapped in (False, True):
        calls.clear()
        model = encoder(swapped=swapped, built_first=True).eval()
        with torch.no_grad():
            for arguments in [(x,), (x, None, padding)]:
                model(*arguments)
            model.layers[0].self_attn(x, x, x)
        assert calls == (
            []
            if swapped
            else ["_transformer_encoder_layer_fwd"] * 4 + ["_native_multi_head_attention"]
        )


@NESTED
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors(layout):
    module = attention().eval()
    sequences = [torch.randn(n, E) for n in (S, 4, 2)]
    x = torch.nested.nested_tensor(sequences, layout=layout)
    output, weights = module(x, x, x)
    assert (output.is_nested, output.layout, weights.shape) == (True, layout, (N, S, S))
    for y, sequence in zip(output.unbind(), sequences, strict=True):
        torch.testing.assert_close(y, module(sequence, sequence, sequence)[0])
    with pytest.raises(ValueError, match="may be a nested tensor with batch_first=True"):
        module(x, torch.randn(N, S, E), torch.randn(N, S, E))


def test_dropout_is_on_weights_in_training_only():
    module, x = attention(dropout=0.5), torch.randn(N, S, E)
    plain = attention()(x, x, x)[0]
    assert (module(x, x, x)[0] - plain).abs().max() > 0.01
    torch.testing.assert_close(module(x, x, x)[1], attention()(x, x, x)[1])  # before dropout
    torch.testing.assert_close(module.eval()(x, x, x)[0], plain)


def test_state_of_a_softmax_model_is_loaded():
    softmax = nn.MultiheadAttention(E, H, batch_first=True)
    module = attention()
    outcome = module.load_state_dict(softmax.state_dict(), strict=False)
    assert outcome.unexpected_keys == []
    assert {key.partition(".")[0] for key in outcome.missing_keys} == {"pattern"}
    assert torch.equal(module.in_proj_weight, softmax.in_proj_weight)


def test_replaced_attention_keeps_parameters_modes_and_places():
    model = nn.Transformer(E, H, 1, 2, 16, batch_first=True).eval()
    model.decoder.layers[1].self_attn = model.decoder.layers[0].self_attn  # at two places
    weights = dict(model.named_parameters())
    names = replace_attention(model, S, couplings="banded", width=1)
    assert len(names) == 5
    assert all(type(model.get_submodule(n)) is BoltzmannMultiheadAttention for n in names)
    assert model.decoder.layers[1].self_attn is model.decoder.layers[0].self_attn
    after = dict(model.named_parameters())
    assert all(after[name] is weight for name, weight in weights.items())
    assert {name.split(".")[-2] for name in after.keys() - weights.keys()} == {"pattern"}
    assert not any(part.training for part in model.modules())
    with pytest.raises(ValueError, match="Argument `model` must have parts that"):
        replace_attention(model, S)
    with pytest.raises(ValueError, match="but has none: call BoltzmannMultiheadAttention"):
        replace_attention(nn.MultiheadAttention(E, H), S)


def test_copies_and_pickles():
    module, x = attention(backend="neal", num_reads=5), torch.randn(N, S, E)
    module.pattern.backend = "exact"
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x, x, x)[0], module(x, x, x)[0])


def test_meta_device_dtype_and_starting_anew():
    module = BoltzmannMultiheadAttention(E, H, context=S, device="meta", dtype=torch.float64)
    assert {(p.device.type, p.dtype) for p in module.parameters()} == {("meta", torch.float64)}
    torch.manual_seed(0)
    module.to_empty(device="cpu").reset_parameters()
    x = torch.randn(S, N, E, dtype=torch.float64)
    output, weights = module(x, x, x)
    assert (output.dtype, weights.dtype, output.isfinite().all()) == (torch.float64,) * 2 + (True,)
    assert module.in_proj_weight.std() > 0.1
    assert 0 < module.pattern.coupling_values.std() < 0.1


def test_half_precision_and_autocast():
    module, x = attention(), torch.randn(N, S, E)
    full = module(x, x, x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        output, weights = module(x, x, x)
    assert (output.dtype, weights.dtype) == (torch.bfloat16, torch.float32)
    # bfloat16 has 8 bits; projections sum 8 products of order one.
    torch.testing.assert_close(output.float(), full, atol=0.1, rtol=0.05)
    half = module.bfloat16()(*(x.bfloat16(),) * 3)[0]
    torch.testing.assert_close(half.float(), full, atol=0.1, rtol=0.05)


def test_gradients_of_masked_cross_attention():
    module = attention(dtype=torch.float64)
    query, memory = torch.randn(2, L, E).double(), torch.randn(2, S, E).double()
    padding = not_attended(2, S)

    def outcome(query, memory, J, b):
        parameters = {"pattern.coupling_values": J, "pattern.field_bias": b}
        call = (query, memory, memory, padding, False)
        return torch.func.functional_call(module, parameters, call)[0]

    values = module.pattern.coupling_values, module.pattern.field_bias
    leaves = [x.detach().requires_grad_() for x in (query, memory, *values)]
    assert torch.autograd.gradcheck(outcome, leaves, fast_mode=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embed_dim": 9}, "`embed_dim` must be a positive multiple of `num_heads` = 2, but is 9"),
        ({"context": 0}, "`context` must be positive, but is 0"),
        ({"dropout": 1.5}, "`dropout` must lie between 0 and 1, but is 1.5"),
        ({"add_bias_kv": True}, "`add_bias_kv` must be False, but is True: the key"),
        ({"add_zero_attn": True}, "`add_zero_attn` must be False, but is True: the key"),
        ({"content": True, "couplings": "banded"}, "`content` must be left out here"),
        ({"couplings": "dens"}, "`couplings` must be one of"),
        ({"beta": "critical"}, "no input on which a critical one can be found"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        BoltzmannMultiheadAttention(**{"embed_dim": E, "num_heads": H, "context": S} | options)


x = torch.zeros(N, S, E)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"query": torch.zeros(N, S, 7)}, ValueError, r"`query` must have shape \(batch, queries"),
        ({"key": torch.zeros(S, E)}, ValueError, r"`key` must have shape \(batch, keys, 8\)"),
        ({"key": torch.zeros(2, S, E), "value": torch.zeros(2, S, E)}, ValueError, "the 3 sequenc"),
        ({"value": torch.zeros(N, 2, E)}, ValueError, "as many keys and sequences as `key`"),
        ({"key": torch.zeros(N, 7, E), "value": torch.zeros(N, 7, E)}, ValueError, "at most cont"),
        ({"attn_mask": torch.zeros(2, S)}, ValueError, r"`attn_mask` must have shape \(6, 6\) or"),
        ({"attn_mask": torch.zeros(S, S).long()}, TypeError, "`attn_mask` must be boolean or flo"),
        ({"key_padding_mask": torch.zeros(S, N)}, ValueError, r"`key_padding_mask` must have sh"),
        ({"is_causal": True}, ValueError, "`attn_mask` must be given with is_causal=True"),
    ],
)
def test_wrong_inputs(arguments, error, message):
    with pytest.raises(error, match=message):
        attention()(**{"query": x, "key": x, "value": x} | arguments)
