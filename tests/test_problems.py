"""Problem sets by name, and files of BQMs."""

import json
import math

import dimod
import pytest
import torch
from _support.brute_force import all_states
from torch import Tensor

from qattn import Transformer, exact, problems
from qattn.ising.batch import IsingBatch
from qattn.problems import run
from qattn.problems.files import from_bqms, read_bqms
from qattn.problems.standard import planted_states
from qattn.quality.split import split_by_problem

GENERATED = ["synthetic", "ferromagnet", "sk", "ring", "planted"]


@pytest.mark.parametrize("name", GENERATED)
def test_sets_are_fixed_by_their_seed_and_of_the_size_asked_for(name):
    first = problems.named(f"{name}:spins=5,problems=10", seed=3)
    again = problems.named(f"{name}:spins=5,problems=10,seed=3", seed=9)
    assert torch.equal(first.h, again.h)
    assert torch.equal(first.J, again.J)
    assert first.num_active.size == 10
    assert first.num_spins == 5
    other = problems.named(f"{name}:spins=5,problems=10", seed=4)
    assert not (torch.equal(first.h, other.h) and torch.equal(first.J, other.J))
    assert problems.named(f"{name}:beta=0.5").beta == 0.5


def test_spin_glass_has_variance_one_over_n():
    J = problems.named("sk:spins=20,problems=50").J
    values = J[:, *torch.triu_indices(20, 20, 1)].flatten()
    # Variance of N values: relative standard error √(2/N).
    assert float(values.var()) * 20 == pytest.approx(1, abs=5 * math.sqrt(2 / len(values)))


def test_frustrated_ring_has_two_n_ground_states():
    batch = problems.named("ring:spins=5,problems=10,coupling=0.7")
    S = all_states(5)
    energies = batch.energies(S.expand(10, 1, -1, -1))[:, 0]
    ground = energies.min(1, keepdim=True).values
    assert torch.allclose(ground, torch.tensor(-0.7 * 3, dtype=torch.float64))
    assert ((energies - ground).abs() < 1e-9).sum(1).tolist() == [10] * 10
    # Negative control: with one sign turned, the ring is satisfied.
    J = batch.J.clone()
    J[:, 0, 1] *= -1
    J[:, 1, 0] *= -1
    energies = IsingBatch(batch.h, J).energies(S.expand(10, 1, -1, -1))
    assert torch.allclose(energies.min(), torch.tensor(-0.7 * 5, dtype=torch.float64))


def test_planted_state_is_a_ground_state():
    batch = problems.named("planted:spins=8,problems=20,loops_per_spin=1.5", seed=2)
    states = planted_states(20, 8, seed=2)
    ground = batch.energies(all_states(8).expand(20, 1, -1, -1)).amin(2)
    assert torch.allclose(batch.energies(states[:, None, None])[..., 0], ground)
    assert torch.allclose(batch.J.abs().amax((1, 2)), torch.ones(20, dtype=torch.float64))
    flipped = states.clone()
    flipped[:, 0] *= -1
    assert float(batch.energies(flipped[:, None, None]).sum()) > float(ground.sum())


def test_ferromagnet_is_uniform():
    J = problems.named("ferromagnet:spins=4,coupling=2").J[0]
    assert torch.equal(J, 0.5 * (1 - torch.eye(4, dtype=torch.float64)))


@pytest.mark.parametrize("form", ["binary", "one", "list"])
@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
def test_files_keep_energies_up_to_a_constant(tmp_path, form, vartype):
    bqms = [
        dimod.BinaryQuadraticModel({"a": 0.5, "b": -1.0}, {("a", "b"): 0.25}, 2.0, vartype),
        dimod.BinaryQuadraticModel({0: 1.0, 1: 0.0, 2: -0.5}, {(0, 2): -1.5}, 0.0, vartype),
    ]
    file = tmp_path / "bqms"
    if form == "list":
        file.write_text(json.dumps([bqm.to_serializable() for bqm in bqms]))
    else:
        bqms = bqms[:1]
        if form == "one":
            file.write_text(json.dumps(bqms[0].to_serializable()))
        else:
            with bqms[0].to_file() as written:
                file.write_bytes(written.read())
    batch = problems.named(f"file:{file},beta=0.5")
    assert batch.beta == 0.5
    assert batch.num_active.ravel().tolist() == [bqm.num_variables for bqm in bqms]
    for p, bqm in enumerate(bqms):
        n = bqm.num_variables
        S = all_states(n)
        full = torch.zeros(len(bqms), 1, len(S), batch.num_spins, dtype=torch.float64)
        full[p, 0, :, :n] = S
        rows = S.numpy() if vartype == "SPIN" else (S.numpy() + 1) / 2
        expected = torch.as_tensor(bqm.energies((rows, sorted(bqm.variables))))
        difference = batch.energies(full)[p, 0] - expected
        assert torch.allclose(difference, difference[0])


