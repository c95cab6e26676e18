"""Trained runs are used where sampler, device, calibration and journal are missing."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from _support.qpu_backends import credentials_of, write_calibration

import qattn
from qattn import problems
from qattn.hardware.emulator import EmulatedQPU
from qattn.layers import BoltzmannAttention
from qattn.simulators.calibration.calibrate import calibrate_simulator
from qattn.training import Learner, RunFolder, TrainConfig, train

SIZES = {"context": 4, "width": 8, "heads": 2, "layers": 1, "batch_size": 4}
SMALL = SIZES | {"steps": 2, "num_reads": 20}

ELSEWHERE = """
import importlib.abc, importlib.metadata, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"dwave", "qutip", "minorminer", "networkx"}:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Absent())
import torch
from pathlib import Path
import qattn
from qattn.training.plots import plot_run

folder, sampler = Path(sys.argv[1]), sys.argv[2]
model, task = qattn.load(folder)
tokens, _ = task.validation()
assert model(tokens[:2]).isfinite().all()
assert all(picture.stat().st_size for picture in plot_run(folder))
missing = {info.name: info.missing for info in qattn.available_backends()}
assert "dwave-ocean-sdk" in missing["dwave"]
assert "qutip" in missing["qutip"]
assert missing["exact"] is None
batch = qattn.problems.named(f"run:{folder},problems=4")
assert qattn.exact.mean_spins(batch).isfinite().all()
try:
    qattn.training.RunFolder(folder).read_config().check_here()
except (ImportError, OSError, ValueError) as error:
    print("cannot be made:", error)
