"""What a call does once: find its packing, program its problems, read its plans."""

from collections import Counter

import numpy as np
import pytest
from _support.qpu_backends import backend_of

from qattn import problems
from qattn.field_encoding import FieldEncoding
from qattn.hardware.calls.journal import Journal
from qattn.hardware.embedding import find_packing
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.emulator import EmulatedQPU

pytestmark = pytest.mark.usefixtures("packings_are_kept")

BATCH = problems.synthetic(20, 5, field_sd=0.4, coupling_sd=0.3, seed=3)


@pytest.fixture
def counts(monkeypatch):
    """How often packings are loaded and checked, problems programmed, arrays read back."""
    counter = Counter()

    def counted(owner, name, label):
        original = getattr(owner, name)

        def counting(*arguments, **options):
            counter[label(*arguments)] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, counting)

    counted(find_packing, "load_packing", lambda *_: "load")
    counted(Packing, "__post_init__", lambda *_: "check")
    counted(FieldEncoding, "encode_batch", lambda *_: "program")
    counted(Journal, "arrays", lambda _, kind, name: kind)
    return counter


def test_a_call_of_three_jobs(tmp_path, counts):
    options = {"spin_reversal_transforms": 3, "follow_betas": True}
    with EmulatedQPU(shape=(3, 4)) as qpu:
        backend = backend_of(qpu, tmp_path, **options)
        journal = backend.session.journal.folder
        backend.sample(BATCH, num_reads=9, seed=0)  # finds the packing, or makes it
        counts.clear()
        samples = backend.sample(BATCH, num_reads=9, seed=1)
        backend.close()
        assert samples.info["num_jobs"] == 3
        assert counts == {"program": 1, "answers": 3}

        # Another process has nothing in memory: the packing and each plan are read once.
        other = backend_of(qpu, tmp_path, journal=journal, **options)
        counts.clear()
        again = other.sample(BATCH, num_reads=9, seed=1)
        other.close()
        assert np.array_equal(again.spins, samples.spins)
        assert counts == {"load": 1, "check": 1, "program": 1, "jobs": 3, "answers": 3}


def test_the_journals_packing_is_the_one_in_memory(tmp_path):
    with EmulatedQPU(shape=(3, 4)) as qpu:
        backend = backend_of(qpu, tmp_path)
        backend.sample(BATCH, num_reads=4, seed=0)
        packing = backend.session.device.packing(6)
        (job,) = {job.packing for job in backend.session.journal.jobs.values()}
        stored = Packing.from_arrays(backend.session.journal.arrays("packings", job))
        backend.close()
    assert stored.digest == packing.digest == job
    assert np.array_equal(stored.chains, packing.chains)
    assert stored.graph.digest == packing.graph.digest
    assert stored.graph.graph_id == packing.graph.graph_id
