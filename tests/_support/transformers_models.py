"""Tiny models of transformers, and their attention computed in ways that share no code with ours.

The reference functions are registered as attention implementations of their own, with the masks
that transformers' eager attention gets: what they compute differs from ours in everything but the
queries, keys and values.
"""

import torch
from _support.brute_force import all_states
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
)
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from qattn.integrations.transformers import attach, patterns
from qattn.integrations.transformers.attach import set_implementation

VOCAB, CONTEXT = 20, 12
WORDS = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
LLAMA = {
    **WORDS,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 16,
    "max_position_embeddings": CONTEXT,
}
CONFIGS = {
    "gpt2": lambda: GPT2Config(**WORDS, n_layer=2, n_head=2, n_embd=16, n_positions=CONTEXT),
    "llama": lambda: LlamaConfig(**LLAMA, num_key_value_heads=2),
    "mistral": lambda: MistralConfig(**LLAMA, num_key_value_heads=2, sliding_window=3),
}
STRUCTURES = {
    "dense": {"couplings": "dense"},
    "banded": {"couplings": "banded", "width": 2},
    "rank-1": {"couplings": "low_rank"},
}


def plain_model(name="gpt2", seed=0):
    """A model with random weights that are large enough for attention to matter."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def coupled_model(name="gpt2", structure="dense", seed=0, context=CONTEXT, **options):
    """One with couplings of order 1, and fields around 0."""
    model = plain_model(name, seed)
    for pattern in attach(model, context, **STRUCTURES[structure], **options).values():
        torch.nn.init.normal_(pattern.coupling_values, std=0.6)
        torch.nn.init.normal_(pattern.field_bias, std=0.5)
    return model


def tokens(batch=2, length=6, seed=1):
    return torch.randint(1, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


def left_padded(short, long):
    """Two texts of different lengths as one batch, and its mask."""
    missing = long.shape[1] - short.shape[1]
    mask = torch.ones(2, long.shape[1], dtype=torch.long)
    mask[0, :missing] = 0
    return torch.cat([torch.nn.functional.pad(short, (missing, 0)), long]), mask


def with_implementation(model, name, function):
    """Register an attention function with the mask of eager attention, for the model to call."""
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, eager_mask)
    set_implementation(model, name)


def scores(module, query, key, scaling):
    """q·k/√d + b with keys repeated for groups of heads."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return query @ key.mT * scaling + module.boltzmann.field_bias[:, None, None]


def output(query, value, weights):
    value = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def sigmoid_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    seen = attention_mask[..., : key.shape[2]] == 0
    weights = scores(module, query, key, scaling).sigmoid() * seen
    return output(query, value, weights)


def enumerated_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Each query's model by a sum over its states; rows of J count the positions that it sees."""
    J = module.boltzmann.couplings
    J = (J if isinstance(J, torch.Tensor) else J.dense()).detach().double()
    fields = scores(module, query, key, scaling).double() / 2
    weights = torch.zeros_like(fields)
    for b, h, q in torch.cartesian_prod(*map(torch.arange, fields.shape[:3])).tolist():
        seen = (attention_mask[b, 0, q, : key.shape[2]] == 0).nonzero().flatten()
        states = all_states(len(seen))
        own = J[h, : len(seen), : len(seen)].triu(1)
        p = (states @ fields[b, h, q, seen] + ((states @ own) * states).sum(-1)).softmax(0)
        weights[b, h, q, seen] = (1 + p @ states) / 2
    return output(query, value, weights.to(value.dtype))


def zero_couplings(model):
    with torch.no_grad():
        for pattern in patterns(model).values():
            pattern.coupling_values.zero_()
