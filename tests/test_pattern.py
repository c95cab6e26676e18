"""Couplings, biases and β for queries and keys of another module."""

import copy
import pickle

import pytest
import torch
from _support.layers import layer_and_input

from qattn import boltzmann_attention, boltzmann_weights
from qattn.layers import IsingPattern

B, H, Q, T, D = 3, 2, 4, 6, 4
STRUCTURES = {
    "dense": {},
    "banded": {"width": 2, "relative": True},
    "low_rank": {"sign": -1},
    "block": {"block_size": 3},
    "cardinality": {"max_count": 4},
}


def pattern(**options):
    """One whose parameters are strong enough to matter."""
    torch.manual_seed(0)
    made = IsingPattern(H, T, **options)
    for values in made.parameters():
        torch.nn.init.normal_(values, std=0.5)
    return made


def heads(queries=Q, positions=T, groups=H):
    torch.manual_seed(1)
    return torch.randn(B, H, queries, D), *torch.randn(2, B, groups, positions, D)


@pytest.mark.parametrize("couplings", STRUCTURES)
@pytest.mark.parametrize("settings", [{}, {"normalize": True, "beta": 0.7}])
def test_it_is_the_function_with_parameters(couplings, settings):
    made = pattern(couplings=couplings, **STRUCTURES[couplings], **settings)
    query, key, value = heads()
    J, b = made.couplings, made.field_bias
    mask = torch.ones(Q, T, dtype=torch.bool)
    mask[:, 1] = False
    for options in ({}, {"attn_mask": mask}, {"is_causal": True}, {"scale": 0.3}):
        output, weights = made(query, key, value, **options)
        call = settings | {"field_bias": b, "couplings": J} | options
        torch.testing.assert_close(output, boltzmann_attention(query, key, value, **call))
        torch.testing.assert_close(weights, boltzmann_weights(query, key, **call))
    assert torch.autograd.grad(output.sum(), made.coupling_values)[0].abs().max() > 0.01


def test_it_is_a_layer_without_projections():
    layer, x = layer_and_input("boltzmann", beta="learnable", position_bias="relative")
    torch.nn.init.normal_(layer.position_bias_values)
    torch.nn.init.normal_(layer.log_beta)
    made = IsingPattern(2, 6, beta="learnable", position_bias="relative")
    outcome = made.load_state_dict(layer.state_dict(), strict=False)
    assert outcome.missing_keys == []
    output, weights = made(*layer._heads(x), is_causal=True)
    torch.testing.assert_close(weights, layer.weights(x))
    torch.testing.assert_close(layer.out(output.transpose(1, 2).flatten(2)), layer(x))


def test_one_shorter_sequence_has_the_first_rows():
    made = pattern()
    query, key, value = heads(positions=4)
    J = made.couplings[:, :4, :4]
    expected = boltzmann_attention(query, key, value, J, field_bias=made.field_bias)
    torch.testing.assert_close(made(query, key, value)[0], expected)


def test_fewer_heads_of_keys():
    made = pattern()
    query, key, value = heads(groups=1)
    output, weights = made(query, key, value)
    whole = made(query, key.expand(-1, H, -1, -1), value.expand(-1, H, -1, -1))
    torch.testing.assert_close((output, weights), whole)


@pytest.mark.parametrize("written", ["booleans", "numbers", "lowest numbers"])
def test_position_bias_goes_by_rows(written):
    """Left padding: each sequence has its keys, and the query, elsewhere."""
    made = pattern(position_bias="relative")
    query, key, value = heads(queries=T)
    padding = torch.tensor([0, 1, 3])
    rows = (torch.arange(T) - padding[:, None]).clamp(min=0)
    mask = (torch.arange(T) >= padding[:, None])[:, None, None] & torch.ones(T, T).tril().bool()
    if written != "booleans":
        absent = -torch.inf if written == "numbers" else torch.finfo(torch.float32).min
        mask = torch.zeros(mask.shape).masked_fill(~mask, absent)
    output, weights = made(query, key, value, mask, rows=rows, query_rows=rows)
    for n, start in enumerate(padding.tolist()):
        inputs = [x[n : n + 1, :, start:] for x in (query, key, value)]
        alone = made(*inputs, is_causal=True)
        torch.testing.assert_close(output[n, :, start:], alone[0][0])
        torch.testing.assert_close(weights[n, :, start:, start:], alone[1][0])
    # Without the query's rows they count as the last positions, here the same.
    torch.testing.assert_close(made(query, key, value, mask, rows=rows)[1], weights)
    # Negative control: biases by place, and not by row, are others.
    by_place = made(query, key, value, mask, rows=rows, query_rows=torch.arange(T))[1]
    assert (by_place - weights).abs().max() > 0.01


def test_queries_of_another_sequence_have_rows():
    made = pattern(position_bias="relative")
    query, key, value = heads(queries=T, positions=4)
    distance = (torch.arange(T)[:, None] - torch.arange(4)).abs()
    options = {"couplings": made.couplings[:, :4, :4], "field_bias": made.field_bias}
    bias = made.position_bias_values[:, distance]
    expected = boltzmann_weights(query, key, position_bias=bias, **options)
    _, weights = made(query, key, value, query_rows=torch.arange(T))
    torch.testing.assert_close(weights, expected)
    with pytest.raises(ValueError, match="`query_rows` must be given for the position bias of mor"):
        made(query, key, value)
    far = made(query, key, value, query_rows=torch.arange(T) + 50)[1]
    assert far.isfinite().all()  # as the largest distance


