"""``qattn emulate-qpu``: what it prints and writes, and that it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import typer
from _support.emulated import sampler_of
from typer.testing import CliRunner

from qattn.cli.emulate_qpu import emulate_qpu
from qattn.hardware.emulator import EmulatedQPU

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(emulate_qpu)

PROGRAM = "import typer; from qattn.cli.emulate_qpu import emulate_qpu; typer.run(emulate_qpu)"


def run(*options):
    return CliRunner().invoke(app, ["--shape", "2", "--seconds", "0.1", *options])


def test_it_says_what_it_is_and_how_to_reach_it():
    result = run()
    assert result.exit_code == 0, result.output
    assert "EMULATED QPU" in result.output
    assert "no result from it is a quantum computer's" in result.output
    assert re.search(r"export DWAVE_API_ENDPOINT=http://127\.0\.0\.1:\d+/", result.output)
    assert re.search(r"export DWAVE_API_TOKEN=EMU-\w{40}\n", result.output)
    assert "0 jobs, 0.000 s of emulated QPU access time" in result.output


def test_a_token_in_a_file_is_not_on_the_screen(tmp_path):
    file = tmp_path / "token"
    result = run("--token-file", str(file))
    assert "EMU-" not in result.output
    assert f'"$(cat {file})"' in result.output
    assert not file.exists()  # it is gone with the emulator
    file.write_text("mine")
    result = run("--token-file", str(file))
    assert isinstance(result.exception, FileExistsError)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fault", "submit"], "must be where:kind"),
        (["--shape", "a,b"], "must be numbers such as 12,4 but is 'a,b'"),
        (["--readout-flip", "2"], "`readout_flip` must be between 0 and 0.5"),
        (["--topology", "torus"], "`topology` must be one of"),
        (["--port", "99999"], "`port` must be between 0 and 65535, but is 99999"),
    ],
)
def test_bad_options(options, message):
    result = run(*options)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_a_port_in_use_is_named():
    with EmulatedQPU(shape=(2, 4)) as qpu:
        port = qpu.endpoint.split(":")[2].split("/")[0]
        result = run("--port", port)
    assert isinstance(result.exception, OSError)
    assert f"Port {port} of 127.0.0.1 cannot be served" in str(result.exception)
    assert "0 for a free one" in str(result.exception)


def test_as_a_process_with_credentials_and_account(tmp_path):
    """Ocean's client samples from it, SIGTERM ends it, and its account has the job."""
    credentials, account = tmp_path / "credentials.toml", tmp_path / "account.json"
    options = ["--shape", "2,4", "--fault", "submit:429:1", "--readout-flip", "0.25"]
    files = ["--credentials", str(credentials), "--account", str(account)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *options, *files],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 300
        while not credentials.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert credentials.stat().st_mode & 0o777 == 0o600
        settings = tomllib.loads(credentials.read_text())["dwave"]
        assert settings.keys() == {"endpoint", "token", "solver"}
        with sampler_of(Credentials(settings)) as sampler:
            with pytest.raises(Exception, match="429"):
                sampler.sample_ising({sampler.nodelist[0]: -4.0}, {}).resolve()
            answer = sampler.sample_ising(
                dict.fromkeys(sampler.nodelist, -4.0), {}, num_reads=50, label="from outside"
            )
            answer.resolve()
            assert 0.2 < (answer.record.sample == -1).mean() < 0.3
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=120)[0]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "1 jobs" in output
    assert settings["token"] not in output
    assert not credentials.exists()
    found = json.loads(account.read_text())
    assert settings["token"] not in account.read_text()
    assert found["emulated"] is True
    assert [job["label"] for job in found["jobs"]] == ["from outside"]
    assert found["jobs"][0]["id"] == answer.info["problem_id"]
    assert found["access_time_us"] == answer.info["timing"]["qpu_access_time"]


class Credentials:
    def __init__(self, settings):
        self.client_options = settings


def test_account_file_follows_every_job(tmp_path):
    file = tmp_path / "account.json"
    with EmulatedQPU(shape=(2, 4), account=file) as qpu, sampler_of(qpu) as sampler:
        for count in (1, 2):
            sampler.sample_ising({sampler.nodelist[0]: 1.0}, {}).resolve()
            jobs = json.loads(file.read_text())["jobs"]
            assert [job["status"] for job in jobs] == ["COMPLETED"] * count
    assert [job["times_answered"] for job in json.loads(file.read_text())["jobs"]] == [1, 1]
    assert list(tmp_path.iterdir()) == [file]


def test_https_and_how_clients_trust_it(tmp_path):
    certificate = tmp_path / "certificate.pem"
    result = run("--tls", str(certificate))
    assert result.exit_code == 0, result.output
    assert "export DWAVE_API_ENDPOINT=https://127.0.0.1:" in result.output
    assert f"export REQUESTS_CA_BUNDLE={certificate}\n" in result.output
    text = certificate.read_text()
    assert "BEGIN CERTIFICATE" in text
    assert "PRIVATE KEY" not in text


def test_a_real_processors_size():
    result = CliRunner().invoke(app, ["--device", "advantage2-system4", "--seconds", "0.1"])
    assert "Emulated_Advantage2_system4: 1202 qubits, 10537 couplers" in result.output
    both = run("--device", "advantage2-system4")  # with --shape 2
    assert isinstance(both.exception, ValueError)
    assert "`shape` must be left out" in str(both.exception)