def test_bqms_of_a_batch_come_back():
    batch = problems.synthetic(10, 4, seed=5)
    again = from_bqms(batch.to_bqms())
    assert torch.allclose(again.h[:, 0], batch.h.flatten(0, 1))
    assert torch.allclose(again.J, batch.J.expand_as(again.J))


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "glass",
            "must start with one of synthetic, ferromagnet, sk, banded, ring, planted, ea, regular",
        ),
        ("sk:size=4", "have no option 'size'; the options are problems, spins, field_sd"),
        ("sk:spins=many", "Option 'spins' .* must be a number, but is 'many'"),
        ("sk:spins", "must be key=value, but one is 'spins'"),
        ("sk:problems=0", "`num_problems` must be positive, but is 0"),
        ("sk:beta=-1", "`beta` must be finite and not negative"),
        ("ring:spins=2", "at least 3 for a ring"),
        ("run:", "must be run:PATH"),
        ("run:nowhere,spins=4", "have no option 'spins'"),
        ("file:x,seed=2", "have no option 'seed'"),
    ],
)
def test_wrong_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        problems.named(name)


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="No file of problems at"):
        read_bqms(tmp_path / "none")
    file = tmp_path / "wrong.json"
    for text in ("{}", "no json", "[3]", "DIMODBQM"):
        file.write_text(text)
        with pytest.raises(ValueError, match="must hold BQMs as"):
            read_bqms(file)
    file.write_text("[]")
    with pytest.raises(ValueError, match="must hold a model, but is empty"):
        problems.named(f"file:{file}")
    empty = dimod.BinaryQuadraticModel("SPIN")
    with pytest.raises(ValueError, match="model 0 has none"):
        from_bqms([empty])


def test_a_folder_that_is_no_run_is_named_as_such(tmp_path):
    """Nobody wants to resume anything here."""
    message = "No run in '.*exists'"
    (tmp_path / "exists").mkdir()
    with pytest.raises(FileNotFoundError, match=message):
        problems.named(f"run:{tmp_path / 'exists'}")
    with pytest.raises(FileNotFoundError, match=r"No run in '.*missing'"):
        problems.named(f"run:{tmp_path / 'missing'}")


def test_planted_states_leave_bonds_unsatisfied():
    """One bond of every loop opposes the planted state."""
    batch, states = problems.planted(5, 10, seed=2), problems.planted_states(5, 10, seed=2)
    satisfaction = batch.J * states[:, :, None] * states[:, None, :]
    assert bool((satisfaction.amin((1, 2)) < 0).all())


@pytest.mark.parametrize(
    "options",
    [
        {"couplings": "banded", "width": 2},
        {"couplings": "banded", "width": 2, "content": True},
        {"couplings": "low_rank"},
        {"couplings": "cardinality"},
        {},
    ],
    ids=["band", "gated band", "product", "potential", "dense"],
)
def test_queries_of_a_run_keep_their_structure(options, monkeypatch, tmp_path):
    """As many problems as asked for, and exact reads of them."""
    model = Transformer(10, 8, num_layers=2, num_heads=2, embed_dim=16, **options)

    class Task:
        def validation(self):
            return torch.randint(10, (20, 8)), None

    monkeypatch.setattr(run, "load", lambda folder: (model, Task()))
    batch = run.from_run(tmp_path, 12)
    assert batch.num_groups * batch.num_queries == 12
    assert isinstance(batch.J, Tensor) is not bool(options)
    samples = exact.sample(batch, 5, seed=0)
    assert split_by_problem(samples, batch).spins.shape[:3] == (12, 1, 5)