def test_queries_one_by_one_are_those_of_the_whole():
    made = pattern(position_bias="relative", couplings="banded", width=2)
    query, key, value = heads(queries=T)
    whole = made(query, key, value, is_causal=True)[0]
    for t in range(T):
        seen = key[:, :, : t + 1], value[:, :, : t + 1]
        one = made(query[:, :, t : t + 1], *seen, is_causal=True)[0]
        torch.testing.assert_close(one, whole[:, :, t : t + 1])


def test_reads_of_a_backend_and_what_it_says():
    made = pattern(backend="neal", num_reads=500)
    weights = made(*heads())[1]
    assert made.last_info
    made.backend = "exact"
    expected = made(*heads())[1]
    assert made.last_info == {}
    # A read's occupation has a standard deviation of 1/2 at most.
    bound = 5 * 0.5 / 500**0.5
    assert 0 < (weights - expected).abs().max() < bound
    made.coupling_values.data.zero_()
    assert (made(*heads())[1] - weights).abs().max() > bound  # negative control


def test_dropout_is_of_the_output_alone():
    made, inputs = pattern(), heads()
    output, weights = made(*inputs)
    dropped, same = made(*inputs, dropout_p=1.0)
    assert dropped.abs().max() == 0
    assert torch.equal(same, weights)
    # Its mean is the output: a weight that is kept or dropped has the variance w², and 300 passes
    # a standard error of √(Σ w²v² / 300).
    torch.manual_seed(0)
    with torch.no_grad():
        mean = torch.stack([made(*inputs, dropout_p=0.5)[0] for _ in range(300)]).mean(0)
        error = (weights**2 @ inputs[2] ** 2 / 300).sqrt()
    assert ((mean - output).abs() <= 5 * error).all()
    assert ((mean / 2 - output).abs() > 5 * error).any()  # negative control: not scaled up


def test_copies_pickles_meta_device_and_starting_anew():
    made = pattern(backend="neal", num_reads=3)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other(*heads())[1].shape == (B, H, Q, T)
        assert repr(other) == repr(made)
        other.backend = made.backend = "exact"
        assert torch.equal(other(*heads())[1], made(*heads())[1])
        made.backend = "neal"
    meta = IsingPattern(
        H, T, beta="learnable", position_bias="relative", device="meta", dtype=torch.float64
    )
    assert {(p.device.type, p.dtype) for p in meta.parameters()} == {("meta", torch.float64)}
    anew = meta.to_empty(device="cpu")
    anew.reset_parameters()
    started = IsingPattern(H, T, beta="learnable", position_bias="relative")
    for (name, values), at_first in zip(anew.named_parameters(), started.parameters(), strict=True):
        if "coupling" in name:
            assert 0 < values.std() < 0.1
        else:
            torch.testing.assert_close(values, at_first.double())


def test_half_precision_computes_in_single():
    made = pattern().bfloat16()
    query, key, value = (x.bfloat16() for x in heads())
    output, weights = made(query, key, value)
    assert (output.dtype, weights.dtype) == (torch.bfloat16, torch.float32)
    single = made.float()(query.float(), key.float(), value.float())[1]
    assert torch.equal(weights, single)


def test_beta_is_learned():
    made = pattern(beta="learnable")
    made(*heads())[0].square().sum().backward()
    assert made.log_beta.grad.abs().min() > 0
    assert "beta='learnable'" in repr(made)
    assert not hasattr(made, "set_critical_beta")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_heads": 0}, ValueError, "`num_heads` must be positive, but is 0"),
        ({"context": -1}, ValueError, "`context` must be positive, but is -1"),
        ({"beta": "critical"}, ValueError, "but is 'critical': it is given queries and keys, and"),
        ({"beta": -1.0}, ValueError, "`beta` must"),
        ({"position_bias": "absolute"}, ValueError, "must be 'none' or 'relative' here"),
        ({"position_bias": "rel"}, ValueError, "`position_bias` must be one of"),
        ({"couplings": "low_rank", "content": True}, ValueError, "Take BoltzmannAttention"),
        ({"width": 3}, ValueError, "`width` must be left out for couplings = 'dense'"),
        ({"widht": 3}, TypeError, "There is no argument `widht`"),
        ({"moments": "tap", "backend": "neal"}, ValueError, "`moments` must be 'exact' with"),
    ],
)
def test_wrong_arguments(options, error, message):
    with pytest.raises(error, match=message):
        IsingPattern(**{"num_heads": H, "context": T} | options)


def test_wrong_inputs():
    made = pattern()
    query, key, value = heads()
    with pytest.raises(ValueError, match=r"`query` must have shape \(batch, num_heads = 2, qu"):
        made(query[:, :1], key, value)
    longer = torch.randn(B, H, T + 1, D)
    with pytest.raises(
        ValueError, match="`key` must have at most context = 6 positions, but has 7"
    ):
        made(query, longer, longer)
