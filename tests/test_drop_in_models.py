"""PyTorch's transformers with Boltzmann attention in place of theirs: decoders, and training."""

import pytest
import torch
from _support.drop_in import NESTED, E, H, L, N, S, attention, enumerated
from torch import nn
from torch.nn import functional as F

from qattn.layers import replace_attention


@NESTED
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_decoder_layer_equals_enumeration(training, norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerDecoderLayer(E, H, 16, 0.0, batch_first=True, norm_first=norm_first)
    layer.self_attn, layer.multihead_attn = attention(seed=1), attention(seed=2)
    layer.train(training)
    tgt, memory = torch.randn(N, L, E), torch.randn(N, S, E)
    causal = torch.ones(L, L, dtype=torch.bool).triu(1)
    padding = torch.arange(S) >= torch.tensor([S, 4, 2])[:, None]

    # The layer by its definition, with attention from sums over all states.
    def own(x):
        return enumerated(layer.self_attn, x, x, x, causal)[0].float()

    def cross(x):
        absent = padding[:, None, None]
        return enumerated(layer.multihead_attn, x, memory, memory, absent)[0].float()

    def feed_forward(x):
        return layer.linear2(F.relu(layer.linear1(x)))

    x = tgt
    parts, norms = (own, cross, feed_forward), (layer.norm1, layer.norm2, layer.norm3)
    for part, norm in zip(parts, norms, strict=True):
        x = x + part(norm(x)) if norm_first else norm(x + part(x))
    options = {"tgt_mask": causal, "tgt_is_causal": True, "memory_key_padding_mask": padding}
    with torch.set_grad_enabled(training):
        output = layer(tgt, memory, **options)
    torch.testing.assert_close(output, x, atol=1e-5, rtol=1e-5)
    layer.multihead_attn.pattern.coupling_values.data.zero_()
    assert (layer(tgt, memory, **options) - x).abs().max() > 0.01  # negative control


@NESTED
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("batch_first", [True, False])
def test_whole_transformer_in_both_modes(batch_first):
    torch.manual_seed(0)
    model = nn.Transformer(E, H, 2, 2, 16, 0.0, batch_first=batch_first)
    replace_attention(model, S, couplings="banded", width=2, std=0.5)
    src, tgt = torch.randn(N, S, E), torch.randn(N, L, E)
    padding = torch.arange(S) >= torch.tensor([S, 4, 2])[:, None]
    mask = nn.Transformer.generate_square_subsequent_mask(L)
    if not batch_first:
        src, tgt = src.transpose(0, 1), tgt.transpose(0, 1)
    options = {
        "tgt_mask": mask,
        "tgt_is_causal": True,
        "src_key_padding_mask": padding,
        "memory_key_padding_mask": padding,
    }
    trained = model(src, tgt, **options)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(src, tgt, **options), trained)


VOCAB, T = 8, 6


class Reader(nn.Module):
    """What token is marked? Read at position 0, whose own token says nothing of it."""

    def __init__(self, **options):
        super().__init__()
        self.tokens, self.marks = nn.Embedding(VOCAB, 16), nn.Embedding(2, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.read_out = nn.Linear(16, VOCAB)
        replace_attention(self.encoder, context=T, **options)
        self.attention = self.encoder.layers[0].self_attn

    def forward(self, tokens, marked):
        marks = F.one_hot(marked, T)
        return self.read_out(self.encoder(self.tokens(tokens) + self.marks(marks))[:, 0])


def loss_after_training(*, broken):
    """Mean loss on new sequences after 160 steps, and what guessing among the tokens loses.

    Broken, weights cannot depend on queries and keys: the tokens are seen, but not which is marked.
    """
    torch.manual_seed(0)
    model = Reader(std=0.1)
    start = model.attention.pattern.couplings.detach().clone()
    if broken:
        model.attention.in_proj_weight.data[:32] = 0
        model.attention.in_proj_weight.register_hook(
            lambda grad: grad.index_fill(0, torch.arange(32), 0)
        )
        model.attention.in_proj_bias.register_hook(
            lambda grad: grad.index_fill(0, torch.arange(32), 0)
        )
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(161):
        tokens = torch.randint(VOCAB, (64 if step < 160 else 2000, T))
        marked = torch.randint(1, T, (len(tokens),))
        answer = tokens.gather(1, marked[:, None]).squeeze(1)
        loss = F.cross_entropy(model(tokens, marked), answer)
        optimizer.zero_grad()
        loss.backward()
        if step < 160:
            optimizer.step()
    # The marked token is one of positions 1 to 5: the best guess is their shares.
    shares = F.one_hot(tokens[:, 1:], VOCAB).float().mean(1)
    guessing = -shares.clamp(min=1e-9).log().mul(shares).sum(1).mean()
    moved = (model.attention.pattern.couplings - start).abs().max()
    return loss.item(), guessing.item(), moved.item()


def test_an_encoder_learns_what_attention_is_needed_for():
    loss, guessing, moved = loss_after_training(broken=False)
    assert loss < 0.2 * guessing
    assert moved > 0.05  # couplings are learned too


def test_an_encoder_with_broken_attention_does_not():
    loss, guessing, _ = loss_after_training(broken=True)
    # The standard error of a mean over 2000 sequences is below 1 nat / √2000 = 0.02.
    assert loss > guessing - 0.1
