"""Simulated annealing reaches the noise floor at its default; the library's schedule does not."""

import math

import numpy as np
import pytest
import torch
from dwave.samplers import SimulatedAnnealingSampler

from qattn import IsingBatch, exact
from qattn.backends import DimodBackend
from qattn.chains import EquilibriumWarning, equilibrium
from qattn.problems import ferromagnet
from qattn.simulators import neal
from qattn.simulators.neal import NealBackend

READS = 1000
LIMIT = 1.1  # times the error of as many independent reads


def attention_like(problems=50, spins=12, coupling=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(problems, 1, spins, generator=generator, dtype=torch.float64)
    J = torch.randn(problems, spins, spins, generator=generator, dtype=torch.float64).triu(1)
    return IsingBatch(h, coupling * (J + J.mT))


def relative_errors(samples, batch):
    """RMS errors of ⟨s⟩ and ⟨ss⟩ over what independent exact reads have in expectation."""
    row, col = torch.triu_indices(batch.num_spins, batch.num_spins, 1)
    pairs = exact.pair_correlations(batch)[..., row, col]
    found_pairs = samples.pair_correlations(torch.float64)[..., row, col]
    means, found_means = exact.mean_spins(batch), samples.mean_spins(torch.float64)
    return [
        float((found - m).square().mean().sqrt() / ((1 - m**2) / samples.num_reads).mean().sqrt())
        for found, m in ((found_means, means), (found_pairs, pairs))
    ]


def test_default_is_at_the_noise_floor():
    # The ratio of an exact sampler is 1 with a standard deviation of 0.03 over draws (600
    # correlated moments); the limit allows a squared bias of a fifth of the variance.
    batch = attention_like()
    assert max(relative_errors(exact.sample(batch, READS, seed=1), batch)) < LIMIT
    for seed in (1, 2):
        samples = NealBackend().sample(batch, num_reads=READS, seed=seed)
        assert max(relative_errors(samples, batch)) < LIMIT


def test_sweeps_are_as_many_as_a_ferromagnet_needs():
    """At 20 sweeps, the negative control, the groups differ and the mean spins are off."""
    batch = ferromagnet(30, 12, coupling=2.2, field_sd=1.0)
    reads = NealBackend().sample(batch, num_reads=400, seed=1)
    assert reads.info["num_sweeps"] >= 80
    assert reads.info["in_equilibrium"]
    assert equilibrium(reads, batch).groups_agree
    with pytest.warns(EquilibriumWarning, match=r"\(group, query\) .* after 20 sweeps of neal"):
        early = NealBackend(max_sweeps=20).sample(batch, num_reads=400, seed=1)
    assert early.info["num_sweeps"] == 20
    assert not early.info["in_equilibrium"]
    assert not equilibrium(early, batch).groups_agree
    # The spins of a query move together: their mean has a variance of its own. Of 30 ratios of a
    # squared error to it, each χ² with one degree of freedom, the mean is 1 ± √(2/30).
    pairs, m = exact.pair_correlations(batch)[0], exact.mean_spins(batch)[0]
    variance = (pairs - m[:, :, None] * m[:, None, :]).mean((1, 2)) / 400
    right, wrong = (
        float(((r.mean_spins(torch.float64)[0] - m).mean(1).square() / variance).mean())
        for r in (reads, NealBackend(num_sweeps=20).sample(batch, num_reads=400, seed=1))
    )
    assert right == pytest.approx(1, abs=5 * math.sqrt(2 / 30))
    assert wrong > 1 + 5 * math.sqrt(2 / 30)


def test_chains_go_on_from_where_they_are():
    """Couplings that no sweep breaks: every chain ends as it began, up and down in turn."""
    h, J = torch.zeros(1, 3, 4), 30 * (1 - torch.eye(4)).unsqueeze(0)
    batch = IsingBatch(h, J, torch.tensor([4, 0, 3]))
    with pytest.warns(EquilibriumWarning) as caught:
        reads = NealBackend().sample(batch, num_reads=5, seed=0)
    signs = torch.tensor([1, -1, 1, -1, 1])[:, None]
    for query, length in enumerate([4, 0, 3]):
        present = (torch.arange(4) < length).long()
        assert torch.equal(reads.spins[0, query].long(), signs * present)
    text = str(caught[0].message)
    assert "(group, query) (0, 0), (0, 2), after" in text
    # It gives up long before max_sweeps, says why, and what to do.
    assert reads.info["num_sweeps"] < 2560
    assert "it falls too slowly for max_sweeps" in text
    assert text.endswith("the backend gibbs goes on with parallel tempering.")


@pytest.mark.parametrize("num_reads", [1, 2, 5, 33])
def test_few_reads_are_the_first_of_enough_chains(num_reads):
    batch = attention_like(problems=3, spins=5)
    reads = NealBackend().sample(batch, num_reads=num_reads, seed=3)
    assert reads.num_reads == num_reads
    assert reads.info["in_equilibrium"]
    if num_reads < 32:
        all_chains = NealBackend().sample(batch, num_reads=32, seed=3)
        assert torch.equal(reads.spins, all_chains.spins[:, :, :num_reads])
    again, other = (NealBackend().sample(batch, num_reads=num_reads, seed=s) for s in (3, 4))
    assert torch.equal(again.spins, reads.spins)
    assert not torch.equal(other.spins, reads.spins)


def test_a_batch_without_spins_is_in_equilibrium():
    batch = IsingBatch(torch.zeros(2, 3, 4), torch.zeros(2, 4, 4), torch.zeros(3, dtype=torch.int))
    reads = NealBackend().sample(batch, num_reads=5, seed=0)
    assert not reads.spins.any()
    assert reads.info["in_equilibrium"]


def test_a_number_of_sweeps_is_one_run_of_the_library():
    batch = attention_like(problems=4, spins=5)
    reads = NealBackend(num_sweeps=7).sample(batch, num_reads=50, seed=9)
    (seed,) = np.random.SeedSequence(9).generate_state(1) >> 1
    theirs = SimulatedAnnealingSampler().sample(
        batch.to_union_bqm(),
        num_reads=50,
        beta_schedule_type="custom",
        beta_schedule=[1.0] * 7,
        proposal_acceptance_criteria="Gibbs",
        seed=int(seed),
    )
    rows = torch.from_numpy(theirs.record.sample).view(50, 4, 5).transpose(0, 1)
    assert torch.equal(reads.spins[:, 0], rows)
    assert not reads.info


def test_library_default_schedule_is_far_off():
    batch = attention_like(problems=10)
    samples = DimodBackend(SimulatedAnnealingSampler()).sample(batch, num_reads=READS, seed=1)
    assert min(relative_errors(samples, batch)) > 10


def test_a_ramp_without_sweeps_at_the_target_is_biased():
    """The negative control of the schedule: ending at β is not being in equilibrium there."""
    batch = attention_like(problems=10)
    kwargs = {"beta_schedule_type": "linear", "beta_range": [0.05, 1.0], "num_sweeps": 20}
    biased = DimodBackend(SimulatedAnnealingSampler(), **kwargs)
    assert max(relative_errors(biased.sample(batch, num_reads=READS, seed=1), batch)) > LIMIT
    right = NealBackend(num_sweeps=20, ramp_sweeps=10).sample(batch, num_reads=READS, seed=1)
    assert max(relative_errors(right, batch)) < 1.25  # 120 correlated moments: sd 0.05


def test_chunks_have_their_own_reads(monkeypatch):
    h, J = torch.full((1, 4, 3), 0.2), torch.zeros(1, 3, 3)
    batch = IsingBatch(h, J)
    monkeypatch.setattr(neal, "MAX_UNION_SPINS", 3)  # one query a chunk
    spins = NealBackend().sample(batch, num_reads=500, seed=1).spins
    assert len({tuple(spins[0, q].flatten().tolist()) for q in range(4)}) == 4


def test_threads_do_not_change_the_reads(monkeypatch):
    batch = attention_like(problems=8, spins=4)
    monkeypatch.setattr(neal, "MAX_UNION_SPINS", 8)
    reads = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        reads.append(NealBackend().sample(batch, num_reads=20, seed=1).spins)
    assert torch.equal(*reads)


def test_large_fields_and_couplings():
    h = torch.tensor([[[50.0, -50.0, 0.0]]])
    J = torch.zeros(1, 3, 3)
    J[0, 0, 2] = J[0, 2, 0] = 40.0
    spins = NealBackend().sample(IsingBatch(h, J), num_reads=20, seed=1).spins
    assert torch.equal(spins[0, 0], torch.tensor([1, -1, 1], dtype=torch.int8).expand(20, 3))


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_sweeps": 0}, "`num_sweeps` must be positive or 'auto', but is 0"),
        ({"num_sweeps": "many"}, "`num_sweeps` must be positive or 'auto', but is 'many'"),
        ({"max_sweeps": 0}, "`max_sweeps` must be positive, but is 0"),
        ({"ramp_sweeps": 5}, "`ramp_sweeps` must be 0 with num_sweeps='auto', but is 5: a ramp"),
        ({"ramp_sweeps": -1}, "`ramp_sweeps` must not be negative, but is -1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        NealBackend(**options)
