"""What the emulated service takes: bodies, time-outs and filters, as D-Wave documents them."""

import gzip
import json
import time
import zlib

import pytest
import requests

from qattn.hardware.emulator import EmulatedQPU
from qattn.hardware.emulator import http as service


@pytest.fixture(scope="module")
def qpu():
    with EmulatedQPU(shape=(1, 2), default_wait=0.2) as running:
        yield running


def ask(qpu, method, path, token=None, **kwargs):
    headers = kwargs.pop("headers", {}) | {"X-Auth-Token": token or qpu.token}
    return requests.request(method, qpu.endpoint + path, headers=headers, timeout=20, **kwargs)


def submitted(qpu, label):
    """A job that is refused as soon as it runs."""
    solver = {"name": qpu.name, "version": {"graph_id": qpu.graph_id}}
    job = {"solver": solver, "data": {"format": "?"}, "type": "ising", "params": {}, "label": label}
    return ask(qpu, "post", "problems/", data=json.dumps([job])).json()[0]["id"]


def test_no_body_is_inflated_before_the_token_is_known(qpu, monkeypatch):
    """A kilobyte may be gigabytes: only who has the token may send it."""
    inflated = []
    monkeypatch.setattr(service, "_inflated", lambda *body: inflated.append(body))
    bomb = zlib.compress(bytes(10 * 2**20))
    response = ask(
        qpu, "post", "problems/", "another", data=bomb, headers={"Content-Encoding": "deflate"}
    )
    assert response.status_code == 401
    assert inflated == []
    # Nor is a large one kept: the response comes though the body is longer than is ever read.
    assert ask(qpu, "post", "problems/", "another", data=bytes(2**20)).status_code == 401


@pytest.mark.parametrize(
    ("encoding", "compress"), [("deflate", zlib.compress), ("gzip", gzip.compress)]
)
def test_bodies_are_bounded(qpu, monkeypatch, encoding, compress):
    monkeypatch.setattr(service, "MAX_BODY", 1000)
    headers = {"Content-Encoding": encoding}
    for body, status in ((b"[" + b" " * 998 + b"]", 200), (bytes(1001), 413)):
        assert ask(qpu, "post", "problems/", data=compress(body), headers=headers).status_code == (
            status
        )
    assert ask(qpu, "post", "problems/", data=b" " * 1001).status_code == 413
    chunks = iter([b" " * 600] * 2)
    assert ask(qpu, "post", "problems/", data=chunks).status_code == 413
    cut = compress(b"[]")[:-3]
    assert ask(qpu, "post", "problems/", data=cut, headers=headers).status_code == 400
    assert ask(qpu, "get", "problems/").status_code == 200  # the service goes on


@pytest.mark.parametrize("value", ["0", "31", "1.0", "-1", "x", ""])
def test_a_timeout_that_is_no_integer_from_1_to_30(qpu, value):
    """SAPI REST Interface: 400 if timeout is specified as an unsupported value."""
    id_ = submitted(qpu, "a")
    for path in (f"problems/?id={id_}", f"problems/{id_}/", "problems/?label=a"):
        joint = "&" if "?" in path else "?"
        expected = 200 if value == "" else 400  # an empty value counts as none
        assert ask(qpu, "get", f"{path}{joint}timeout={value}").status_code == expected
        assert ask(qpu, "get", f"{path}{joint}timeout=1").status_code == 200


def test_labels_that_contain_the_text(qpu):
    """SAPI REST Interface, Filter Keys: "Labels that contain the given text"."""
    ids = [submitted(qpu, label) for label in ("part-1", "part-12", "whole")]
    listed = ask(qpu, "get", "problems/?label=part-1").json()
    assert [job["id"] for job in listed] == ids[1::-1]
    assert ask(qpu, "get", "problems/?label=part-12").json()[0]["id"] == ids[1]
    assert ask(qpu, "get", "problems/?label=Part").json() == []


def test_a_listing_without_an_ended_job_is_held_back(qpu):
    """SAPI REST Interface: up to one second "unless at least one problem has completed"."""
    submitted(qpu, "there")
    start = time.monotonic()
    ask(qpu, "get", "problems/?label=nothing of this label")
    assert time.monotonic() - start >= 0.2
    start = time.monotonic()
    ask(qpu, "get", "problems/?label=there&timeout=15")
    assert time.monotonic() - start < 15
