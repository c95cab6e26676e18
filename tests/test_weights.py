"""Modules from files of their own: the same numbers, and what is refused."""

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import qattn
from qattn import BoltzmannAttention, SoftmaxAttention, Transformer, get_backend
from qattn.layers import ATTENTION, BoltzmannMultiheadAttention, IsingPattern
from qattn.training.tasks import Brackets

STRUCTURES = {
    "dense": {},
    "relative": {"relative": True},
    "frozen": {"constraint": "frozen"},
    "banded": {"couplings": "banded", "width": 2, "relative": True},
    "gated band": {"couplings": "banded", "width": 2, "content": True},
    "low rank": {"couplings": "low_rank", "sign": -1},
    "low rank by content": {"couplings": "low_rank", "content": True},
    "blocks": {"couplings": "block", "block_size": 3},
    "counts": {"couplings": "cardinality", "max_count": 4},
    "competition": {"couplings": "cardinality", "competitive": True},
}

LAYERS = {name: ("boltzmann", options) for name, options in STRUCTURES.items()}
LAYERS |= {arm: (arm, {}) for arm in ATTENTION if arm != "boltzmann"}
LAYERS |= {
    "learned β": ("boltzmann", {"beta": "learnable", "position_bias": "relative"}),
    "norms": ("sigmoid", {"qk_norm": True, "is_causal": False, "position_bias": "absolute"}),
    "residual": ("spin-model", {"field": "residual", "spins": "binary"}),
}


def layer_of(name, **more):
    """A layer whose parameters are nowhere as they start."""
    torch.manual_seed(0)
    arm, options = LAYERS[name]
    layer = ATTENTION[arm](8, 2, 6, **options, **more).eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_the_same_from_its_file(name, tmp_path):
    layer, x, chance = layer_of(name), torch.randn(3, 6, 8), torch.get_rng_state()
    layer.save(tmp_path / "layer.safetensors")
    loaded = type(layer).load(tmp_path / "layer.safetensors")
    assert torch.equal(torch.get_rng_state(), chance)
    assert torch.equal(loaded(x), layer(x))
    assert repr(loaded) == repr(layer)
    learned = [[p.requires_grad for p in m.parameters()] for m in (layer, loaded)]
    assert learned[0] == learned[1]
    with torch.no_grad():
        next(loaded.parameters()).add_(1.0)  # the file is not the memory
    assert torch.equal(type(layer).load(tmp_path / "layer.safetensors")(x), layer(x))


def test_the_pattern_alone_is_the_same_from_its_file(tmp_path):
    torch.manual_seed(0)
    pattern = IsingPattern(2, 5, couplings="banded", width=2, beta="learnable")
    pattern.save(tmp_path / "pattern.safetensors")
    loaded = IsingPattern.load(tmp_path / "pattern.safetensors")
    query, key, value = torch.randn(3, 1, 2, 4, 8).unbind(0)
    for one, other in zip(pattern(query, key, value), loaded(query, key, value), strict=True):
        assert torch.equal(one, other)


def test_the_drop_in_is_the_same_from_its_file(tmp_path):
    torch.manual_seed(0)
    options = {"dropout": 0.1, "batch_first": True, "couplings": "low_rank", "kdim": 4, "vdim": 4}
    layer = BoltzmannMultiheadAttention(8, 2, context=6, dtype=torch.float64, **options).eval()
    layer.pattern.beta = 1.5
    layer.save(tmp_path / "layer.safetensors")
    loaded = BoltzmannMultiheadAttention.load(tmp_path / "layer.safetensors")
    query, key = torch.randn(3, 5, 8).double(), torch.randn(3, 6, 4).double()
    for one, other in zip(layer(query, key, key), loaded(query, key, key), strict=True):
        assert torch.equal(one, other)
    assert (loaded.dropout, loaded.pattern.beta) == (0.1, 1.5)


@settings(max_examples=30)
@given(
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    heads=st.integers(1, 3),
    context=st.integers(1, 5),
    beta=st.floats(0.1, 10.0),
)
def test_numbers_and_dtypes_are_kept(tmp_path_factory, dtype, heads, context, beta):
    path = tmp_path_factory.mktemp("weights") / "layer.safetensors"
    layer = BoltzmannAttention(2 * heads, heads, context, beta=beta).to(dtype)
    layer.save(path)
    loaded = BoltzmannAttention.load(path)
    assert loaded.beta == beta
    for one, other in zip(layer.parameters(), loaded.parameters(), strict=True):
        assert one.dtype == other.dtype == dtype
        assert torch.equal(one, other)


def test_what_was_set_since_is_kept_and_a_backend_is_not(tmp_path):
    path = tmp_path / "layer.safetensors"
    layer = layer_of("cardinality", backend=get_backend("exact"))
    layer.beta, layer.normalize, layer.num_reads = 0.5, True, 7
    layer.save(path)
    loaded = type(layer).load(path)
    assert (loaded.beta, loaded.normalize, loaded.num_reads) == (0.5, True, 7)
    sampled = layer_of("dense", backend="neal", estimator="callen", moments="exact")
    sampled.save(path)
    loaded = BoltzmannAttention.load(path)
    assert (loaded.backend, loaded.estimator) == ("exact", None)
    sampled.backend, sampled.estimator, sampled.moments = "exact", None, "tap"
    sampled.save(path)
    assert BoltzmannAttention.load(path).moments == "tap"


