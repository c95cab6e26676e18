"""Trainings of models of transformers with couplings."""

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="needs Hugging Face transformers")

from _support.transformers_models import coupled_model, tokens

from qattn.backends import Backend, get_backend
from qattn.integrations.transformers import patterns, set_backend

NEW = hasattr(transformers.PreTrainedModel, "activation_checkpointing_enable")


def checkpointed(model, *, use_reentrant=False):
    """Switch gradient checkpointing on, by the name that this version of transformers has."""
    name = "activation" if NEW else "gradient"
    getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": use_reentrant})
    return model


def gradients(model, *, seed=None):
    """Those of a language model's loss, by name."""
    if seed is not None:
        torch.manual_seed(seed)
    model.train()
    model.zero_grad()
    model(tokens(2, 6), labels=tokens(2, 6)).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral"])
@pytest.mark.parametrize("backend", ["exact", "gibbs"])
def test_gradient_checkpointing(name, backend, reentrant):
    """Also of reads: PyTorch sets its generator back, so that a layer draws them again."""
    model = without_dropout(coupled_model(name, "banded"))
    set_backend(model, backend, num_reads=10)
    expected = gradients(model, seed=3)
    assert any("coupling_values" in key and g.abs().max() > 0 for key, g in expected.items())
    checkpointed(model, use_reentrant=reentrant)
    model.enable_input_require_grads()
    found = gradients(model, seed=3)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)


class Paid(Backend):
    name = "costly"
    paid = True
    calls = 0

    def sample(self, batch, *, num_reads, seed=None):
        type(self).calls += 1
        return get_backend("exact").sample(batch, num_reads=num_reads, seed=seed)


def test_gradient_checkpointing_is_refused_where_reads_cost_money():
    model = coupled_model("gpt2")
    set_backend(model, Paid(), num_reads=4)
    checkpointed(model)
    with pytest.raises(ValueError, match="'costly' each pass is paid for"):
        gradients(model)
    with pytest.raises(ValueError, match="'costly' each pass is paid for"):
        model.train().transformer.h[1](torch.zeros(1, 2, 16))
    assert Paid.calls == 0
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = False
    gradients(model)
    assert Paid.calls == 2  # one a layer
    checkpointed(model)
    with torch.no_grad():
        model.eval()(tokens())  # which is not run twice
    assert Paid.calls == 4


def test_trainer(tmp_path):
    pytest.importorskip("accelerate", reason="needs accelerate")
    model = coupled_model("gpt2", "banded")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    texts = [{"input_ids": row, "labels": row} for row in tokens(16, 8)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=10,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=0,
        use_cpu=True,
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=texts)
    first = trainer.evaluate(texts)["eval_loss"]
    trainer.train()
    assert trainer.evaluate(texts)["eval_loss"] < 0.9 * first
    changed = {
        name.rpartition(".")[2]
        for name, value in model.state_dict().items()
        if "boltzmann" in name and (value - before[name]).abs().max() > 1e-3
    }
    assert changed == {"coupling_values", "field_bias"}
    trainer.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "model.safetensors").is_file()


def test_dropout_of_weights():
    model = coupled_model("llama")
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    kept = model(tokens()).logits
    torch.manual_seed(0)
    dropped = model.train()(tokens()).logits
    assert (dropped - kept).abs().max() > 1e-2
    torch.testing.assert_close(model.eval()(tokens()).logits, kept)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # that TorchDynamo reads
def test_the_same_from_compiled_code():
    model = coupled_model("gpt2", "banded")
    expected = model(tokens()).logits
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(tokens()).logits, expected)
    assert len(patterns(model)) == 2
