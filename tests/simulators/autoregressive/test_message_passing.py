"""Belief propagation in the logit: the same as on a whole graph, exact on trees, Bethe's means."""

import networkx as nx
import pytest
import torch

from qattn import mean_field
from qattn.exact import tree
from qattn.ising.batch import IsingBatch
from qattn.problems.graphs import edwards_anderson, random_regular
from qattn.simulators.autoregressive import AutoregressiveNet, Models, importance
from qattn.simulators.autoregressive.message_passing import MessagePassing
from qattn.simulators.autoregressive.message_passing.gain import attenuation_of
from qattn.simulators.autoregressive.message_passing.messages import message
from qattn.simulators.autoregressive.orders import plan_of


def net_of(batch, *, order="min-fill", **options):
    adjacency = (batch.matrix != 0).any(0)
    plan = plan_of(adjacency, order)
    return AutoregressiveNet(plan, [MessagePassing(plan, adjacency, **options)])


def with_fields(batch, num_queries=1, lengths=None, seed=0):
    """The batch in float64 with fields of its own for each query."""
    g = torch.Generator().manual_seed(seed)
    shape = batch.num_groups, num_queries, batch.num_spins
    h = 0.3 * torch.randn(shape, generator=g, dtype=torch.float64)
    return IsingBatch(h, batch.matrix.double(), lengths=lengths, beta=batch.beta)


def on_whole_graph(net, models, spins, num_steps):
    """Logits of all positions, each by message passing over all spins that are not drawn."""
    g, n, columns = spins.shape
    reads = columns // models.num_queries
    h, present = models.to_columns(models.h, reads), torch.ones_like(spins)
    if models.active is not None:
        present = models.to_columns(models.active, reads).to(spins)
    attenuation = models.to_columns(attenuations(net, models), reads).view(g, 1, 1, columns)
    neighbours = (models.J != 0).any(0).double()
    found = torch.empty_like(spins)
    for level in net.plan.levels:
        present[:, : level.start] = 0
        later = torch.arange(n) >= level.start
        between = (neighbours * later * later.unsqueeze(1)).unsqueeze(2)
        xi = h + models.J[:, :, : level.start] @ spins[:, : level.start]
        u = spins.new_zeros(g, n, n, columns)  # u[:, l, m] is the message l -> m
        is_open = between.clone()  # before the first step: whether there is such a message
        for _ in range(num_steps):
            cavity = (xi + u.sum(1)).unsqueeze(2) - u.transpose(1, 2)
            u = torch.atanh(models.J.tanh().unsqueeze(3) * cavity.tanh())
            u = u * present.unsqueeze(2) * present.unsqueeze(1)
            into_others = is_open.sum(0).unsqueeze(1) - is_open.transpose(0, 1)
            is_open = between * (into_others > 0)
            u = torch.where(is_open > 0, attenuation, 1) * u
        found[:, level] = 2 * (xi + u.sum(1))[:, level]
    return found


def attenuations(net, models):
    """Of each query: (groups, queries); one for all where there are no lengths."""
    schedule = net.parts[0].schedule
    J = models.J[:, schedule.source, schedule.target].T.unsqueeze(2)
    if models.active is not None:
        return attenuation_of(J, schedule, models.active.double().transpose(0, 1))
    return attenuation_of(J, schedule).expand(-1, models.num_queries)


def largest_gain(J):
    """The largest eigenvalue of B: tanh² J of k -> v, for the messages v -> m that it enters."""
    edges = J.nonzero().tolist()
    B = [[J[k, v].tanh() ** 2 * (v == w and k != m) for k, v in edges] for w, m in edges]
    return torch.linalg.eigvals(torch.tensor(B, dtype=torch.float64)).abs().max()


def random_states(models, num_reads, seed=1):
    g = torch.Generator().manual_seed(seed)
    shape = models.num_groups, models.num_spins, models.num_queries * num_reads
    s = 2.0 * torch.randint(0, 2, shape, generator=g, dtype=torch.float64) - 1
    return s if models.active is None else s * models.to_columns(models.active, num_reads)


@pytest.mark.parametrize("num_steps", [1, 2, 4, 7])
@pytest.mark.parametrize("order", ["natural", "min-fill"])
@pytest.mark.parametrize(("lengths", "coupling"), [(None, 0.4), (None, 0.9), ([16, 11, 0], 0.9)])
def test_window_of_hops_gives_what_the_whole_graph_does(num_steps, order, lengths, coupling):
    lengths = None if lengths is None else torch.tensor(lengths)
    batch = with_fields(edwards_anderson(2, 4, coupling=coupling), 3, lengths)
    net = net_of(batch, order=order, num_steps=num_steps)
    models = Models.arranged(batch, net.plan, torch.float64)
    spins = random_states(models, 5)
    found = net.parts[0].of_states(models, spins, torch.arange(16))
    whole = on_whole_graph(net, models, spins, num_steps)
    if models.active is not None:
        present = models.to_columns(models.active, 5)
        found, whole = found * present, whole * present
    torch.testing.assert_close(found, whole)
    # Negative control: one step less is another logit.
    less = on_whole_graph(net, models, spins, num_steps - 1)
    assert not torch.allclose(found, less, atol=1e-3)


