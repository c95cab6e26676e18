"""β of the layers: a number or one for each head, in every arm and structure of couplings."""

import copy

import pytest
import torch
from _support.layers import layer_and_input

from qattn import BoltzmannAttention, SigmoidAttention, exact
from qattn.layers import ATTENTION
from qattn.layers.beta import check_setting

BETA_OF_HEADS = (1.6, 0.7)

ARMS = {
    "softmax": ("softmax", {}),
    "softmax, bias": ("softmax", {"position_bias": "relative"}),
    "sigmoid": ("sigmoid", {"normalize": True}),
    "boltzmann": ("boltzmann", {"position_bias": "absolute"}),
    "banded": ("boltzmann", {"couplings": "banded", "content": True, "normalize": True}),
    "low rank": ("boltzmann", {"couplings": "low_rank"}),
    "block": ("boltzmann", {"couplings": "block", "block_size": 3}),
    "field": ("boltzmann", {"interaction": "field"}),
    "couplings": ("couplings", {}),
    "cardinality": ("cardinality", {}),
}


def pair(name, **more):
    """A layer with a learnable β, and one of the same weights with a fixed one."""
    arm, options = ARMS[name]
    layer, x = layer_and_input(arm, beta="learnable", **options, **more)
    with torch.no_grad():
        for own, value in layer.named_parameters():
            if own == "position_bias_values":
                value.normal_()
        layer.log_beta.copy_(torch.tensor(BETA_OF_HEADS).log())
    fixed = ATTENTION[arm](8, 2, 6, **options, **more)
    assert fixed.load_state_dict(layer.state_dict(), strict=False).unexpected_keys == ["log_beta"]
    return layer, fixed, x


@pytest.mark.parametrize("name", ARMS)
def test_each_head_has_its_own_beta(name):
    layer, fixed, x = pair(name)
    weights = layer.weights(x)
    for head, beta in enumerate(BETA_OF_HEADS):
        fixed.beta = beta
        torch.testing.assert_close(weights[:, head], fixed.weights(x)[:, head])
        assert (weights[:, 1 - head] - fixed.weights(x)[:, 1 - head]).abs().max() > 1e-4
    layer.beta = fixed.beta = 1.3  # the same number for all heads
    torch.testing.assert_close(layer(x), fixed(x))
    # What attends and what shows the weights agree.
    value = layer._heads(x)[2]
    heads = (layer.weights(x) @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(x), layer.out(heads))


@pytest.mark.parametrize("name", ARMS)
def test_gradient_in_log_beta(name):
    layer, _, x = pair(name)
    layer, x = layer.double(), x.double()
    others = {k: v.detach() for k, v in layer.named_parameters() if k != "log_beta"}

    def output(log_beta):
        return torch.func.functional_call(layer, others | {"log_beta": log_beta}, (x[:1],))

    start = layer.log_beta.detach().requires_grad_()
    # All engines of structured couplings have a backward pass of their own.
    assert torch.autograd.gradcheck(output, start, atol=1e-6, fast_mode=True)


def test_beta_multiplies_scores_with_their_biases():
    layer, fixed, x = pair("softmax, bias")
    scores = layer.scores(x)
    assert torch.equal(scores, fixed.scores(x))  # before β
    beta = torch.tensor(BETA_OF_HEADS).view(2, 1, 1)
    torch.testing.assert_close(layer.weights(x), (beta * scores).softmax(-1))
    layer, _, x = pair("sigmoid")
    weights = (beta * layer.scores(x)).sigmoid()
    torch.testing.assert_close(layer.weights(x), weights / weights.sum(-1, keepdim=True))


def test_ising_models_carry_the_beta_of_their_heads():
    layer, _, x = pair("boltzmann")
    torch.testing.assert_close(layer.ising_batch(x).beta, torch.tensor(BETA_OF_HEADS))
    by_content, _, x = pair("banded")
    batch = by_content.ising_batch(x)  # a group is a head of a sequence
    torch.testing.assert_close(batch.beta, torch.tensor(BETA_OF_HEADS * 3))


@pytest.mark.parametrize("estimator", ["callen", "moment"])
def test_reads_are_drawn_at_the_beta_of_their_heads(estimator):
    layer, _, x = pair("boltzmann", estimator=estimator, num_reads=4000)
    solved = copy.deepcopy(layer)
    solved.estimator = None
    torch.manual_seed(1)
    off = (layer.weights(x) - solved.weights(x)).abs()
    # 5 standard errors of an even coin; 126 weights, a false alarm in 15,000.
    bound = 5 * 0.5 / 4000**0.5
    assert off.max() < bound
    assert (layer.weights(x).flip(1) - solved.weights(x)).abs().max() > bound
    layer.weights(x).square().sum().backward()
    assert (layer.log_beta.grad.abs() > 0).all()


