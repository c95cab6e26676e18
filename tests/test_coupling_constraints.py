"""Couplings that are held to a sign or frozen, and where they start."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn.couplings import Couplings
from qattn.layers import BoltzmannAttention, CouplingsAttention, SigmoidAttention
from qattn.training import Learner, TrainConfig
from qattn.transformer import Transformer

STRUCTURES = [
    {},
    {"relative": True},
    {"couplings": "banded", "width": 2},
    {"couplings": "banded", "width": 2, "relative": True, "content": True},
    {"couplings": "block", "block_size": 3},
]
SIGNS = {"non-negative": 1, "non-positive": -1}
SMALL = {"context": 4, "layers": 1, "heads": 2, "width": 8, "batch_size": 4, "warmup": 1, "lr": 0.1}


def matrix(layer, x):
    J = layer.couplings_of(x)
    return J.dense() if isinstance(J, Couplings) else J


@pytest.mark.parametrize("options", STRUCTURES)
@pytest.mark.parametrize("constraint", SIGNS)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([0.0, 1e-30, 0.1, 3.0]))
def test_no_step_takes_couplings_to_the_other_sign(options, constraint, seed, size):
    torch.manual_seed(seed)
    layer = BoltzmannAttention(8, 2, 6, constraint=constraint, **options)
    x = torch.randn(1, 6, 8)
    optimizer = torch.optim.SGD(layer.parameters(), lr=size, weight_decay=0.1)
    for _ in range(3):
        J = matrix(layer, x)
        assert (J * SIGNS[constraint] >= 0).all()
        assert torch.equal(J, J.mT)
        assert (J.diagonal(0, 1, 2) == 0).all()
        loss = (J * torch.randn_like(J)).sum()  # pushes entries either way
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("constraint", SIGNS)
def test_gradients_are_those_of_the_size_and_do_not_vanish_at_zero(constraint):
    layer = BoltzmannAttention(8, 2, 4, constraint=constraint).double()
    value = torch.tensor([[0.4, -0.3, 0.2, -0.1, 0.5, 0.6]] * 2, dtype=torch.float64)

    def J_of(values):
        return layer.structure.couplings({"coupling_values": values}, None, 4)

    assert torch.autograd.gradcheck(J_of, value.requires_grad_())
    zero = torch.zeros(2, 6, requires_grad=True)
    J_of(zero)[:, 0, 1].sum().backward()
    assert torch.equal(zero.grad[:, 0], torch.full((2,), float(SIGNS[constraint])))


def test_a_constraint_changes_the_sign_of_the_start_alone():
    """The same numbers are drawn: the other weights are those of the free layer's seed."""
    layers = {}
    for constraint in (None, *SIGNS, "frozen"):
        torch.manual_seed(5)
        layers[constraint] = BoltzmannAttention(8, 2, 6, constraint=constraint)
    free = layers[None]
    for constraint, layer in layers.items():
        for name, value in layer.named_parameters():
            assert torch.equal(value, free.get_parameter(name))
        sign = SIGNS.get(constraint)
        expected = free.couplings if sign is None else sign * free.couplings.abs()
        assert torch.equal(layer.couplings, expected)


def test_a_free_layers_weights_go_into_a_constrained_one_and_back():
    free, held = BoltzmannAttention(8, 2, 6), BoltzmannAttention(8, 2, 6, constraint="non-negative")
    held.load_state_dict(free.state_dict())
    assert torch.equal(held.couplings, free.couplings.abs())
    free.load_state_dict(held.state_dict())


def test_std_of_the_start():
    # An estimate of the standard deviation σ from n numbers has the standard error σ/sqrt(2n).
    for std in (None, 0.5):
        for options in ({}, {"couplings": "banded", "width": 8}, {"couplings": "block"}):
            torch.manual_seed(0)
            values = BoltzmannAttention(8, 8, 48, std=std, **options).coupling_values
            expected = std or 0.02
            bound = 5 * expected / (2 * values.numel()) ** 0.5
            assert abs(float(values.detach().std()) - expected) < bound
            assert abs(float(values.detach().std()) - 1.5 * expected) > bound


