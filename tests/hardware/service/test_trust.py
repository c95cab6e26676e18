"""The token goes to no host that its owner has not named, whatever files lie around."""

import dataclasses
import os
import secrets
from pathlib import Path

import pytest
from _support.loopback import Recorder

from qattn.backends.options import FromFile
from qattn.hardware.emulator import EmulatedQPU
from qattn.hardware.service.credentials import Credentials, InsecureCredentialsWarning, resolve
from qattn.hardware.service.device import SolverUnavailable, connect
from qattn.hardware.service.secret import Secret
from qattn.hardware.service.sessions import regional_endpoint
from qattn.hardware.service.trust import UntrustedEndpointError, needs_no_naming
from qattn.training import RunFolder, TrainConfig, read_settings

pytestmark = pytest.mark.usefixtures("nobodys_machine")

THEIRS = "https://sapi.their-host.invalid/sapi/v2/"


@pytest.fixture
def token(monkeypatch):
    value = f"TEST-{secrets.token_hex(20)}"
    monkeypatch.setenv("DWAVE_API_TOKEN", value)
    return value


def private(path, text):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://cloud.dwavesys.com/sapi/", True),
        ("https://eu-central-1.cloud.dwavesys.com/sapi/v2/", True),
        ("http://cloud.dwavesys.com/sapi/", False),
        ("https://dwavesys.com.evil.example/", False),
        ("https://evil-dwavesys.com/", False),
        ("https://cloud.dwavesys.com@evil.example/", False),
        ("https://evil.example/cloud.dwavesys.com", False),
        ("http://127.0.0.1:8000/sapi/v2/", True),
        ("http://[::1]:8000/", True),
        ("http://localhost/", True),
        ("http://127.0.0.1.evil.example/", False),
        ("http://localhost.evil.example/", False),
    ],
)
def test_hosts_that_need_no_naming(endpoint, expected):
    assert needs_no_naming(endpoint) is expected


def test_endpoint_of_the_working_folder_with_a_token_from_elsewhere(token, tmp_path, monkeypatch):
    private("credentials.toml", f'[dwave]\nendpoint = "{THEIRS}"\n')
    both = (
        r"The token from environment variable DWAVE_API_TOKEN is not sent to "
        r"sapi.their-host.invalid, which credentials.toml names as endpoint.*--endpoint https"
    )
    with pytest.raises(UntrustedEndpointError, match=both) as refused:
        resolve()
    assert token not in str(refused.value)
    # The same with a token from Ocean's file of the user.
    monkeypatch.delenv("DWAVE_API_TOKEN")
    private(tmp_path / "xdg_config_home/dwave/dwave.conf", f"[a]\ntoken = {token}\n")
    with pytest.raises(UntrustedEndpointError, match=r"token from .*dwave.conf is not sent to"):
        resolve()
    # The ways out: the owner names the host.
    assert resolve(endpoint=THEIRS).endpoint == THEIRS
    assert resolve(env=os.environ | {"DWAVE_API_ENDPOINT": THEIRS}).endpoint == THEIRS
    private("credentials.toml", f'[dwave]\ntoken = "{token}"\nendpoint = "{THEIRS}"\n')
    assert resolve().endpoint == THEIRS


def test_oceans_file_of_the_working_folder(token, tmp_path, monkeypatch):
    """Ocean merges ./dwave.conf into the user's own; the file counts, not the merged result."""
    monkeypatch.delenv("DWAVE_API_TOKEN")
    users = tmp_path / "xdg_config_home/dwave/dwave.conf"
    private(users, f"[a]\ntoken = {token}\n")
    private("dwave.conf", f"[a]\nendpoint = {THEIRS}\n")
    with pytest.raises(UntrustedEndpointError, match=rf"from {users} .* which \./dwave.conf names"):
        resolve()
    private(users, f"[a]\ntoken = {token}\nendpoint = {THEIRS}\n")
    Path("dwave.conf").unlink()
    assert resolve().endpoint == THEIRS


