"""The attention function and the layers: special cases, equivalences, bad input."""

import copy
import math
import pickle
import re

import pytest
import torch
from _support.brute_force import expectations, random_couplings
from torch.nn import functional as F

from qattn import (
    Backend,
    BoltzmannAttention,
    CouplingsAttention,
    IsingBatch,
    SigmoidAttention,
    SoftmaxAttention,
    SpinSamples,
    Transformer,
    boltzmann_attention,
    boltzmann_weights,
    exact,
    get_backend,
    register_backend,
)
from qattn.backends import registry
from qattn.layers import ATTENTION


@pytest.fixture
def qkv():
    torch.manual_seed(0)
    return torch.randn(3, 2, 2, 6, 4, dtype=torch.float64).unbind(0)


@pytest.mark.parametrize("is_causal", [True, False])
def test_without_couplings_it_is_sigmoid_attention(qkv, is_causal):
    query, key, value = qkv
    bias = torch.tensor([0.3, -1.0], dtype=torch.float64)
    couplings = torch.zeros(2, 6, 6, dtype=torch.float64)
    out = boltzmann_attention(query, key, value, couplings, is_causal=is_causal, field_bias=bias)
    weights = torch.sigmoid(query @ key.mT / 2 + bias[:, None, None])
    torch.testing.assert_close(out, (weights.tril() if is_causal else weights) @ value)


@pytest.mark.parametrize("is_causal", [True, False])
def test_weights_are_those_of_the_definition(qkv, is_causal):
    query, key, _ = qkv
    J = random_couplings(2, 6, 0.7, dtype=torch.float64)
    weights = boltzmann_weights(query, key, J, is_causal=is_causal, field_bias=-1.0, beta=1.3)
    for b in range(2):
        h = (query[b] @ key[b].mT / 2 - 1.0) / 2
        lengths = torch.arange(1, 7) if is_causal else None
        batch = IsingBatch(h, J, lengths, 1.3)
        expected = (expectations(batch, h, J).mean + batch.active) / 2
        torch.testing.assert_close(weights[b], expected)


def test_cross_attention_and_normalisation(qkv):
    query, key, value = qkv
    J = random_couplings(2, 6, 0.7, dtype=torch.float64)
    out = boltzmann_attention(query[:, :, :3], key, value, J, normalize=True)
    weights = boltzmann_weights(query, key, J)[:, :, :3]
    torch.testing.assert_close(out, weights / weights.sum(-1, keepdim=True) @ value)


def test_positive_couplings_cooperate(qkv):
    # All fields positive but one: a cooperative J raises the odd one out; a wrong sign would not.
    key = torch.ones(1, 1, 6, 4, dtype=torch.float64)
    key[..., 3, :] = -0.2
    query = torch.ones(1, 1, 6, 4, dtype=torch.float64)
    J = 0.3 * (1 - torch.eye(6, dtype=torch.float64))[None]
    free, bound = (boltzmann_weights(query, key, c)[0, 0, 0, 3] for c in (0 * J, J))
    assert bound > free + 0.1


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("options", [{}, {"qk_norm": True, "normalize": True}])
def test_arms_share_an_interface(arm, is_causal, options):
    torch.manual_seed(0)
    layer = ATTENTION[arm](8, 2, 6, is_causal=is_causal, **options)
    x = torch.randn(3, 5, 8)
    weights = layer.weights(x)
    if options:
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        for head_vectors in layer._heads(x)[:2]:
            torch.testing.assert_close(head_vectors.mean(-1), torch.zeros(3, 2, 5))
    assert weights.shape[-3:] == (2, 5, 5)
    assert ((weights >= 0) & (weights <= 1)).all()
    assert layer(x).shape == (3, 5, 8)
    if is_causal:
        assert (weights.triu(1) == 0).all()
        changed = x.clone()
        changed[:, 3:] += 1.0
        torch.testing.assert_close(layer(changed)[:, :3], layer(x)[:, :3])
    layer(x).sum().backward()
    used = [k for k, p in layer.named_parameters() if p.grad is not None]
    assert ("coupling_values" in used) == (arm not in ("softmax", "sigmoid", "spin-model"))


def test_softmax_arm_is_softmax():
    torch.manual_seed(0)
    layer = SoftmaxAttention(8, 2, 5)
    x = torch.randn(3, 5, 8)
    value = layer._heads(x)[2]
    expected = layer.out((layer.weights(x) @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x), expected)
    assert torch.allclose(layer.weights(x).sum(-1), torch.ones(()))