def test_frozen_at_zero_is_sigmoid_attention():
    torch.manual_seed(0)
    layer = BoltzmannAttention(8, 2, 6, constraint="frozen", std=0.0)
    sigmoid = SigmoidAttention(8, 2, 6)
    sigmoid.load_state_dict(layer.state_dict(), strict=False)
    x = torch.randn(3, 6, 8)
    torch.testing.assert_close(layer(x), sigmoid(x))


@pytest.mark.parametrize("arm", ["boltzmann", "couplings"])
def test_frozen_couplings_of_each_member_stay_as_they_start(arm):
    config = TrainConfig(
        **SMALL, attention=arm, ensemble=3, weight_decay=0.5, coupling_constraint="frozen",
        coupling_std=0.3,
    )  # fmt: skip
    learner = Learner(config)
    (name,) = (k for k in learner.parameters if k.endswith("coupling_values"))
    start = {k: v.detach().clone() for k, v in learner.parameters.items()}
    for number in range(3):
        learner.step(number)
    assert torch.equal(learner.parameters[name], start[name])
    assert not torch.equal(start[name][0], start[name][1])
    moved = {k for k, v in learner.parameters.items() if not torch.equal(v, start[k])}
    unused = {k for k in start if arm == "couplings" and "norm" not in k and "qkv" in k}
    assert moved | unused >= start.keys() - {name}
    assert name in learner.state_dict()["parameters"]
    assert learner.exact_gradient(3).shape == (3, sum(v[0].numel() for v in start.values()) - 12)


def test_frozen_couplings_need_a_seed_and_no_gradient():
    layer = CouplingsAttention(8, 2, 6, constraint="frozen", std=0.3)
    layer(torch.randn(2, 6, 8)).square().sum().backward()
    assert layer.coupling_values.grad is None
    assert layer.field_bias.grad.abs().max() > 0
    before = layer.coupling_values.clone()
    layer.reset_parameters()
    assert not torch.equal(before, layer.coupling_values)


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"constraint": "positive"}, "`constraint` must be one of 'non-negative', 'non-positive'"),
        ({"couplings": "low_rank", "constraint": "frozen"}, "`constraint` must be left out for"),
        ({"couplings": "cardinality", "std": 0.1}, "it is for 'dense' and 'banded' and 'block'"),
        ({"std": -0.1}, "`std` must be a finite number from 0 on, but is -0.1"),
        ({"std": float("inf")}, "`std` must be a finite number"),
        (
            {"couplings": "banded", "constraint": "frozen", "content": True},
            "`content` must be left out where constraint is 'frozen'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BoltzmannAttention(8, 2, 6, **options)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"coupling_constraint": "up"}, "`coupling_constraint` must be one of"),
        ({"coupling_std": -1.0}, "`coupling_std` must be a finite number"),
        ({"attention": "softmax", "coupling_std": 0.1}, "`coupling_std` must be left out"),
        ({"attention": "sigmoid", "coupling_constraint": "frozen"}, "for boltzmann and couplings"),
    ],
)
def test_settings_that_do_not_fit_are_refused(chosen, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**chosen)


def test_repr_names_what_is_not_left_to_the_layer():
    layer = BoltzmannAttention(8, 2, 6, constraint="frozen", std=0.3)
    assert "constraint='frozen', std=0.3, relative=False, backend" in repr(layer)
    assert "std" not in repr(BoltzmannAttention(8, 2, 6))


def test_hidden_width_of_the_feed_forward_network():
    usual, wide = (Transformer(5, 4, embed_dim=8, num_heads=2, ffn_width=w) for w in (None, 40))
    assert usual.blocks[0].ffn[1].out_features == 32
    assert wide.blocks[0].ffn[3].in_features == 40
    assert wide(torch.zeros(1, 4, dtype=torch.int64)).shape == (1, 4, 5)
    assert Transformer(5, 4, embed_dim=8, num_heads=2, ffn=False).blocks[0].ffn is None
    for options, message in (
        ({"ffn_width": 0}, "`ffn_width` must be positive, but is 0"),
        ({"ffn_width": 8, "ffn": False}, "`ffn_width` must be left out"),
    ):
        with pytest.raises(ValueError, match=message):
            Transformer(5, 4, **options)
    for options in ({"ffn_width": 0}, {"ffn_width": 8, "ffn": False}):
        with pytest.raises(ValueError, match="`ffn_width`"):
            TrainConfig(**options)
