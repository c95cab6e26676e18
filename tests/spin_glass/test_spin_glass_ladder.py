"""Weighted reads agree with a reference over a ladder of β: F, U, C, S and P(q)."""

import pytest
import torch

from qattn import problems
from qattn.quality.split import one_group_per_problem, part_of
from qattn.simulators.autoregressive import NetSettings
from qattn.spin_glass import Section, ladder_reference, spin_glass, untrained
from qattn.thermodynamics import thermodynamic_curves

QUANTITIES = ("free_energy", "energy", "entropy", "heat_capacity")


def z_scores(section: Section) -> dict[str, torch.Tensor]:
    """Differences of quantities from the reference over their errors, of all problems and β."""
    found = {}
    for name in QUANTITIES:
        rows = [ladder.of(name) for ladder in section.ladders]
        found[name] = torch.stack(
            [(a - r) / (e**2 + s**2).sqrt().clamp_min(1e-5) for a, e, r, s in rows]
        )
    return found


def agree(section: Section) -> bool:
    """Within five standard errors, and P(q) no farther than noise: 2 is far outside of it.

    Of a distance of some 20 independent parts the standard deviation is below 0.2 of the mean.
    """
    near = all(bool((z.abs() < 5).all()) for z in z_scores(section).values())
    overlaps = [one for ladder in section.ladders for one in ladder.overlaps.values()]
    return near and all(one.distance < 2 * one.noise for one in overlaps)


def test_sk_of_fifty_spins_agrees_with_tempering(monkeypatch, tmp_path):
    monkeypatch.setenv("QATTN_REFERENCES", str(tmp_path))
    batch = problems.named("sk:spins=50,problems=1")
    options = {"num_reads": 1000, "tempering_sweeps": 400, "seed": 1}
    pairs = untrained(NetSettings(logit="pair"))  # the least that physics says: ESS 0.4 at β = 1
    section = spin_glass("sk", batch, [0.5, 1.0], pairs, **options)
    (ladder,) = section.ladders
    assert ladder.kind == "parallel tempering"
    assert agree(section)
    assert all(judged.verdict == "usable with weights" for judged in ladder.judged)
    # The bound is above F, and more so at the lower temperature.
    above = [float(ladder.of("log_Z")[2][b]) - ladder.judged[b].log_Z_bound for b in range(2)]
    assert above[1] > 0.1
    assert above[1] > above[0] > -0.05
    # Control: reads of another β do not agree. The reference is read from disk.
    warmer = spin_glass(
        "sk", problems.with_strength(batch, 0.97), [0.5, 1.0], untrained(), **options
    )
    mixed = Section("", "", section.betas, (with_reference_of(warmer, section),))
    assert not agree(mixed)


def with_reference_of(section, other):
    from dataclasses import replace

    return replace(section.ladders[0], reference=other.ladders[0].reference)


@pytest.mark.slow
def test_a_lattice_of_16_by_16_agrees_with_exact_values():
    batch = problems.named("ea:size=16,periodic=false,problems=2")
    section = spin_glass("ea", batch, [0.2, 0.4, 0.6], untrained(), num_reads=2000)
    assert section.ladders[0].kind == "tree decomposition"
    assert agree(section)


@pytest.mark.slow
def test_a_ladder_of_fifty_spins_agrees_with_long_tempering(tmp_path, monkeypatch):
    monkeypatch.setenv("QATTN_REFERENCES", str(tmp_path))
    batch = problems.named("sk:spins=50,problems=3")
    betas = torch.linspace(0.2, 1.4, 7)
    section = spin_glass("sk", batch, betas, untrained(), num_reads=4000)
    assert agree(section)


def test_references_of_two_kinds_agree(monkeypatch, tmp_path):
    """A lattice of 5 x 5 by tree, and tempered; ln Z, energies and P(q)'s moments."""
    monkeypatch.setenv("QATTN_REFERENCES", str(tmp_path))
    batch = problems.named("ea:size=5,problems=1,field_sd=0.3")
    problem = part_of(one_group_per_problem(batch), slice(0, 1))
    betas = torch.tensor([0.4, 0.8], dtype=torch.float64)
    options = {"num_reads": 2000, "tempering_sweeps": 500, "seed": 0}
    tree = ladder_reference(problem, betas, **options)
    assert tree.kind == "tree decomposition"
    monkeypatch.setattr("qattn.spin_glass.reference.exact_engine", refuse)
    tempered = ladder_reference(problem, betas, **options)
    assert tempered.kind == "parallel tempering"
    exactly = thermodynamic_curves(problem, betas, num_reads=0)
    for name in (*QUANTITIES, "log_Z"):
        right = getattr(exactly, name)
        assert (getattr(tree.curves, name) - right).abs().max() < 1e-3, name
        z = (getattr(tempered.curves, name) - right) / tempered.curves.error(name)
        assert z.abs().max() < 5, name
        # Control: at the other β it is far away.
        assert (
            (getattr(tempered.curves, name) - right.flip(-1)) / tempered.curves.error(name)
        ).abs().min() > 5
    for name in ("spin_glass_susceptibility", "absolute_magnetisation", "overlap_binder"):
        a, b = (getattr(curves, name) for curves in (tree.curves, tempered.curves))
        error = (tree.curves.error(name) ** 2 + tempered.curves.error(name) ** 2).sqrt()
        assert ((a - b) / error).abs().max() < 5, name
    some = tempered.some_reads(230)
    assert some.shape == (2, 230, 25)


def refuse(problem):
    raise ValueError


@pytest.mark.parametrize(
    ("betas", "options", "message"),
    [
        ([0.0, 1.0], {}, "`betas` must be positive"),
        ([1.0, 0.5], {}, "`betas` must ascend"),
        ([1.0], {"num_reads": 100}, "`num_reads` must be at least 230, but is 100"),
    ],
)
def test_what_cannot_be_is_said(betas, options, message):
    with pytest.raises(ValueError, match=message):
        spin_glass("sk", problems.spin_glass(1, 4), betas, untrained(), **options)


def test_queries_of_several_lengths_are_problems_of_their_own():
    from qattn import IsingBatch

    batch = problems.synthetic(10, 6)
    batch = IsingBatch(batch.h[:, :3], batch.J, torch.tensor([4, 6, 0]))
    section = spin_glass("mixed", batch, [0.5, 1.0], untrained(), num_reads=500)
    assert [ladder.num_spins for ladder in section.ladders] == [4, 6]
    assert len(next(iter(section.ladders[0].overlaps.values())).q) == 5
    assert agree(section)