def test_boltzmann_layer_without_couplings_is_the_sigmoid_layer():
    torch.manual_seed(0)
    boltzmann, sigmoid = BoltzmannAttention(8, 2, 6), SigmoidAttention(8, 2, 6)
    sigmoid.load_state_dict(boltzmann.state_dict(), strict=False)
    torch.nn.init.zeros_(boltzmann.coupling_values)
    x = torch.randn(3, 6, 8)
    torch.testing.assert_close(boltzmann(x), sigmoid(x))
    assert boltzmann.field_bias.tolist() == pytest.approx([-math.log(6)] * 2)


def test_relative_couplings_equal_the_full_ones_with_the_same_entries():
    torch.manual_seed(0)
    relative = BoltzmannAttention(8, 2, 6, relative=True)
    torch.nn.init.normal_(relative.coupling_values)
    full = BoltzmannAttention(8, 2, 6)
    full.load_state_dict(relative.state_dict() | {"coupling_values": full.coupling_values})
    row, col = torch.triu_indices(6, 6, 1)
    with torch.no_grad():
        full.coupling_values.copy_(relative.coupling_values[:, col - row - 1])
    assert torch.equal(full.couplings, relative.couplings)
    x = torch.randn(3, 6, 8)
    assert torch.equal(full(x), relative(x))


def test_no_optimiser_step_makes_couplings_asymmetric():
    torch.manual_seed(0)
    layer = BoltzmannAttention(8, 2, 6)
    optimizer = torch.optim.SGD(layer.parameters(), lr=10.0)
    before = layer.couplings.detach().clone()
    layer(torch.randn(3, 6, 8)).square().sum().backward()
    optimizer.step()
    J = layer.couplings
    assert not torch.equal(J, before)
    assert torch.equal(J, J.mT)
    assert (J.diagonal(dim1=-2, dim2=-1) == 0).all()


def test_couplings_arm_is_the_same_for_every_input():
    torch.manual_seed(0)
    layer = CouplingsAttention(8, 2, 6)
    torch.testing.assert_close(
        layer.weights(torch.randn(1, 6, 8)), layer.weights(torch.randn(1, 6, 8))
    )