def test_the_header_says_what_the_file_is(tmp_path):
    layer_of("gated band").save(tmp_path / "layer.safetensors")
    with safe_open(tmp_path / "layer.safetensors", "pt") as file:
        header = file.metadata()
    arguments = json.loads(header["arguments"])
    assert (header["class"], header["layout"], header["format"]) == (
        "BoltzmannAttention",
        "1",
        "pt",
    )
    assert (arguments["context"], arguments["couplings"], arguments["width"]) == (6, "banded", 2)
    assert "positive J is cooperative" in header["conventions"]
    assert "linear = -h" in header["conventions"]
    assert header["qattn"] == qattn.__version__


def resaved(path, tensors=None, **header):
    """The file with these tensors and entries of the header in place of its own."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    metadata = {k: v for k, v in (metadata | header).items() if v is not None}
    save_file(load_file(path) if tensors is None else tensors, path, metadata)


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "layer.safetensors"
    with pytest.raises(FileNotFoundError, match="No weights at"):
        BoltzmannAttention.load(path)
    layer_of("dense").save(path)
    with pytest.raises(ValueError, match=r"no SoftmaxAttention: take BoltzmannAttention\.load"):
        SoftmaxAttention.load(path)
    tensors = load_file(path)
    one = {"field_bias": tensors["field_bias"]}
    for changed, message in (
        ({k: v for k, v in tensors.items() if k not in one}, "lacks: field_bias"),
        (tensors | {"more": torch.zeros(1)}, "does not have: more"),
        (tensors | {"field_bias": torch.zeros(3)}, "of other shapes than the module's: field_bias"),
    ):
        layer_of("dense").save(path)
        resaved(path, changed)
        with pytest.raises(ValueError, match=f"does not fit its header: .*{message}"):
            BoltzmannAttention.load(path)
    layer_of("dense").save(path)
    resaved(path, arguments='{"width": 8, "height": 2}')
    with pytest.raises(ValueError, match=r"does not fit: .* argument: 'embed_dim'"):
        BoltzmannAttention.load(path)
    layer_of("dense").save(path)
    resaved(path, layout="2", qattn="9.0")
    with pytest.raises(ValueError, match=r"layout 2, of qattn 9\.0, where this .* reads 1"):
        BoltzmannAttention.load(path)
    resaved(path, **{"class": None})
    with pytest.raises(ValueError, match="no header of qattn"):
        BoltzmannAttention.load(path)


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    path = tmp_path / "layer.safetensors"
    layer_of("dense").save(path)
    whole = path.read_bytes()
    for length in (0, 4, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is damaged, or no safetensors file"):
            BoltzmannAttention.load(path)
    path.write_bytes(whole)
    BoltzmannAttention.load(path)


def test_a_failing_disk_leaves_the_file_before(tmp_path, monkeypatch):
    path = tmp_path / "layer.safetensors"
    layer_of("dense").save(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        layer_of("relative").save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_folder_of_a_transformer(tmp_path):
    torch.manual_seed(0)
    model = Transformer(10, 6, num_heads=2, embed_dim=8, couplings="banded", width=2).eval()
    model.blocks[1].attention.beta = 2.0  # not of every layer
    model.save_pretrained(tmp_path / "model")
    loaded = Transformer.from_pretrained(tmp_path / "model")
    tokens = torch.randint(10, (2, 6))
    assert torch.equal(loaded(tokens), model(tokens))
    assert [block.attention.beta for block in loaded.blocks] == [1.0, 2.0]
    config = tmp_path / "model" / "config.json"
    said = json.loads(config.read_text())
    assert said["arguments"]["couplings"] == "banded"
    said["arguments"]["context"] = 12
    config.write_text(json.dumps(said))
    with pytest.raises(ValueError, match="not that of the weights beside it"):
        Transformer.from_pretrained(tmp_path / "model")
    config.unlink()
    assert torch.equal(Transformer.from_pretrained(tmp_path / "model")(tokens), model(tokens))
    with pytest.raises(FileNotFoundError, match=r"No model\.safetensors in 'gpt2' on this machine"):
        Transformer.from_pretrained("gpt2")


WRITE = """
from qattn.transformer import generate

def text_of(model, task):
    tokens = generate(model, task.encode("([")[None], 9, temperature=0.7, generator=seeded())
    return task.decode(tokens[0])

def seeded():
    return torch.Generator().manual_seed(0)
"""

ELSEWHERE = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"dwave", "qutip", "minorminer"}:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Absent())
import torch
import qattn
from pathlib import Path
from qattn.training.tasks import make_task
WRITE
task = make_task("brackets", 8, 0)
for folder in sorted(Path(sys.argv[1]).iterdir()):
    model = qattn.Transformer.from_pretrained(folder)
    assert torch.equal(model(torch.arange(7)[None]), torch.load(folder / "logits.pt")), folder
    print(folder.name, text_of(model, task))
""".replace("WRITE", WRITE)


def test_without_ocean_and_qutip_every_structure_writes_the_same_text(tmp_path):
    names, expected = {"torch": torch}, []
    exec(WRITE, names)
    for name, options in sorted(STRUCTURES.items()):
        torch.manual_seed(1)
        model = Transformer(7, 8, num_heads=2, embed_dim=8, **options).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.7)
        model.save_pretrained(tmp_path / name)
        torch.save(model(torch.arange(7)[None]).detach(), tmp_path / name / "logits.pt")
        expected.append(f"{name} {names['text_of'](model, Brackets(8))}")
    script = [sys.executable, "-W", "error", "-c", ELSEWHERE, str(tmp_path)]
    result = subprocess.run(script, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == expected
    assert len({line.rpartition(" ")[2] for line in expected}) > 5