def test_endpoint_inferred_by_ocean(token):
    """A `leap_api_endpoint` alone moves the solver API too."""
    private("dwave.conf", "[a]\nleap_api_endpoint = https://leap.their-host.invalid/leap/api\n")
    with pytest.raises(SolverUnavailable, match=r"is not sent to leap\.their-host\.invalid"):
        connect(resolve())


def test_region_is_looked_up_without_the_token(token, monkeypatch):
    with Recorder() as metadata:
        monkeypatch.setenv("DWAVE_METADATA_API_ENDPOINT", metadata.url)
        found = regional_endpoint(resolve(region="eu-central-1"))
        assert found.startswith("https://cloud.dwavesys.com/")  # Ocean's choice if none answers
        assert metadata.seen
        assert token not in str(metadata.seen)


def test_a_run_of_somebody_else(token, tmp_path):
    """Its config.toml names a host; resumed, the token does not go there unless you say so."""
    theirs = TrainConfig(sampler="dwave", betas=(9.0, 9.0), annealing_time=5.0, endpoint=THEIRS)
    folder = tmp_path / "run"
    private(folder / "config.toml", theirs.to_toml())
    config = RunFolder(folder).read_config()
    assert config == theirs
    with pytest.raises(UntrustedEndpointError, match=r"their-host.*config\.toml names as endpoint"):
        config.check_here()["dwave"].open(tmp_path)
    private("dwave.conf", "[a]\nhttp_retry_total = 0\n")
    named = dataclasses.replace(config, endpoint=THEIRS)
    with pytest.raises(SolverUnavailable):  # it is asked, and is not there
        named.check_here()["dwave"].open(tmp_path)
    assert "endpoint" in dataclasses.replace(config, steps=7).to_toml()


def test_an_endpoint_within_the_text_of_a_sampler(tmp_path):
    text = f'sampler = "dwave:endpoint={THEIRS}"\nbetas = [9.0, 9.0]\nannealing_time = 5.0\n'
    config = TrainConfig(**read_settings(private(tmp_path / "config.toml", text)))
    with pytest.raises(ValueError, match="`endpoint` must be given on its own"):
        config.check_here()


def test_a_run_on_this_machine_or_at_d_wave_resumes_without_a_word(token):
    for endpoint in ("http://127.0.0.1:1/", "https://na-west-1.cloud.dwavesys.com/sapi/v2/"):
        given = FromFile(endpoint, Path("run/config.toml"))
        found = resolve(endpoint=given)
        assert (found.endpoint, found.sources["endpoint"]) == (endpoint, "run/config.toml")


@pytest.mark.parametrize("value", ["true", "1", "on"])
def test_certificates_that_are_not_checked(token, value):
    private("dwave.conf", f"[a]\npermissive_ssl = {value}\n")
    with pytest.warns(InsecureCredentialsWarning, match=r"permissive_ssl in \./dwave\.conf turns"):
        resolve()
    private("dwave.conf", "[a]\npermissive_ssl = false\n")
    resolve()  # warnings are errors


def test_a_solver_with_its_graph(token, tmp_path):
    """D-Wave's page on solver identity: name;graph_id=... chooses one working graph."""
    with EmulatedQPU(shape=(1, 2)) as qpu:
        known = f"{qpu.name};graph_id={qpu.graph_id}"
        assert resolve(solver=known).solver == known
        private("credentials.toml", f'[dwave]\nsolver = "{known}"\n')
        assert resolve().solver == known
        credentials = Credentials(Secret(qpu.token), qpu.endpoint, solver=known)
        device = connect(credentials)
        assert (device.name, device.graph.graph_id) == (qpu.name, qpu.graph_id)
        device.close()
        other = dataclasses.replace(credentials, solver=f"{qpu.name};graph_id=another")
        with pytest.raises(SolverUnavailable, match="No solver at"):
            connect(other)
