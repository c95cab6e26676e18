"""Long runs on disk: what is read is what was written, and damage costs a warning."""

import dataclasses
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from qattn.quality.tempered import stored


def a_run(n=11):
    rng = np.random.default_rng(0)
    arrays = {
        field.name: rng.normal(size=n)
        for field in dataclasses.fields(stored.LongRun)
        if field.name not in ("reads", "round_trips", "z2", "num_sweeps", "in_equilibrium")
    }
    reads = (2 * rng.integers(2, size=(30, n)) - 1).astype(np.int8)
    scalars = {"round_trips": 20.5, "z2": 1.1, "num_sweeps": 1000, "in_equilibrium": True}
    return stored.LongRun(**arrays, reads=reads, **scalars)


def assert_same(run, other):
    for field in dataclasses.fields(run):
        one, two = getattr(run, field.name), getattr(other, field.name)
        assert type(one) is type(two)
        assert np.array_equal(one, two)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(stored.FOLDER_VARIABLE, str(tmp_path / "references"))
    return tmp_path / "references"


def test_a_run_comes_back_as_it_was(folder):
    file = stored.file_of(np.arange(3.0), 7, "settings")
    assert file.parent == folder
    assert stored.load(file) is None
    stored.save(a_run(), file)
    assert_same(a_run(), stored.load(file))
    assert [f.name for f in folder.iterdir()] == [file.name]


def test_names_depend_on_everything(folder):
    names = {
        stored.file_of(np.arange(3.0), 7),
        stored.file_of(np.arange(3.0), 8),
        stored.file_of(np.arange(3.0) + 1e-15, 7),
        stored.file_of(np.arange(3.0)[None], 7),
        stored.file_of(np.arange(3), 7),
    }
    assert len(names) == 5
    assert stored.file_of(np.arange(3.0), 7) in names


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_damaged_file_is_not_read(folder, keep):
    file = stored.file_of("damaged")
    stored.save(a_run(), file)
    content = file.read_bytes()
    cut = content[: int(keep * len(content)) if isinstance(keep, float) else keep]
    file.write_bytes(cut)
    with pytest.warns(UserWarning, match=r"is damaged .* computed anew"):
        assert stored.load(file) is None


def test_a_flipped_byte_changes_no_result(folder):
    file = stored.file_of("flipped")
    stored.save(a_run(), file)
    content = file.read_bytes()
    damaged = 0
    for place in range(0, len(content), len(content) // 50):
        flipped = bytearray(content)
        flipped[place] ^= 0xFF
        file.write_bytes(flipped)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            run = stored.load(file)
        if run is None:
            damaged += 1
            assert "is damaged" in str(caught[0].message)
        else:
            assert_same(a_run(), run)  # dates and the like
    assert damaged > 20


def test_none_are_kept_where_they_are_switched_off(monkeypatch):
    monkeypatch.setenv(stored.FOLDER_VARIABLE, "off")
    assert stored.file_of("anything") is None
    stored.save(a_run(), None)
    assert stored.load(None) is None


def test_a_folder_that_cannot_be_written_to_costs_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(stored.FOLDER_VARIABLE, str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="could not be kept"):
        stored.save(a_run(), stored.file_of("run"))


def test_who_reads_while_others_write_sees_a_whole_run(folder):
    file = stored.file_of("shared")
    stored.save(a_run(), file)
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("error")
        writers = [pool.submit(stored.save, a_run(), file) for _ in range(40)]
        readers = [pool.submit(stored.load, file) for _ in range(40)]
        for reader in readers:
            assert_same(a_run(), reader.result())
        for writer in writers:
            writer.result()
    assert [f.name for f in folder.iterdir()] == [file.name]