def test_training_starts_in_the_paramagnetic_phase():
    torch.manual_seed(0)
    layer = BoltzmannAttention(64, 4, 20)
    # A dense random model freezes at sd 1/√context; start an order of magnitude below.
    assert layer.couplings.std() < 0.1 / math.sqrt(20) * 1.2
    weights = layer.weights(torch.randn(8, 20, 64))
    assert 0.3 < weights[:, :, -1].sum(-1).mean() < 3.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.zeros(6, 4)}, "`query` must have shape"),
        ({"key": torch.zeros(2, 2, 6, 3)}, "`key` must have shape"),
        ({"value": torch.zeros(2, 2, 5, 4)}, "`value` must have shape"),
        ({"couplings": torch.zeros(2, 5, 5)}, r"`couplings` must have shape .*\(2, 6, 6\)"),
        ({"couplings": torch.ones(2, 6, 6).triu(1)}, "must be symmetric"),
        ({"couplings": torch.full((2, 6, 6), torch.nan)}, "must be finite"),
        ({"query": torch.zeros(2, 2, 7, 4), "is_causal": True}, "pass is_causal=False"),
        ({"backend": "exactly"}, "did you mean 'exact'"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_bad_input(change, message):
    arguments = {
        "query": torch.zeros(2, 2, 6, 4),
        "key": torch.zeros(2, 2, 6, 4),
        "value": torch.zeros(2, 2, 6, 4),
        "couplings": torch.zeros(2, 6, 6),
    }
    with pytest.raises(ValueError, match=message):
        boltzmann_attention(**(arguments | change))


def test_bad_sizes():
    with pytest.raises(ValueError, match="multiple of `num_heads` = 3, but is 8"):
        BoltzmannAttention(8, 3, 6)
    with pytest.raises(ValueError, match="`context` must be positive, but is 0"):
        BoltzmannAttention(8, 2, 0)
    with pytest.raises(ValueError, match="`attention` must be one of boltzmann, softmax"):
        Transformer(5, 6, attention="linear")


@pytest.mark.parametrize("arm", ATTENTION)
def test_transformer_is_causal_and_learns_from_every_parameter(arm):
    torch.manual_seed(0)
    model = Transformer(7, 6, attention=arm, embed_dim=8, num_heads=2)
    tokens = torch.randint(7, (4, 6))
    changed = tokens.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 7
    torch.testing.assert_close(model(changed)[:, :4], model(tokens)[:, :4])
    F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert len(model.attention_weights(tokens)) == 2


class Reporter(Backend):
    """Exact reads, numbered in their info."""

    def __init__(self):
        self.calls = 0

    def sample(self, batch, *, num_reads, seed=None):
        self.calls += 1
        samples = exact.sample(batch, num_reads, seed)
        return SpinSamples(samples.spins, samples.weights, {"call": self.calls})


@pytest.fixture
def reporters(monkeypatch):
    """The backends made under the name "reporter", in order."""
    made = []

    def factory():
        made.append(Reporter())
        return made[-1]

    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    register_backend("reporter", factory)
    return made


def test_backend_of_a_layer_is_made_once_and_its_info_kept(reporters):
    layer = BoltzmannAttention(8, 2, 6, backend="reporter", num_reads=4)
    assert layer.last_info == {}
    for call in (1, 2, 3):
        layer(torch.randn(2, 6, 8))
        assert layer.last_info == {"call": call}
    assert [r.calls for r in reporters] == [3]
    assert layer.backend is reporters[0]
    layer.backend = "exact"
    layer(torch.randn(2, 6, 8))
    assert (layer.backend, layer.last_info) == ("exact", {})
    assert [r.calls for r in reporters] == [3]


def test_info_of_reads_survives_vmap():
    layer, backend = BoltzmannAttention(8, 2, 6, num_reads=4), Reporter()
    layer.backend = backend
    out = torch.func.vmap(layer, randomness="different")(torch.randn(3, 2, 6, 8))
    assert out.shape == (3, 2, 6, 8)
    assert layer.last_info == {"call": 1}


@pytest.mark.slow  # compilation takes half a minute
@pytest.mark.filterwarnings("default")  # of torch, about calls that it does not compile
@pytest.mark.usefixtures("as_users_call")
def test_info_of_reads_survives_compilation():
    layer = BoltzmannAttention(8, 2, 6, backend=Reporter(), num_reads=4)
    compiled = torch.compile(layer, backend="eager")
    for call in (1, 2):
        compiled(torch.randn(2, 6, 8)).sum().backward()
        assert layer.last_info == {"call": call}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copy_of_a_layer_makes_its_own_backend(reporters, copied):
    layer = BoltzmannAttention(8, 2, 6, backend="reporter", num_reads=4)
    x = torch.randn(2, 6, 8)
    layer(x)
    other = copied(layer)
    assert len(reporters) == 1  # so that it loads where the backend cannot be made
    assert other.last_info == {}
    other(x)
    assert [r.calls for r in reporters] == [1, 1]
    assert set(layer.state_dict()) == set(BoltzmannAttention(8, 2, 6).state_dict())
    given = BoltzmannAttention(8, 2, 6, backend=Reporter())
    assert isinstance(copied(given).backend, Reporter)
    assert copied(BoltzmannAttention(8, 2, 6)).backend == "exact"


def test_unknown_backend_is_refused_when_it_is_set():
    for backend in ("exact", get_backend("neal")):
        layer = BoltzmannAttention(8, 2, 6, backend=backend)
        with pytest.raises(ValueError, match="did you mean 'neal'"):
            layer.backend = "nael"
        assert layer.backend is backend


@pytest.mark.usefixtures("as_users_call")
def test_sampler_of_a_layer_is_called_backend():
    line = "Argument `sampler` of a layer is called `backend`: pass backend='neal'."
    with pytest.raises(TypeError, match=re.escape(line)):
        BoltzmannAttention(8, 2, 6, sampler="neal")
    with pytest.raises(TypeError, match=re.escape(line)):
        Transformer(5, 6, sampler="neal")
    with pytest.raises(AttributeError, match="`backend`: set that"):
        BoltzmannAttention(8, 2, 6).sampler = "neal"


@pytest.mark.parametrize("normalize", [False, True])
def test_nan_in_one_sequence_stays_there(normalize):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 3, 2, 4, 5).unbind(0)
    J = random_couplings(2, 4, 0.5)
    expected = boltzmann_attention(query, key, value, J, normalize=normalize)
    query = query.clone()
    query[1, 0, 2, 0] = torch.nan
    found = boltzmann_attention(query.requires_grad_(), key, value, J, normalize=normalize)
    assert found[1, 0, 2].isnan().all()
    for other in (0, 2):
        torch.testing.assert_close(found[other], expected[other])
    (grad,) = torch.autograd.grad(found[0].sum() + found[2].sum(), query)
    assert grad[[0, 2]].isfinite().all()
