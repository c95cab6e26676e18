"""Models of other libraries: their layers are noted while they read."""

import pytest
import torch
from _support.shown import a_model
from torch import nn

import qattn
from qattn.layers import SoftmaxAttention
from qattn.show import layers_of

TOKENS = torch.tensor([3, 1, 4, 1, 5])


def test_a_pass_is_what_it_is_without_being_watched():
    model = a_model()
    before = model(TOKENS[None])
    layers_of(model, TOKENS)
    assert torch.equal(model(TOKENS[None]), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

    class Asking(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = SoftmaxAttention(8, 2, context=5)

        def forward(self, tokens):
            x = nn.functional.one_hot(tokens, 8).float()
            output, weights = self.layer(x, need_weights=True)
            assert output.shape == (1, 5, 8)
            return self.layer(output), weights

    first, second = layers_of(Asking(), TOKENS)
    assert not torch.equal(first.weights, second.weights)


def test_reads_are_drawn_once():
    model = a_model(backend="gibbs", num_reads=10)
    drawn = []

    class Counting(qattn.Backend):
        def sample(self, batch, *, num_reads, seed=None):
            drawn.append(batch.num_queries)
            return qattn.get_backend("gibbs").sample(batch, num_reads=num_reads, seed=seed)

    for block in model.blocks:
        block.attention.backend = Counting()
    layers = layers_of(model, TOKENS)
    assert drawn == [5, 5]
    assert layers[0].source == "10 reads of Counting for each query"


def test_layers_in_the_place_of_torchs_own():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    layer.self_attn = qattn.BoltzmannMultiheadAttention(8, 2, context=6, batch_first=True)
    model = nn.Sequential(nn.Embedding(9, 8), layer).eval()
    (found,) = layers_of(model, TOKENS)
    assert torch.allclose(found.weights, found.scores.sigmoid(), atol=0.05)
    assert torch.equal(found.couplings, layer.self_attn.pattern.couplings[:, :5, :5])
    assert found.scores.isfinite().all()  # no mask: every query sees every position


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_of_hugging_face(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers", reason="pip install transformers")
    from qattn.integrations.transformers import attach

    config = transformers.LlamaConfig(
        vocab_size=9,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    patterns = attach(model, context=8, beta="learnable")
    for pattern in patterns.values():
        pattern.log_beta.data += 0.5
        pattern.coupling_values.data.zero_()
    layers = layers_of(model, TOKENS)
    attentions = model(TOKENS[None], output_attentions=True).attentions
    for layer, weights in zip(layers, attentions, strict=True):
        assert torch.equal(layer.weights, weights[0])
        alone = (layer.beta[:, None, None] * layer.scores).sigmoid()
        assert torch.allclose(layer.weights, alone, atol=1e-6)
        assert torch.equal(layer.scores > -torch.inf, torch.ones(4, 5, 5).tril().bool())