def test_gain_is_an_eigenvalue():
    strong, weak = edwards_anderson(1, 4, coupling=0.9), edwards_anderson(1, 4, coupling=0.4)
    tree_like = IsingBatch(strong.h, strong.matrix.tril(1).triu(-1) * strong.matrix.abs())
    for batch, at_least in ((strong, 1.5), (weak, 0.0), (tree_like, 0.0)):
        net = net_of(batch)
        models = Models.arranged(batch, net.plan, torch.float64)
        gain = largest_gain(models.J[0])
        assert gain >= at_least
        expected = 1 / max(1.0, gain) ** 0.5
        assert abs(attenuations(net, models).item() - expected) < 0.01 * expected
    # Without its last row and column of spins the lattice amplifies less.
    cut = with_fields(strong, 2, torch.tensor([16, 12]))
    whole, fewer = attenuations(net_of(strong), Models.arranged(cut, net_of(strong).plan))[0]
    assert whole < fewer - 0.01


@pytest.mark.parametrize("parameters", ["none", "scalars", "couplings"])
def test_parallel_pass_repeats_the_draw(parameters):
    batch = with_fields(edwards_anderson(2, 4, coupling=0.7), 2, torch.tensor([16, 9]))
    net = net_of(batch, parameters=parameters).double()
    generator = torch.Generator().manual_seed(2)
    for p in net.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=generator)
    models = Models.arranged(batch, net.plan, torch.float64)
    spins, log_q = net.draw(models, 50, generator)
    torch.testing.assert_close(net.log_q(models, spins), log_q)
    some = torch.tensor([0, 3, 8, 15])
    rest = torch.tensor([i for i in range(16) if i not in some])
    parts = net.log_q(models, spins, some) + net.log_q(models, spins, rest)
    torch.testing.assert_close(parts, log_q)


@pytest.mark.parametrize("seed", range(3))
def test_exact_on_trees(seed):
    # Diameter of a random tree of 20 spins is below 19; every read has the same weight Z.
    adjacency = torch.tensor(nx.to_numpy_array(nx.random_labeled_tree(20, seed=seed)))
    g = torch.Generator().manual_seed(seed)
    J = torch.randn(20, 20, generator=g, dtype=torch.float64).triu(1) * adjacency.triu(1)
    batch = with_fields(
        IsingBatch(torch.zeros(1, 1, 20, dtype=torch.float64), (J + J.mT).unsqueeze(0))
    )
    net = net_of(batch, order="natural", num_steps=19)
    models = Models.arranged(batch, net.plan, torch.float64)
    spins, log_q = net.draw(models, 200, torch.Generator().manual_seed(seed))
    found = importance(log_q, models.energies(spins))
    torch.testing.assert_close(found.log_Z, tree.moments(batch).log_Z.flatten())
    torch.testing.assert_close(found.log_Z_bound, found.log_Z)
    short = net_of(batch, order="natural", num_steps=1)
    spins, log_q = short.draw(models, 200, torch.Generator().manual_seed(seed))
    assert importance(log_q, models.energies(spins)).ess < 0.999


def test_first_spin_has_the_mean_of_bethe():
    batch = with_fields(random_regular(1, 20, coupling=0.4))
    net = net_of(batch, num_steps=60)
    models = Models.arranged(batch, net.plan, torch.float64)
    part = net.parts[0]
    spins = torch.zeros(1, 20, 1, dtype=torch.float64)
    logit = part.logits(part.begin(models, 1), net.plan.levels[0], spins)
    solution = mean_field.solve(batch, "bethe")
    assert solution.converged.all()
    means = solution.mean[0, 0, list(net.plan.order[: logit.shape[1]])]
    torch.testing.assert_close((logit[0, :, 0] / 2).tanh(), means, atol=1e-6, rtol=0)


def test_message_is_that_of_the_product_of_tanh_and_safe_where_it_rounds():
    K, H = (x.unsqueeze(0) for x in torch.randn(2, 50, 1, 4, dtype=torch.float64))
    K = K[0, :, :, :1].contiguous().requires_grad_()
    H = H[0].contiguous().requires_grad_()
    torch.testing.assert_close(message(K, H), torch.atanh(K.tanh() * H.tanh()))
    assert torch.autograd.gradcheck(message, (K, H))
    large = torch.tensor([-300.0, -15.0, 15.0, 300.0]).reshape(4, 1, 1)
    found = message(torch.full((4, 1, 1), 12.0), large.expand(4, 1, 2))
    torch.testing.assert_close(
        found[:, 0, 0], torch.tensor([-12.0, -12.0, 12.0, 12.0]), atol=2e-3, rtol=0
    )


def test_gradients():
    batch = with_fields(edwards_anderson(2, 3, coupling=0.5), 1, torch.tensor([8]))
    net = net_of(batch, num_steps=3, parameters="couplings").double()
    part = net.parts[0]
    part.terms.data += 0.1
    models = Models.arranged(batch, net.plan, torch.float64)
    spins = random_states(models, 2)
    chosen = torch.tensor([0, 2, 5])
    names = [name for name, _ in part.named_parameters()]

    def logits(*values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(part, given, (models, spins, chosen))

    part.forward = part.of_states
    values = tuple(p.detach().requires_grad_() for p in part.parameters())
    assert torch.autograd.gradcheck(logits, values)