"""


@pytest.fixture(scope="module")
def qpu():
    with EmulatedQPU(shape=(2, 4)) as running:
        yield running


@pytest.fixture
def settings_of(qpu, packings_are_kept):
    """What trains with a sampler, and leaves files that are gone afterwards."""

    def settings(sampler):
        folder = packings_are_kept
        calibration = folder / "calibration.toml"
        dwave = {
            "sampler": "dwave",
            "calibration": str(calibration),
            "credentials": str(credentials_of(qpu, folder)),
            "journal": str(folder / "journal"),
        }
        if sampler in ("dwave", "replay"):
            write_calibration(qpu, calibration)
        if sampler == "dwave":
            return dwave
        if sampler == "replay":
            train(TrainConfig(**SMALL, **dwave), folder / "recorded")
            return {"sampler": "replay", "journal": dwave["journal"]}
        if sampler == "diabatic":
            batch = problems.synthetic(4, 3, field_sd=0.3, coupling_sd=0.1)
            calibrate_simulator(batch, annealing_times=[3.0]).save(calibration)
            return {"sampler": "diabatic", "calibration": str(calibration)}
        return {"sampler": "qutip", "annealing_time": 3.0}

    return settings


@pytest.mark.filterwarnings("default::qattn.simulators.quantum_annealing.DivergenceWarning")
@pytest.mark.parametrize("sampler", ["dwave", "replay", "diabatic", "qutip"])
def test_a_run_is_used_where_its_backend_cannot_be_made(settings_of, tmp_path, sampler):
    trained = tmp_path / "trained"
    train(TrainConfig(**SMALL, **settings_of(sampler)), trained)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(trained, elsewhere, ignore=shutil.ignore_patterns("journal", "*.png"))
    for name in os.listdir():  # calibration, journal and credentials
        shutil.rmtree(name) if os.path.isdir(name) else os.remove(name)
    script = [sys.executable, "-W", "error", "-c", ELSEWHERE, str(elsewhere), sampler]
    result = subprocess.run(script, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "cannot be made:" in result.stdout


def test_load_gives_the_weights_of_each_member(tmp_path):
    config = TrainConfig(**SMALL, ensemble=3, seed=5)
    train(config, tmp_path / "run")
    learner = Learner(config)
    learner.load_state_dict(RunFolder(tmp_path / "run").read_checkpoint()["learner"])
    for member, metrics in enumerate(learner.evaluate()):
        model, task = qattn.load(tmp_path / "run", member=member)
        assert not model.training
        assert task.seed == 5 + member
        tokens, targets = task.validation()
        with torch.no_grad():
            loss = task.metrics(model(tokens), targets)["validation_loss"]
        assert loss == pytest.approx(metrics["validation_loss"], abs=1e-5)
    with pytest.raises(ValueError, match="`member` must be between 0 and 2"):
        qattn.load(tmp_path / "run", member=3)


@pytest.mark.parametrize("ensemble", [1, 2])
def test_settings_and_weights_of_a_finished_run_are_enough(tmp_path, ensemble):
    run = tmp_path / "run"
    train(TrainConfig(**SMALL, ensemble=ensemble, couplings="banded"), run)
    names = ["model.safetensors"] if ensemble == 1 else [f"model-{k}.safetensors" for k in (0, 1)]
    assert sorted(path.name for path in run.glob("*.safetensors")) == names
    tokens, _ = qattn.load(run).task.validation()
    expected = [qattn.load(run, member=k).model(tokens) for k in range(ensemble)]
    for file in run.iterdir():
        if file.name not in (*names, "config.toml"):
            file.unlink()
    for member, name in enumerate(names):
        assert torch.equal(qattn.load(run, member=member).model(tokens), expected[member])
        assert torch.equal(qattn.Transformer.load(run / name)(tokens), expected[member])
    assert ensemble == 1 or not torch.equal(*expected)
    if ensemble == 1:
        assert torch.equal(qattn.Transformer.from_pretrained(run)(tokens), expected[0])
        with pytest.raises(ValueError, match=r"is a file and no run's folder: .*Transformer\.load"):
            qattn.load(run / names[0])
    else:
        hint = r"it has model-0\.safetensors, .* each to be read with Transformer\.load"
        with pytest.raises(FileNotFoundError, match=hint):
            qattn.Transformer.from_pretrained(run)


def test_what_cannot_be_loaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="it has no config"):
        qattn.load(tmp_path)
    RunFolder(tmp_path / "new").create(TrainConfig(**SMALL))
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet"):
        qattn.load(tmp_path / "new")


def test_a_text_that_has_moved_is_given_anew(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question. " * 10)
    config = TrainConfig(**SMALL, task="shakespeare", data=str(text))
    train(config, tmp_path / "run")
    moved = text.rename(tmp_path / "moved.txt")
    with pytest.raises(FileNotFoundError, match="No text at"):
        qattn.load(tmp_path / "run")
    _, task = qattn.load(tmp_path / "run", data=moved)
    assert task.vocab_size == len(set(moved.read_text()))
    moved.write_text("to be or not to be, that is the question.\n" * 10)
    for _ in ("checkpoint", "weights alone"):
        with pytest.raises(ValueError, match="vocabulary of 15 tokens, but its text now one of 16"):
            qattn.load(tmp_path / "run", data=moved)
        (tmp_path / "run" / "checkpoint.pt").unlink(missing_ok=True)
        (tmp_path / "run" / "checkpoint.previous.pt").unlink(missing_ok=True)


def test_a_config_constructs_nothing_and_says_what_is_missing():
    """Settings of another machine are values here; training with them is what is refused."""
    far = TrainConfig(
        sampler="diabatic", calibration="gone.toml", device="cuda:7", context=40, threads=2
    )
    assert far.calibration == "gone.toml"
    with pytest.raises(ValueError, match="`device` is 'cuda:7', which fails here"):
        far.check_here()
    for change, kind, message in (
        ({"calibration": "gone.toml"}, FileNotFoundError, "must be an existing file"),
        ({"anneal": 3}, TypeError, "anneal"),
    ):
        with pytest.raises(kind, match=message):
            TrainConfig(sampler="diabatic", **change).check_here()


def test_a_samplers_text_carries_options_for_validations_too():
    config = TrainConfig(
        sampler="neal:num_sweeps=7", eval_sampler="diabatic:annealing_time=3,tolerance=1e-2"
    )
    backends = config.check_here()
    assert backends["neal:num_sweeps=7"].options.num_sweeps == 7
    validation = backends["diabatic:annealing_time=3,tolerance=1e-2"]
    assert validation.options.tolerance == 1e-2
    assert validation.schedule.annealing_time == 3.0
    with pytest.raises(ValueError, match="did you mean 'num_sweeps'"):
        TrainConfig(sampler="neal:num_sweep=7").check_here()
    with pytest.raises(ValueError, match="`num_sweeps` must be given once"):
        TrainConfig(sampler="neal:num_sweeps=7", num_sweeps=8).check_here()


def test_a_loaded_model_is_sampled_with_any_backend(tmp_path):
    train(TrainConfig(**SMALL), tmp_path / "run")
    model, task = qattn.load(tmp_path / "run")
    for layer in model.modules():
        if isinstance(layer, BoltzmannAttention):
            assert layer.backend == "exact"
            layer.backend, layer.num_reads = "neal", 50
    assert model(task.validation()[0][:2]).isfinite().all()
