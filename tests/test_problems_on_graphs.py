"""Spin glasses on sparse graphs: their bonds are those of networkx and dwave.graphs."""

import math

import dwave.graphs
import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn import problems

SPARSE = ["ea:size=3", "regular:spins=6", "native:topology=chimera"]


def bonds(J):
    """The pairs j < k with a coupling."""
    return {tuple(pair) for pair in J.triu(1).nonzero().tolist()}


def degrees(batch):
    return set((batch.J != 0).sum(2).unique().tolist())


@pytest.mark.parametrize("name", SPARSE)
def test_sets_are_fixed_by_their_seed(name):
    first = problems.named(f"{name},problems=3,field_sd=0.5", seed=3)
    again = problems.named(f"{name},problems=3,field_sd=0.5,seed=3", seed=9)
    assert torch.equal(first.h, again.h)
    assert torch.equal(first.J, again.J)
    assert first.h.dtype == torch.float64
    assert first.h.shape[:2] == (3, 1)
    assert torch.equal(first.J, first.J.mT)
    other = problems.named(f"{name},problems=3,field_sd=0.5", seed=4)
    assert not torch.equal(first.h, other.h)
    assert not torch.equal(first.J, other.J)
    assert not torch.equal(first.J[0], first.J[1])
    assert not problems.named(f"{name},problems=3").h.any()
    assert problems.named(f"{name},beta=0.5").beta == 0.5


@settings(max_examples=25)
@given(size=st.integers(2, 5), dimensions=st.integers(1, 3), periodic=st.booleans())
def test_lattices_are_those_of_networkx(size, dimensions, periodic):
    """Also at two spins a side, where a periodic side has one bond and not two."""
    text = f"ea:size={size},dimensions={dimensions},periodic={str(periodic).lower()},problems=2"
    batch = problems.named(text)
    lattice = networkx.grid_graph([size] * dimensions, periodic=periodic)
    number = {place: j for j, place in enumerate(sorted(lattice))}
    expected = {tuple(sorted((number[a], number[b]))) for a, b in lattice.edges}
    assert bonds(batch.J[0]) == bonds(batch.J[1]) == expected
    if periodic and size > 2:
        assert degrees(batch) == {2 * dimensions}
        assert len(expected) == dimensions * size**dimensions
    else:
        assert len(expected) == dimensions * (size - 1) * size ** (dimensions - 1)
    assert set(batch.J.unique().tolist()) <= {-1, 0, 1}


@pytest.mark.parametrize(("spins", "degree"), [(10, 3), (5, 4), (9, 2), (6, 5), (2, 1)])
def test_regular_graphs_are_regular_and_each_its_own(spins, degree):
    batch = problems.named(f"regular:spins={spins},degree={degree},problems=5")
    assert degrees(batch) == {degree}
    assert batch.num_spins == spins
    graphs = {frozenset(bonds(J)) for J in batch.J}
    assert len(graphs) == 1 if degree == spins - 1 else len(graphs) > 1


@pytest.mark.parametrize(
    ("topology", "size", "qubits"),
    [("chimera", 1, 8), ("chimera", 4, 128), ("pegasus", 2, 40), ("zephyr", 1, 48)],
)
def test_native_spins_are_qubits(topology, size, qubits):
    batch = problems.qpu_native(2, size, topology=topology)
    graph = getattr(dwave.graphs, f"{topology}_graph")(size)
    labels = sorted(graph)
    assert batch.num_spins == len(labels) == qubits
    found = {tuple(sorted((labels[j], labels[k]))) for j, k in bonds(batch.J[0])}
    assert found == {tuple(sorted(edge)) for edge in graph.edges}


@pytest.mark.parametrize("name", SPARSE)
def test_couplings_are_of_their_distribution_and_scale(name):
    text = f"{name},problems=200,coupling=0.5"
    binary, gaussian = problems.named(text).J, problems.named(f"{text},couplings=gaussian").J
    signs = binary[binary != 0] / 0.5
    assert torch.equal(signs.abs(), torch.ones_like(signs))
    # Each coupling occurs twice. Mean of N signs: standard error 1/√N; variance of N normal values
    # relative to the distribution's: √(2/N); their mean square of squares is 3 σ⁴, ±√(96/N) σ⁴.
    N = len(signs) // 2
    assert abs(float(signs.mean())) < 5 / math.sqrt(N)
    values = gaussian[gaussian != 0] / 0.5
    assert len(values) == len(signs)
    assert abs(float(values.mean())) < 5 / math.sqrt(N)
    assert float(values.square().mean()) == pytest.approx(1, abs=5 * math.sqrt(2 / N))
    assert float(values.pow(4).mean()) == pytest.approx(3, abs=5 * math.sqrt(96 / N))


def test_fields_are_of_their_standard_deviation():
    h = problems.named("ea:size=8,problems=50,field_sd=2").h
    assert float(h.std()) == pytest.approx(2, rel=5 / math.sqrt(2 * h.numel()))


@pytest.mark.parametrize("name", ["sk:spins=256", "ea:size=16", "ea:size=6,dimensions=3"])
def test_large_problems_are_made(name):
    batch = problems.named(f"{name},problems=5")
    assert batch.num_spins in (216, 256)
    assert torch.linalg.matrix_rank(batch.J).min() > 100  # not blocks of one another


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ea:size=1", "`size` must be at least 2, but is 1"),
        ("ea:dimensions=0", "`dimensions` must be positive, but is 0"),
        ("ea:periodic=yes", "'periodic' .* must be true or false, but is 'yes'"),
        ("ea:couplings=gauss", "'couplings' .* must be binary or gaussian, but is 'gauss'"),
        ("ea:size=big", "'size' .* must be a number, but is 'big'"),
        ("ea:problems=-3", "`num_problems` must be positive, but is -3"),
        ("ea:spins=16", "have no option 'spins'; the options are problems, size, dimensions"),
        ("ea:field_sd=-1", "`field_sd` must not be negative"),
        ("regular:spins=5", "`degree` must be .* even where num_spins is odd, but is 3 for 5"),
        ("regular:spins=4,degree=4", "`degree` must be from 1 to num_spins - 1"),
        ("regular:problems=-3", "`num_problems` must be positive, but is -3"),
        ("native:topology=kings", "'topology' .* must be chimera or pegasus or zephyr"),
        ("native:size=0", "`size` must be at least 1 for zephyr, but is 0"),
        ("native:topology=pegasus", "`size` must be at least 2 for pegasus, but is 1"),
    ],
)
def test_wrong_options_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        problems.named(name)


@pytest.mark.usefixtures("as_users_call")
def test_wrong_words_are_refused_in_python():
    with pytest.raises(ValueError, match="`couplings` must be binary or gaussian, but is 'spins'"):
        problems.random_regular(couplings="spins")
    with pytest.raises(ValueError, match="`topology` must be chimera, pegasus or zephyr"):
        problems.qpu_native(topology="kings")