def test_half_precision_and_autocast_keep_their_dtypes():
    for name in ("softmax", "softmax, bias", "boltzmann"):
        layer, _, x = pair(name)
        expected = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(layer(x).float(), expected, atol=0.03, rtol=0.03)
        half = layer.bfloat16()(x.bfloat16())
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), expected, atol=0.03, rtol=0.03)


def test_a_beta_that_is_not_fixed_starts_at_one_and_starts_again_there():
    for beta in ("learnable", "critical", "critical-tracked"):
        layer = BoltzmannAttention(8, 2, 6, beta=beta)
        assert layer.log_beta.requires_grad == (beta == "learnable")
        assert layer.beta.tolist() == [1.0, 1.0]
        layer.beta = 3.0
        assert layer.beta.tolist() == pytest.approx([3.0, 3.0])
        layer.reset_parameters()
        assert layer.beta.tolist() == [1.0, 1.0]
        assert f", beta={beta!r}" in repr(layer)
    assert ", beta=0.5" in repr(SigmoidAttention(8, 2, 6, beta=0.5))
    assert "log_beta" not in BoltzmannAttention(8, 2, 6, beta=2.0).state_dict()


@pytest.mark.parametrize(
    ("arm", "beta", "message"),
    [
        ("softmax", -1.0, "`beta` must be finite and not negative, but is -1.0"),
        ("sigmoid", "critical", "'learnable' for SigmoidAttention, but is 'critical': it has no"),
        ("sigmoid", "critical-tracked", "its positions are independent of each other"),
    ],
)
def test_a_beta_that_a_layer_cannot_have_is_refused(arm, beta, message):
    with pytest.raises(ValueError, match=message):
        ATTENTION[arm](8, 2, 6, beta=beta)


def test_the_critical_beta_of_softmax_is_at_the_peak_of_its_heat_capacity():
    layer, x = layer_and_input("softmax", beta="critical", position_bias="relative")
    x = x.repeat(4, 1, 1)
    with torch.no_grad():
        layer.position_bias_values.normal_()
    assert layer.set_critical_beta(x).all()
    found = layer.beta
    # C/n = β² Var(z)/n averaged over queries of two or more positions, on a fine grid of its own.
    betas = torch.linspace(0.1, 15.0, 1000)
    z = layer.scores(x)[:, :, 1:]
    size = (z > -torch.inf).sum(-1)
    capacities = torch.stack(
        [
            ((beta**2 * (p * (w - (p * w).sum(-1, keepdim=True)) ** 2).sum(-1)) / size).mean((0, 2))
            for beta in betas
            for p, w in [((beta * z).softmax(-1), z.nan_to_num(neginf=0.0))]
        ]
    )
    peak = betas[capacities.argmax(0)]
    # β of the layer is a parabola's through points √2 apart.
    torch.testing.assert_close(found.log(), peak.log(), atol=0.1, rtol=0)
    assert (found[0] / found[1]).log().abs() > 0.01
    # It is that of the scores before β: again it is the same, whatever β is by then.
    layer.beta = 0.3
    layer.set_critical_beta(x)
    torch.testing.assert_close(layer.beta, found)


def test_the_critical_beta_of_ising_models_is_at_the_peak_of_the_spin_glass_susceptibility():
    layer, x = layer_and_input("boltzmann", beta="critical-tracked", constraint="non-negative")
    with torch.no_grad():
        layer.qkv.weight.zero_()
        layer.qkv.bias.zero_()
        layer.field_bias.fill_(0.05)
        layer.coupling_values.copy_(torch.tensor([[0.1], [0.0]]).expand(2, 15))
    # Ferromagnets in a weak field order in one piece, and then in its direction. Without couplings
    # there is no peak, and β stays.
    layer.beta = 1.5
    assert layer.set_critical_beta(x).tolist() == [True, False]
    assert layer.beta[1].item() == pytest.approx(1.5)

    def susceptibility(beta):
        layer.beta = beta
        batch = layer.ising_batch(x[:1])  # queries by position
        mean = exact.mean_spins(batch)
        covariances = exact.pair_correlations(batch) - mean.unsqueeze(-1) * mean.unsqueeze(-2)
        squares = covariances.square() * (1 - torch.eye(6))
        return (squares.sum((2, 3))[0, 1:] / torch.arange(2, 7)).mean().item()

    peak = layer.beta[0].item()
    around = [susceptibility(peak * factor) for factor in (0.8, 1.0, 1.25)]
    assert around[1] > max(around[0], around[2])


def test_what_cannot_be_set_is_refused():
    with pytest.raises(ValueError, match="must be a number or one of 'learnable', 'critical', 'cr"):
        check_setting("crtical", "a layer", has_transition=True)
    layer, x = layer_and_input("boltzmann", beta="learnable")
    with pytest.raises(ValueError, match="`beta` must be positive where it is learnable, but is 0"):
        layer.beta = 0.0
    with pytest.raises(TypeError, match=r"'critical', 'critical-tracked' to be .* 'learnable'"):
        layer.set_critical_beta(x)
