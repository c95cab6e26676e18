"""The transformer head: odd, causal, the same while spins are drawn and afterwards; it learns."""

import pytest
import torch
from _support.annealing import problems
from _support.brute_force import all_states
from scipy.sparse.csgraph import shortest_path

from qattn.exact import memory
from qattn.ising.batch import IsingBatch
from qattn.problems import edwards_anderson
from qattn.simulators.autoregressive import AutoregressiveNet, Plan
from qattn.simulators.autoregressive.head import Transformer, transformer
from qattn.simulators.autoregressive.head.scopes import BUCKETS, distances
from qattn.simulators.autoregressive.models import Models, as_columns
from qattn.simulators.autoregressive.orders import plan_of
from qattn.simulators.autoregressive.pair import Pair


def adjacency_of(batch):
    return (batch.matrix != 0).any(0)


def net_for(batch, *, layers=2, dtype=torch.float32, spread=0.2):
    """A head alone, away from its start."""
    plan = plan_of(adjacency_of(batch))
    head = Transformer(plan, adjacency_of(batch), layers, width=16, heads=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += spread * torch.randn(parameter.shape, generator=generator)
    return AutoregressiveNet(plan, [head]).to(dtype)


def lattice(size=5, *, fields=0.5):
    """Two groups, two queries each."""
    batch = edwards_anderson(2, size, field_sd=fields)
    return IsingBatch(torch.cat([batch.h, batch.h.flip(0)], 1), batch.J)


def logits_of(net, batch, columns):
    with torch.no_grad():
        positions = torch.arange(net.plan.num_spins)
        return net.parts[0].of_states(net.arranged(batch), columns, positions)


def states(net, batch, reads=6):
    generator = torch.Generator().manual_seed(1)
    shape = (batch.num_groups, net.plan.num_spins, batch.num_queries * reads)
    return (2 * torch.randint(2, shape, generator=generator) - 1).to(net.arranged(batch).h.dtype)


def test_unfitted_head_adds_nothing():
    batch = lattice()
    plan = plan_of(adjacency_of(batch))
    net = AutoregressiveNet(plan, [Transformer(plan, adjacency_of(batch))])
    columns = states(net, batch)
    assert torch.equal(logits_of(net, batch, columns), torch.zeros_like(columns))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("graph", ["dense", "lattice"])
@pytest.mark.parametrize("lengths", [None, (40, 64)])
def test_drawn_as_rescored(graph, dtype, close, lengths):
    """64 spins: level by level with cached keys and values, and all positions at once."""
    lengths = lengths and torch.tensor(lengths)
    batch = problems(64, couplings=0.1, lengths=lengths)
    if graph == "lattice":
        batch = IsingBatch(batch.h, lattice(8).matrix, lengths)
    net = net_for(batch, dtype=dtype)
    models = net.arranged(batch)
    spins, log_q = net.draw(models, 20, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(net.log_q(models, spins), log_q, rtol=0, atol=close)


def test_spin_that_sees_itself_is_found():
    """Its own slot among the keys of the last position, empty while it is drawn, full later."""
    batch = lattice()
    net = net_for(batch)
    models = net.arranged(batch)
    scopes = net.parts[0].scopes
    scopes.index[-1, 0] = net.plan.num_spins
    spins, log_q = net.draw(models, 20, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(net.log_q(models, spins), log_q, rtol=0, atol=1e-3)


def test_odd_in_spins_and_fields_together():
    batch = lattice()
    net = net_for(batch)
    columns = states(net, batch)
    turned = IsingBatch(-batch.h, batch.J)
    logits = logits_of(net, batch, columns)
    assert torch.equal(logits_of(net, turned, -columns), -logits)
    # In the spins alone only without fields.
    assert not torch.allclose(logits_of(net, batch, -columns), -logits, atol=1e-2)
    free = IsingBatch(torch.zeros_like(batch.h), batch.J)
    assert torch.equal(logits_of(net, free, -columns), -logits_of(net, free, columns))


def test_each_read_by_itself():
    """Reads in another order, and one alone, have the same logits."""
    batch = lattice()
    net = net_for(batch, dtype=torch.float64)
    reads = states(net, batch).unflatten(2, (2, -1))
    logits = logits_of(net, batch, reads.flatten(2)).unflatten(2, (2, -1))
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    for chosen in (order, order[:1]):
        other = logits_of(net, batch, reads[..., chosen].flatten(2)).unflatten(2, (2, -1))
        assert torch.allclose(other, logits[..., chosen], rtol=0, atol=1e-12)


def test_groups_and_queries_are_models_of_their_own():
    batch = lattice()
    net = net_for(batch, dtype=torch.float64)
    columns = states(net, batch)
    logits = logits_of(net, batch, columns)
    for g in range(2):
        for q in range(2):
            one = IsingBatch(batch.h[g : g + 1, q : q + 1], batch.matrix[g : g + 1])
            of_query = slice(6 * q, 6 * q + 6)
            alone = logits_of(net, one, columns[g : g + 1, :, of_query])
            assert torch.allclose(alone[0], logits[g, :, of_query], rtol=0, atol=1e-12)


def test_beta_is_inside():
    """β times fields and couplings, in the models."""
    batch = lattice()
    net = net_for(batch, dtype=torch.float64)
    columns = states(net, batch)
    scaled = IsingBatch(0.5 * batch.h, 0.5 * batch.matrix)
    cooler = IsingBatch(batch.h, batch.J, beta=0.5)
    assert torch.allclose(logits_of(net, scaled, columns), logits_of(net, cooler, columns))


def test_spins_outside_the_scope_do_not_count():
    """However many layers; those of its own level are outside too."""
    batch = lattice()
    net = net_for(batch, layers=3, dtype=torch.float64)
    columns = states(net, batch)
    logits = logits_of(net, batch, columns)
    seen = net.plan.mask.mT
    for j in range(net.plan.num_spins):
        other = columns.clone()
        other[:, j] *= -1
        changed = (logits_of(net, batch, other) != logits).any(2).any(0)
        assert torch.equal(changed, seen[j])


@pytest.mark.parametrize("layers", [1, 2])
def test_chunks_of_positions(layers, monkeypatch):
    batch = lattice()
    net = net_for(batch, layers=layers, dtype=torch.float64)
    columns = states(net, batch)
    logits = logits_of(net, batch, columns)
    monkeypatch.setattr(transformer, "CHUNK", 1)
    assert torch.allclose(logits_of(net, batch, columns), logits, rtol=0, atol=1e-12)


def test_distances():
    graph = lattice(5).matrix[0] != 0
    graph[3], graph[:, 3] = False, False
    expected = torch.from_numpy(shortest_path(graph.numpy(), unweighted=True))
    assert torch.equal(distances(graph).double(), expected.clamp(max=BUCKETS + 1))
    path = torch.ones(12).diag(1)[:12, :12] > 0
    assert distances(path | path.mT)[0].tolist() == [*range(BUCKETS + 1), 9, 9, 9]


def test_divergence_falls_when_it_is_fitted():
    """Exact divergence from the pair logit's sampler, ten spins at β = 2."""
    batch = problems(10, groups=1, queries=1, fields=0.0, couplings=0.3, beta=2.0)
    plan = Plan.dense(10)
    net = AutoregressiveNet(plan, [Pair(), Transformer(plan, adjacency_of(batch), 1, 16, 2)])
    models = Models.arranged(batch, plan)
    columns = as_columns(all_states(10)[None, None].to(torch.int8), plan, torch.float32)
    minus_energies = -models.energies(columns)

    def divergence():
        log_q = net.log_q(models, columns)
        return (log_q.exp() * (log_q - minus_energies)).sum() + minus_energies.logsumexp(1).sum()

    before = divergence().item()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        divergence().backward()
        optimizer.step()
    assert 0 < divergence().item() < before / 4


def test_memory_is_refused_before_it_is_taken(monkeypatch):
    batch = lattice()
    net = net_for(batch)
    monkeypatch.setattr(memory, "MEMORY_LIMIT", 1000)
    with pytest.raises(MemoryError, match=r"2 groups x 25 positions x .* keys need .* GiB"):
        net.draw(net.arranged(batch), 1, torch.Generator())


def test_wrong_sizes():
    plan, adjacency = Plan.dense(3), ~torch.eye(3, dtype=torch.bool)
    with pytest.raises(ValueError, match="`layers` must be positive, but is 0"):
        Transformer(plan, adjacency, 0)
    with pytest.raises(ValueError, match="`width` must be a multiple of the 4 heads, but is 30"):
        Transformer(plan, adjacency, 1, 30)


def test_same_seed_same_head():
    plan, adjacency = Plan.dense(3), ~torch.eye(3, dtype=torch.bool)
    one, two, other = (Transformer(plan, adjacency, 1, seed=s).tokens.site for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
