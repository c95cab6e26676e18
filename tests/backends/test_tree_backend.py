"""The backend of tree decomposition."""

import pytest
import torch

import qattn
from qattn import IsingBatch, exact
from qattn.backends import TreeBackend
from qattn.compare.results import plain_info
from qattn.testing import BackendConformance


class TestTree(BackendConformance):
    def make_backend(self):
        return TreeBackend()


def chain(n, queries=1):
    J = torch.diag(torch.full((n - 1,), 0.5), 1)
    h = torch.linspace(-1, 1, queries * n).view(1, queries, n)
    return IsingBatch(h, (J + J.mT).unsqueeze(0))


def test_info_says_how_wide_and_log_Z():
    samples = qattn.get_backend("tree").sample(chain(8, queries=3), num_reads=5, seed=0)
    assert samples.info["treewidth"] == 1
    expected = exact.log_partition(chain(8, queries=3)).double()
    torch.testing.assert_close(samples.info["log_Z"], expected, rtol=1e-5, atol=0)
    assert plain_info(samples.info).keys() == {"treewidth", "seconds"}  # no tensors in reports


def test_refined_reads_and_large_problems():
    samples = qattn.get_backend("tree", refine_sweeps=1).sample(chain(300), num_reads=50, seed=1)
    assert samples.spins.shape == (1, 1, 50, 300)


def test_dense_couplings_are_refused_with_the_width():
    dense = IsingBatch(torch.zeros(1, 1, 40), 1 - torch.eye(40).unsqueeze(0))
    with pytest.raises(ValueError, match=r"treewidth up to 25, .* treewidth at least 39"):
        TreeBackend().sample(dense, num_reads=5, seed=0)
