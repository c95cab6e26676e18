"""The engine as an operation that can be traced, and constants that no tracing spoils."""

import subprocess
import sys

import pytest
import torch
from _support.brute_force import random_couplings
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import vmap

from qattn import IsingBatch, boltzmann_attention, exact
from qattn.exact.dense import layout, operator
from qattn.ising.states import states

LENGTHS = torch.tensor([[5, 3, 1, 4], [2, 5, 5, 0]])
KINDS = {"occupations": (False, False), "normalised": (False, True), "log Z": (True, False)}
cases = pytest.mark.parametrize(
    ("wants_log_Z", "normalize"), [pytest.param(*kind, id=name) for name, kind in KINDS.items()]
)


def example():
    torch.manual_seed(0)
    h = torch.randn(2, 4, 5, dtype=torch.float64)
    return h, random_couplings(2, 5, 0.8, dtype=torch.float64)


def value(h, J, lengths, wants_log_Z, normalize):
    batch = IsingBatch(h, J, lengths, validate=False)
    return (
        exact.log_partition(batch) if wants_log_Z else exact.occupations(batch, normalize=normalize)
    )


@cases
@pytest.mark.parametrize("lengths", [None, LENGTHS[0], LENGTHS])
def test_the_operation_equals_the_engine(lengths, wants_log_Z, normalize):
    results = []
    for function in (operator.moments, value):
        h, J = (x.requires_grad_() for x in example())
        out = function(h, J, lengths, wants_log_Z, normalize)
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        results.append((out, *torch.autograd.grad((out * weights).sum(), (h, J))))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@cases
def test_pytorch_finds_no_fault_with_the_operation(wants_log_Z, normalize):
    for requires_grad in (False, True):
        h, J = (x.requires_grad_(requires_grad) for x in example())
        arguments = (h, J, LENGTHS, wants_log_Z, normalize)
        torch.library.opcheck(torch.ops.qattn.exact_moments.default, arguments)


def test_members_of_a_vmap_are_further_groups():
    h, J = example()
    members = torch.stack([h, 2 * h, -h])
    for lengths in (None, LENGTHS[0], LENGTHS):
        found = vmap(lambda h, lengths=lengths: operator.moments(h, J, lengths, False, False))(
            members
        )
        expected = [value(x, J, lengths, False, False) for x in members]
        torch.testing.assert_close(found, torch.stack(expected))


@cases
def test_batched_gradients(wants_log_Z, normalize):
    h, J = (x.requires_grad_() for x in example())
    for lengths in (None, LENGTHS[0], LENGTHS):
        out = value(h, J, lengths, wants_log_Z, normalize)
        vectors = torch.randn(3, *out.shape, dtype=torch.float64)
        keep = {"retain_graph": True}
        batched = torch.autograd.grad(out, (h, J), vectors, is_grads_batched=True, **keep)
        for i, vector in enumerate(vectors):
            alone = torch.autograd.grad(out, (h, J), vector, **keep)
            torch.testing.assert_close(tuple(x[i] for x in batched), alone)


def attend():
    query, key, value = torch.randn(3, 2, 2, 5, 4, requires_grad=True).unbind(0)
    out = boltzmann_attention(
        query, key, value, torch.zeros(2, 5, 5), normalize=True, is_causal=True
    )
    out.sum().backward()
    return out


def test_shapes_without_values():
    with FakeTensorMode():
        assert attend().shape == (2, 2, 5, 4)
    with torch.device("meta"):
        assert attend().is_meta


def in_fake_mode(function):
    with FakeTensorMode():
        function()


def on_meta(function):
    with torch.device("meta"):
        function()


def in_inference_mode(function):
    with torch.inference_mode():
        function()


CACHES = [layout._cut, layout.masks, layout.tables, states]


@pytest.mark.parametrize("surroundings", [in_fake_mode, on_meta, in_inference_mode])
def test_first_calls_leave_no_trace_in_later_ones(surroundings):
    # What is cached is made in surroundings of all kinds, then used in ordinary ones.
    for cache in CACHES:
        cache.cache_clear()

    def fill():
        cpu = torch.device("cpu")
        lay = layout._cut(((3, 5, 2, 5),), 1, 4, 6, by_loops=False)
        for block in lay.blocks:
            layout.tables(block.num_spins, torch.float32, cpu)
            layout.masks(block, 1, torch.float32, cpu)
        states(4, torch.float32, cpu)

    surroundings(fill)
    attend()  # first with what depends on no batch
    h = torch.randn(1, 4, 5, requires_grad=True)
    batch = IsingBatch(h, random_couplings(1, 5, 0.5), torch.tensor([3, 5, 2, 5]))
    found = exact.occupations(batch)
    (grad,) = torch.autograd.grad(found.square().sum(), h)
    reads = exact.sample(batch, 10, seed=0).spins
    lay = layout.cut(batch.lengths, 1, 4, 5)
    tab = layout.tables(6, torch.float32, torch.device("cpu"))
    for x in (lay.order, *tab, states(4, torch.float32, torch.device("cpu"))):
        assert type(x) is torch.Tensor
        assert not x.is_inference()
        assert x.device.type == "cpu"
    for cache in CACHES:
        cache.cache_clear()
    torch.testing.assert_close(exact.occupations(batch), found)
    torch.testing.assert_close(
        torch.autograd.grad(exact.occupations(batch).square().sum(), h)[0], grad
    )
    assert torch.equal(exact.sample(batch, 10, seed=0).spins, reads)


SCRIPT = """
import warnings

warnings.simplefilter("error")
import torch
from qattn import IsingBatch, boltzmann_attention, exact

torch.manual_seed(0)
torch.set_num_threads(1)
upper = torch.randn(2, 5, 5).triu(1)
query, key, value = torch.randn(3, 3, 2, 5, 4)
arguments = query, key, value, upper + upper.mT

def function(query, key, value, J):
    out = boltzmann_attention(query, key, value, J, normalize=True, beta=0.7, is_causal=True)
    h = torch.nn.functional.pad(query[0], (0, 1))
    return out, exact.log_partition(IsingBatch(h, J, torch.tensor([1, 5, 3, 4, 5])))

results = []
for f in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
    leaves = [x.clone().requires_grad_() for x in arguments]
    out = f(*leaves)
    gradients = torch.autograd.grad(sum(x.square().sum() for x in out), leaves)
    results.append((*out, *gradients))
torch.testing.assert_close(*results)

class Module(torch.nn.Module):
    def forward(self, *x):
        return function(*x)

exported = torch.export.export(Module(), arguments).module()
torch.testing.assert_close(exported(*arguments), function(*arguments))
"""


@pytest.mark.slow
def test_compiling_and_exporting_without_a_graph_break_or_warning():
    # In a process of its own: the shape checks that tests have would be traced too.
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
