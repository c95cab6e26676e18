"""Sessions: bounded in number, no submission repeated, and the token at one address only."""

import dataclasses
import io
import os
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from _support.loopback import Recorder
from _support.qpu_backends import HASTE, accepted, backend_of

from qattn import problems
from qattn.hardware.calls.journal import Journal
from qattn.hardware.doctor.setup_checks import reach
from qattn.hardware.emulator import EmulatedQPU
from qattn.hardware.emulator.tls import server_context
from qattn.hardware.service.credentials import Credentials
from qattn.hardware.service.device import SolverUnavailable, connect
from qattn.hardware.service.secret import Secret
from qattn.hardware.service.sessions import RedirectRefused, never_redirected
from qattn.hardware.service.solver_api import Unclear

pytestmark = pytest.mark.usefixtures("packings_are_kept")

TOKEN = "TEST-of-the-sessions"
BATCH = problems.synthetic(1, 3, field_sd=0.3, coupling_sd=0.2, seed=0)


def connected(qpu):
    return connect(Credentials(Secret(qpu.token), endpoint=qpu.endpoint))


# --- what is sent once


@pytest.fixture
def https(tmp_path, monkeypatch):
    """An emulator that serves https, which the client trusts as the documentation says."""
    certificate = tmp_path / "certificate.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with EmulatedQPU(shape=(2, 4), tls=certificate) as running:
        yield running


def test_a_submission_after_which_tls_breaks_is_sent_once(https, tmp_path):
    """urllib3 repeats a request of any method after an error of TLS: eleven jobs for one."""
    backend = backend_of(https, tmp_path)
    backend.open()
    https.fault("submit", "tls")
    samples = backend.sample(BATCH, num_reads=5, seed=1)
    journal = backend.session.journal.folder
    backend.close()
    assert bool((samples.spins != 0).all())
    assert len(https.jobs) == 1
    assert accepted(Journal(journal, read_only=True)) == 1


def test_a_certificate_that_is_not_trusted(https, monkeypatch):
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    write_dwave_conf(http_retry_total=0)
    with pytest.raises(SolverUnavailable, match="certificate verify failed"):
        connected(https)


def write_dwave_conf(**options):
    """What only Ocean knows, in its file of the working folder."""
    lines = "".join(f"{name} = {value}\n" for name, value in options.items())
    Path("dwave.conf").write_text(f"[defaults]\n{lines}")


def test_a_request_fails_for_as_long_as_the_policy_says(tmp_path):
    """And one request more: below, each was repeated ten times, for half a minute."""
    write_dwave_conf(request_timeout=0.5)
    policy = dataclasses.replace(HASTE, failing=1.0)
    with EmulatedQPU(shape=(1, 2)) as qpu:
        backend = backend_of(qpu, tmp_path, retry_policy=policy)
        backend.open()
        qpu.fault("poll", "slow", times=1000, seconds=30.0)
        start = time.monotonic()
        with pytest.raises(SolverUnavailable, match="cannot be fetched"):
            backend.sample(BATCH, num_reads=5, seed=1)
        assert time.monotonic() - start < 15
        backend.close()


def test_fault_of_tls_without_tls():
    with EmulatedQPU(shape=(1, 2)) as qpu, pytest.raises(ValueError, match="setting `tls`"):
        qpu.fault("submit", "tls")


def test_sessions_are_as_many_as_requests_at_a_time():
    """However many threads come and go: with one session for each, a long run has no files left."""
    with EmulatedQPU(shape=(1, 2)) as qpu:
        device = connected(qpu)
        together = threading.Barrier(3)

        def ask():
            device.service.find("no such job")

        def ask_together():
            together.wait(timeout=10)
            ask()

        with ThreadPoolExecutor(3) as pool:
            for asked in [pool.submit(ask_together) for _ in range(3)]:
                asked.result()
        open_files = len(os.listdir("/proc/self/fd"))
        for _ in range(6):
            with ThreadPoolExecutor(3) as pool:
                for asked in [pool.submit(ask) for _ in range(3)]:
                    asked.result()
        idle = device.service._sessions._idle
        assert 1 <= len(idle) <= 3
        assert len(os.listdir("/proc/self/fd")) <= open_files + 4
        device.close()
        assert not device.service._sessions._idle


# --- where the token goes


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_request_follows_a_redirect(status):
    """Neither the solvers' definitions, nor the doctor's request, nor jobs; 307 sent their data."""
    with Recorder() as second, Recorder(second.url, status) as first:
        credentials = Credentials(Secret(TOKEN), endpoint=f"{first.url}/sapi/v2/")
        where = rf"redirects to {second.url} \(HTTP {status}\), where the token is not sent"
        with pytest.raises(SolverUnavailable, match=where) as refused:
            connect(credentials)
        assert TOKEN not in str(refused.value)
        reached = reach(credentials, timeout=5.0)
        assert not reached.answers
        assert "redirects to" in reached.reason
        assert [headers["X-Auth-Token"] for _, headers, _ in first.seen] == [TOKEN, TOKEN]
        assert second.seen == []


def test_no_job_follows_a_redirect():
    with EmulatedQPU(shape=(1, 2)) as qpu:
        device = connected(qpu)
        u, v = sorted(device.solver.edges)[0]
        asked = {
            "submit": lambda: device.service.submit(device.solver, {u: 0.0, v: 0.0}, {}, {}, "a"),
            "list": lambda: device.service.find("a"),
            "poll": lambda: device.service.status("b", 1.0),
            "answer": lambda: device.service.answer("b"),
            "solvers": device.refreshed,
        }
        for where, request in asked.items():
            qpu.fault(where, "redirect")
            with pytest.raises((Unclear, SolverUnavailable)):
                request()
        assert qpu.redirects_followed == 0
        assert qpu.jobs == []
        device.close()


def test_from_https_to_http(tmp_path, monkeypatch):
    certificate = tmp_path / "certificate.pem"
    context = server_context(certificate)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with Recorder() as second, Recorder(second.url, tls=context) as first:
        assert isinstance(context, ssl.SSLContext)
        assert first.url.startswith("https")
        with pytest.raises(SolverUnavailable, match=rf"redirects to {second.url}"):
            connect(Credentials(Secret(TOKEN), endpoint=first.url))
        assert len(first.seen) == 1
        assert second.seen == []


def test_a_definition_that_has_not_changed_is_no_redirect():
    """304 is what the service answers to a client that has the definition in its cache."""
    response = requests.Response()
    response.status_code, response.url, response.raw = 304, "https://example.com/", io.BytesIO()
    session = never_redirected(requests.Session())
    for hook in session.hooks["response"]:
        hook(response)
    response.status_code = 305
    with pytest.raises(RedirectRefused, match=r"redirects \(HTTP 305\)"):
        session.hooks["response"][0](response)
