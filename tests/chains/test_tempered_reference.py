"""The reference by parallel tempering: against enumeration, on disk, and out of equilibrium."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from qattn import IsingBatch
from qattn.chains.free_energy import BIN_WIDTH
from qattn.problems import ferromagnet, spin_glass, synthetic
from qattn.quality import EquilibriumWarning, reference_of
from qattn.quality.tempered import run, stored

T = stats.t(run.NUM_SETS - 1)
LIMIT = T.isf(stats.norm.sf(5))


def by_tempering(batch, num_sweeps=1000, seed=0):
    return reference_of(batch, exact_spins=0, max_width=0, tempering_sweeps=num_sweeps, seed=seed)


def strong(batch, factor):
    return IsingBatch(factor * batch.h, factor * batch.J, batch.lengths)


def test_every_value_is_that_of_enumeration_within_its_error():
    fields = spin_glass(4, 10, field_sd=0.4).h.mT.reshape(1, 4, 10)
    J = 0.4 * spin_glass(1, 10).J * math.sqrt(10)
    batch = IsingBatch(fields, J, torch.tensor([10, 7, 1, 10]))
    found, right = by_tempering(batch), reference_of(batch)
    assert found.kind == "parallel tempering"
    assert not found.is_exact
    assert found.not_in_equilibrium == ()
    present = batch.active[0]
    assert ((found.log_Z - right.log_Z).abs() < LIMIT * found.log_Z_error + 1e-4).all()
    error = (found.mean - right.mean)[present]
    assert (error.abs() < LIMIT * found.mean_error[present]).all()
    error = (found.pairs - right.pairs)[right.known_pairs]
    assert (error.abs() < LIMIT * found.pairs_error[right.known_pairs]).all()
    assert (found.known_pairs == right.known_pairs).all()
    for value in (found.mean, found.gradient_h, found.mean_error):
        assert (value[~present] == 0).all()
    # Gradients: of 4,000 reads a problem, more or less correlated.
    for one, other in ((found.gradient_h, right.gradient_h), (found.gradient_J, right.gradient_J)):
        assert (one - other).square().sum() < 0.1**2 * other.square().sum()
    for one, other in zip(found.energies, right.energies, strict=True):
        assert one.mean == pytest.approx(other.mean, abs=0.1 * other.sd)
        assert one.sd == pytest.approx(other.sd, rel=0.05, abs=BIN_WIDTH)
    assert torch.allclose(found.effective_states, right.effective_states, rtol=0.2)
    reads = found.draw(20_000, 0)
    assert (reads.spins[1, ..., 7:] == 0).all()
    noise = ((1 - right.mean.square()) / 2000).sqrt() + 1e-3
    assert ((reads.mean_spins(torch.float64)[:, 0] - right.mean).abs() < 5 * noise)[present].all()


def test_without_couplings_and_fields_everything_is_known():
    batch = IsingBatch(torch.zeros(1, 1, 5), torch.zeros(1, 5, 5))
    found = by_tempering(batch, 64)
    assert float(found.log_Z) == pytest.approx(5 * math.log(2), abs=1e-9)
    assert found.not_in_equilibrium == ()


def test_what_does_not_settle_is_named():
    # Two valleys with a wall of 40/β between them; the second problem is easy.
    wall, easy = 4 * ferromagnet(1, 20).J, 0.1 * ferromagnet(1, 20).J
    batch = IsingBatch(torch.zeros(2, 1, 20), torch.cat([wall, easy]).float())
    with pytest.warns(EquilibriumWarning, match=r"problem 0 of 2 .* `tempering_sweeps`, now 64"):
        found = by_tempering(batch, 64)
    assert found.not_in_equilibrium == (0,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert by_tempering(batch, 2000).not_in_equilibrium == ()


def test_a_run_has_sweeps():
    with pytest.raises(ValueError, match="`tempering_sweeps` must be positive, but is 0"):
        by_tempering(spin_glass(1, 4), 0)


def test_runs_are_fixed_by_their_seed():
    batch = synthetic(num_problems=2, num_spins=6)
    one, same, other = (by_tempering(batch, 256, seed) for seed in (1, 1, 2))
    assert (one.mean == same.mean).all()
    assert (one.log_Z == same.log_Z).all()
    assert (one.draw(10, 0).spins == same.draw(10, 0).spins).all()
    assert not (one.mean == other.mean).all()


def test_problems_are_kept_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setenv(stored.FOLDER_VARIABLE, str(tmp_path / "references"))
    batch = spin_glass(3, 8)
    first = by_tempering(batch, 256)
    files = sorted((tmp_path / "references").iterdir())
    assert len(files) == 3
    computed = []
    long_runs = run.long_runs

    def counted(problems, *arguments):
        computed.append(problems.num_groups)
        return long_runs(problems, *arguments)

    monkeypatch.setattr(run, "long_runs", counted)
    again = by_tempering(batch, 256)
    assert computed == []
    for name in ("mean", "pairs", "gradient_J", "log_Z", "log_Z_error", "mean_error"):
        assert (getattr(again, name) == getattr(first, name)).all()
    assert (again.draw(50, 3).spins == first.draw(50, 3).spins).all()
    # One file is lost, one is damaged: those two are computed anew, with a line about the damage.
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:1000])
    with pytest.warns(UserWarning, match="is damaged"):
        by_tempering(batch, 256)
    assert computed == [2]
    by_tempering(batch, 320)
    assert computed == [2, 3]


def test_a_stored_run_that_did_not_settle_warns_again(tmp_path, monkeypatch):
    monkeypatch.setenv(stored.FOLDER_VARIABLE, str(tmp_path))
    batch = IsingBatch(torch.zeros(1, 1, 20), 4 * ferromagnet(1, 20).J.float())
    for _ in range(2):
        with pytest.warns(EquilibriumWarning):
            by_tempering(batch, 64)


@pytest.mark.slow
@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_error_bars_of_tempering_cover(strength):
    """120 glasses of 12 spins: errors of ln Z over their standard errors are Student's t."""
    batch = strong(spin_glass(120, 12, field_sd=0.3), strength)
    found, right = by_tempering(batch, 1000), reference_of(batch)
    assert found.not_in_equilibrium == ()
    z = ((found.log_Z - right.log_Z) / found.log_Z_error).numpy()
    covered = float((np.abs(z) < T.ppf(0.975)).mean())
    assert abs(covered - 0.95) < 5 * math.sqrt(0.95 * 0.05 / len(z))
    assert abs(z.mean()) < 5 * T.std() / math.sqrt(len(z))
    fourth = float(T.stats(moments="k") + 3) * T.var() ** 2
    assert abs((z**2).mean() - T.var()) < 5 * math.sqrt((fourth - T.var() ** 2) / len(z))
    # Of spins that hardly ever turn the error bar is 0: all spins of a problem together.
    squares = found.mean_error.square().sum(1)
    inner = (found.mean - right.mean).square().sum(1) / squares
    assert abs(float(inner.mean()) - T.var()) < 5 * float(inner.std()) / math.sqrt(len(z))
