"""Text from a model: what is drawn, beyond the context, and the attention of each step."""

import math

import pytest
import torch

from qattn.transformer import Transformer, generate, stream

VOCABULARY, CONTEXT = 7, 6

MODELS = {
    "boltzmann": {"qk_norm": True},
    "banded": {"couplings": "banded", "width": 2, "relative": True},
    "rank 1 of content": {"couplings": "low_rank", "content": True},
    "softmax": {"attention": "softmax"},
    "steady state": {"attention": "spin-model", "steady_state": True},
    "both ways": {"is_causal": False},
}


def model_of(name="banded"):
    torch.manual_seed(2)
    model = Transformer(
        VOCABULARY, CONTEXT, num_heads=2, embed_dim=8, ffn_width=8, **MODELS[name]
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def by_the_definition(model, text, num_tokens):
    """The likeliest token after the last ones that fit, again and again."""
    for _ in range(num_tokens):
        with torch.no_grad():
            logits = model(text[:, -CONTEXT:])[:, -1]
        text = torch.cat([text, logits.argmax(-1, keepdim=True)], 1)
    return text


@pytest.mark.parametrize("length", [1, 4, CONTEXT, CONTEXT + 3])
@pytest.mark.parametrize("name", MODELS)
def test_greedy_text_is_that_of_whole_passes(name, length):
    # To beyond the context, from prompts shorter and longer than it.
    model, prompt = model_of(name), torch.arange(2 * length).reshape(2, length) % VOCABULARY
    found = model.generate(prompt, 8, temperature=0.0)
    assert torch.equal(found, by_the_definition(model, prompt, 8))
    assert torch.equal(found[:, :length], prompt)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.5, None), (2.0, 3), (1.0, 99)])
def test_tokens_are_drawn_with_their_probabilities(temperature, top_k):
    # 40,000 draws of the first token; z of each token's frequency: 5 sigma. Control: the
    # probabilities of another temperature.
    model, size = model_of(), 40_000
    prompt = torch.tensor([[3, 1]])
    generator = torch.Generator().manual_seed(5)
    (step,) = stream(
        model,
        prompt.expand(size, -1),
        1,
        temperature=temperature,
        top_k=top_k,
        generator=generator,
    )
    with torch.no_grad():
        logits = model(prompt)[0, -1].double()
    torch.testing.assert_close(step.logits[0].double(), logits, rtol=0, atol=1e-5)
    if top_k is not None and top_k < VOCABULARY:
        logits[logits < logits.sort(descending=True).values[top_k - 1]] = -torch.inf
    frequencies = step.token.bincount(minlength=VOCABULARY) / size
    distances = []
    for T in (temperature, 1.3 * temperature):
        p = (logits / T).softmax(-1)
        assert bool((frequencies[p == 0] == 0).all())
        error = (p * (1 - p) / size).sqrt()
        distances.append(float(((frequencies - p).abs()[p > 0] / error[p > 0]).max()))
    assert distances[0] < 5 < distances[1]


def test_a_seed_gives_a_text_again():
    model, prompt = model_of(), torch.tensor([[3, 1]])
    texts = [
        generate(model, prompt, 20, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])


@pytest.mark.parametrize("name", ["boltzmann", "softmax", "steady state"])
def test_steps_have_the_weights_of_whole_passes(name):
    model, prompt = model_of(name), torch.tensor([[3, 1, 4], [1, 5, 0]])
    text = prompt
    for step in stream(model, prompt, 6, temperature=0.0, need_weights=True):
        wanted = model.attention_weights(text[:, -CONTEXT:])
        for layer, of_layer in zip(step.weights, wanted, strict=True):
            torch.testing.assert_close(layer, of_layer[:, :, -1], rtol=0, atol=1e-5)
        text = torch.cat([text, step.token[:, None]], 1)


def test_reads_of_a_backend_are_drawn_for_each_token():
    model, prompt = model_of("boltzmann"), torch.tensor([[3, 1]])
    for block in model.blocks:
        block.attention.backend, block.attention.num_reads = "gibbs", 10
    texts = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        texts.append(model.generate(prompt, 20))
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
    # The weights of a step are those that it was computed with: counts of ten reads, but for the
    # control, exact ones.
    for block in model.blocks:
        block.attention.estimator = "moment"
    for backend, is_count in (("gibbs", True), ("exact", False)):
        for block in model.blocks:
            block.attention.backend = backend
            block.attention.estimator = "moment" if is_count else None
        (step,) = stream(model, prompt, 1, need_weights=True)
        tenths = 10 * step.weights[0]
        assert bool(((tenths - tenths.round()).abs() < 1e-4).all()) == is_count


def test_a_cold_model_takes_the_likeliest():
    model, prompt = model_of(), torch.tensor([[3, 1]])
    greedy = generate(model, prompt, 9, temperature=0.0)
    assert torch.equal(generate(model, prompt, 9, temperature=1e-300), greedy)
    assert torch.equal(generate(model, prompt, 9, top_k=1), greedy)


def test_no_token_is_lost_to_an_error():
    model, prompt, found = model_of(), torch.tensor([[3, 1]]), []
    steps = stream(model, prompt, 5, temperature=0.0)
    found += [next(steps), next(steps)]
    torch.nn.init.constant_(model.read_out.bias, math.nan)
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        next(steps)
    assert [int(step.token) for step in found] == by_the_definition(model_of(), prompt, 2)[
        0, 2:
    ].tolist()


def test_arguments_are_checked_before_the_first_step():
    model, prompt = model_of(), torch.tensor([[3, 1]])
    for options, message in (
        ({"temperature": -1.0}, r"`temperature` must be from 0 on, but is -1\.0"),
        ({"temperature": math.nan}, "`temperature` must be from 0 on, but is nan"),
        ({"top_k": 0}, "`top_k` must be positive, but is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            stream(model, prompt, 1, **options)
    with pytest.raises(ValueError, match="`num_tokens` must be from 0 on, but is -2"):
        generate(model, prompt, -2)
    with pytest.raises(ValueError, match=r"1 text of 1 token to begin with, .* \(1, 0\)"):
        generate(model, prompt[:, :0], 1)
    assert torch.equal(generate(model, prompt, 0), prompt)
