"""Field encodings: there and back with the same moments, and known in one place only."""

import ast
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn import IsingBatch, problems
from qattn.field_encoding import SIMULATED, CannotSample, FieldEncoding

ROOT = Path(__file__).parent.parent
NAMES = {str(encoding) for encoding in FieldEncoding}
BATCH = problems.synthetic(12, 4, seed=2)


@st.composite
def batches(draw):
    n, groups, queries = (draw(st.integers(1, most)) for most in (4, 2, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    h, J = (torch.from_numpy(rng.normal(size=(groups, m, n))) for m in (queries, n))
    lengths = torch.tensor(draw(st.lists(st.integers(0, n), min_size=queries, max_size=queries)))
    J = J.triu(1)
    return IsingBatch(h, J + J.mT, lengths, beta=draw(st.floats(0.3, 2.0)))


def all_spins(n):
    """All states of n spins, bit j of their number for spin j, shape (2^n, n)."""
    rows = [row[::-1] for row in itertools.product((-1, 1), repeat=n)]
    return torch.tensor(rows, dtype=torch.int8).reshape(2**n, n)


def boltzmann(h, J):
    """Probabilities of all states, from their definition with the exponent's signs."""
    s = all_spins(len(h)).double()
    return (s @ h + ((s @ J.triu(1)) * s).sum(1)).softmax(0)


def device_probabilities(encoding, programmed, betas, problem):
    """What a device of these betas samples; couplings of a carrier are at the fields' β."""
    size = programmed.sizes[problem]
    h, J = programmed.h[problem, :size], programmed.J[programmed.group[problem], :size, :size]
    scale = torch.full((size, size), betas[1], dtype=torch.float64)
    if encoding.carrier:
        scale[0] = scale[:, 0] = betas[0]
    return boltzmann(-betas[0] * h, -scale * J)


@settings(max_examples=60)
@given(
    batch=batches(),
    encoding=st.sampled_from(FieldEncoding),
    betas=st.tuples(st.floats(0.5, 20.0), st.floats(0.5, 20.0)),
)
def test_what_is_decoded_has_the_targets_moments(batch, encoding, betas):
    programmed = encoding.encode_batch(batch, betas)
    h, J = batch.scaled()
    for problem, n in enumerate(batch.num_active.ravel().tolist()):
        if n == 0:
            assert programmed.sizes[problem] == 0
            continue
        assert programmed.sizes[problem] == n + encoding.carrier
        g, q = divmod(problem, batch.num_queries)
        target = boltzmann(h[g, q, :n], J[g, :n, :n])
        p = device_probabilities(encoding, programmed, betas, problem)
        decoded = encoding.decode_probabilities(p[None])[0]
        assert decoded.tolist() == pytest.approx(target.tolist(), abs=1e-12)
        # Reads of every programmed state, weighted by its probability, give the same moments.
        states = all_spins(n).double()
        spins = encoding.decode_spins(all_spins(n + encoding.carrier)).double()
        assert p @ spins == pytest.approx(target @ states, abs=1e-12)
        pairs, expected = (x.mT @ (w[:, None] * x) for x, w in ((spins, p), (states, target)))
        assert pairs.numpy() == pytest.approx(expected.numpy(), abs=1e-12)
        # Negative control: betas that are 10% off are another distribution.
        wrong = device_probabilities(encoding, programmed, (1.1 * betas[0], betas[1]), problem)
        assert encoding.decode_probabilities(wrong[None])[0].tolist() != pytest.approx(
            target.tolist(), abs=1e-7
        )


@settings(max_examples=40)
@given(batch=batches(), encoding=st.sampled_from(FieldEncoding), seed=st.integers(0, 2**32 - 1))
def test_a_gauge_of_the_target_is_a_gauge_of_what_is_programmed(batch, encoding, seed):
    """h_j and J_jk change sign with spin j: so do the programmed biases, the carrier never."""
    flips = np.random.default_rng(seed).integers(0, 2, batch.num_spins)
    gauge = torch.from_numpy(2.0 * flips - 1)
    flipped = IsingBatch(
        batch.h * gauge, batch.J * torch.outer(gauge, gauge), batch.lengths, batch.beta
    )
    plain, gauged = (encoding.encode_batch(x, (3.0, 4.0)) for x in (batch, flipped))
    with_carrier = torch.cat([torch.ones(encoding.carrier), gauge]).double()
    assert torch.equal(gauged.h, plain.h * with_carrier)
    assert torch.equal(gauged.J, plain.J * torch.outer(with_carrier, with_carrier))
    # The flip of all programmed spins is no flip of the target where a carrier turns with them.
    reads = all_spins(batch.num_spins + encoding.carrier)
    sign = 1 if encoding.carrier else -1
    assert torch.equal(encoding.decode_spins(-reads), sign * encoding.decode_spins(reads))


def test_signs_and_scales_are_dimods():
    """linear = -βh/β_h and quadratic = -βJ/β_J, as dimod's own BQMs of the batch say."""
    warm = IsingBatch(BATCH.h, BATCH.J, beta=0.5)
    programmed = FieldEncoding.DIRECT.encode_batch(warm, (4.0, 8.0))
    for number, bqm in enumerate(warm.to_bqms()):
        linear, (row, col, quadratic), _ = bqm.to_numpy_vectors()
        J = programmed.J[programmed.group[number]].numpy()
        assert programmed.h[number].numpy() == pytest.approx(0.5 * linear / 4.0)
        assert J[row, col] == pytest.approx(0.5 * quadratic / 8.0)
        assert J[col, row] == pytest.approx(0.5 * quadratic / 8.0)


def test_ghost_carries_fields_with_their_own_temperature():
    programmed = FieldEncoding.GHOST.encode_batch(BATCH, (4.0, 8.0))
    assert not programmed.h.any()
    fields = -BATCH.h.reshape(-1, 4).numpy() / 4.0
    assert programmed.J[:, 0, 1:].numpy() == pytest.approx(fields)
    assert programmed.J[3, 1:, 1:].numpy() == pytest.approx(-BATCH.J[0].numpy() / 8.0)
    assert (programmed.sizes == 5).all()


def test_empty_queries_need_no_ghost():
    lengths = torch.tensor([4, 0, 2, 1, 3, 0, 4, 4, 4, 4])
    batch = IsingBatch(BATCH.h, BATCH.J, lengths)
    programmed = FieldEncoding.GHOST.encode_batch(batch, (1.0, 1.0))
    assert programmed.sizes[:6].tolist() == [5, 0, 3, 2, 4, 0]


def test_reads_are_multiplied_by_their_carrier():
    reads = torch.tensor([[[-1, 1, -1], [1, 1, -1]]], dtype=torch.int8)
    for encoding in (FieldEncoding.GHOST, FieldEncoding.ANCILLA):
        assert encoding.decode_spins(reads).tolist() == [[[-1, 1], [1, -1]]]
    assert FieldEncoding.DIRECT.decode_spins(reads) is reads


def test_theorys_betas_as_the_encoding_sees_them():
    seen = {encoding: encoding.betas((4.0, 5.0), "an anneal") for encoding in FieldEncoding}
    assert seen == {"direct": (4.0, 5.0), "ghost": (5.0, 5.0), "ancilla": (4.0, 5.0)}
    assert FieldEncoding.GHOST.betas((-4.0, 5.0), "an anneal") == (5.0, 5.0)
    for encoding in (FieldEncoding.DIRECT, FieldEncoding.ANCILLA):
        with pytest.raises(CannotSample, match=r"^an anneal must have positive effective"):
            encoding.betas((-4.0, 5.0), "an anneal")
    with pytest.raises(CannotSample, match="β_J = -5: use another annealing_time"):
        FieldEncoding.GHOST.betas((4.0, -5.0), "an anneal")


def test_names_are_plain_strings_to_users_and_files():
    assert FieldEncoding.parse("ghost") is FieldEncoding.GHOST
    assert FieldEncoding.GHOST == "ghost"
    assert json.dumps({"field_encoding": FieldEncoding.GHOST}) == '{"field_encoding": "ghost"}'
    assert f"{FieldEncoding.GHOST}" == "ghost"
    assert SIMULATED == ("direct", "ghost")


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("both", None, "must be 'direct', 'ghost' or 'ancilla', but is 'both'."),
        ("ancilla", SIMULATED, "must be 'direct' or 'ghost', but is 'ancilla'."),
        (FieldEncoding.ANCILLA, SIMULATED, "must be 'direct' or 'ghost', but is 'ancilla'."),
    ],
)
def test_unknown_names_are_refused(name, known, message):
    with pytest.raises(ValueError, match=f"^Argument `field_encoding` {message}$"):
        FieldEncoding.parse(name, known)


def sources():
    """Every module of the package but the one that may know."""
    for folder in ("qattn", "hardware", "simulators"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if file.name != "field_encoding.py":
                yield file


def named(node):
    """Whether an expression is, or holds, the name or the member of an encoding."""
    return any(
        (isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value in NAMES)
        or (isinstance(part, ast.Attribute) and part.attr.lower() in NAMES and part.attr.isupper())
        for part in ast.walk(node)
    )


def comparisons(tree):
    """Lines that compare something with an encoding's name, by operator, match or lookup."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared = [node.value]
        elif isinstance(node, ast.Dict):
            compared = [key for key in node.keys if key is not None]
        else:
            continue
        if any(map(named, compared)):
            yield node.lineno


def test_no_other_module_compares_the_names():
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in sources()
        for line in comparisons(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "x == 'ghost'",
        "x in ('direct', 'ghost')",
        "x is FieldEncoding.ANCILLA",
        "{'direct': 1}[x]",
        "match x:\n    case 'ghost':\n        pass",
    ],
)
def test_comparisons_are_seen(code):
    """Negative control of the test before."""
    assert list(comparisons(ast.parse(code)))
