"""Where credentials come from, and that the token goes nowhere else."""

import copy
import dataclasses
import itertools
import json
import logging
import os
import pickle
import re
import secrets
import threading
import tomllib
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from _support.qpu_backends import backend_of
from dwave.cloud import Client
from dwave.cloud.config.constants import DEFAULT_SOLVER_API_ENDPOINT

from qattn.hardware.emulator import EmulatedQPU
from qattn.hardware.service.credentials import (
    PLACEHOLDER,
    Credentials,
    InsecureCredentialsWarning,
    NoCredentialsError,
    resolve,
)
from qattn.hardware.service.secret import MASK, Secret, install_log_filter, redact, scrubbed

EXAMPLE = Path(__file__).parents[3] / "credentials.example.toml"
pytestmark = pytest.mark.usefixtures("nobodys_machine")
PLACES = ("arguments", "environment", "credentials.toml", "dwave.conf")


@pytest.fixture
def token():
    return f"TEST-{secrets.token_hex(20)}"


def write(path, text, mode=0o600):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def toml(**settings):
    return "[dwave]\n" + "".join(f"{name} = {json.dumps(v)}\n" for name, v in settings.items())


# --- precedence


def put(place, values, monkeypatch):
    """Values into one of the four places; what the arguments then are."""
    if place == "arguments":
        return values
    if place == "environment":
        for name, value in values.items():
            monkeypatch.setenv(f"DWAVE_API_{name.upper()}", value)
    elif place == "credentials.toml":
        write("credentials.toml", toml(**values))
    else:
        lines = "".join(f"{name} = {value}\n" for name, value in values.items())
        write("dwave.conf", f"[defaults]\n{lines}")
    return {}


def url(place):
    return f"http://127.0.0.1:1/{PLACES.index(place)}/"


@pytest.mark.parametrize("where", list(itertools.product(("endpoint", "region"), repeat=2)))
@pytest.mark.parametrize(("high", "low"), list(itertools.combinations(PLACES, 2)))
def test_the_client_gets_what_precedence_says(high, low, where, token, monkeypatch):
    """What Ocean's client ends up with, for every pair of places, endpoint against region too.

    The losing region is one that does not exist: the client would ask the network for it.
    """
    arguments = {}
    for place, kind, region in ((high, where[0], "na-west-1"), (low, where[1], "no-where-1")):
        values = {
            "token": f"{token}{PLACES.index(place)}",
            "solver": f"Solver_{PLACES.index(place)}",
            kind: url(place) if kind == "endpoint" else region,
        }
        if place == "arguments":  # the token has no place there
            monkeypatch.setenv("DWAVE_API_TOKEN", values.pop("token"))
        elif high == "arguments" and place == "environment":
            values.pop("token")
        arguments |= put(place, values, monkeypatch)
    found = resolve(**arguments)
    with Client.from_config(**found.client_config()) as client:
        config = client.config
    assert config.token == f"{token}{PLACES.index(high)}"
    assert config.solver == {"name__eq": f"Solver_{PLACES.index(high)}"}
    if where[0] == "endpoint":
        assert config.endpoint == url(high)
        assert found.region is None
    else:
        assert config.endpoint == DEFAULT_SOLVER_API_ENDPOINT
        assert config.region == "na-west-1"
        assert found.endpoint is None


def test_every_value_on_its_own(token, monkeypatch):
    """Four places, each with one value of its own: all four count, and say where they are from."""
    monkeypatch.setenv("DWAVE_API_TOKEN", token)
    file = write("credentials.toml", toml(qpu_budget="1.5min"))
    write("dwave.conf", "[defaults]\nregion = eu-central-1\nproxy = http://127.0.0.1:2\n")
    found = resolve(solver='{"topology__type": "zephyr"}')
    assert found.token == Secret(token)
    assert found.solver == {"topology__type": "zephyr"}
    assert found.qpu_budget == 90.0
    assert found.region == "eu-central-1"
    assert dict(found.sources) == {
        "token": "environment variable DWAVE_API_TOKEN",
        "solver": "the command line",
        "qpu_budget": str(file),
        "region": "./dwave.conf",
    }
    # what only Ocean knows still reaches its client
    with Client.from_config(**found.client_config() | {"endpoint": url("dwave.conf")}) as client:
        assert client.config.proxy == "http://127.0.0.1:2"


def test_without_arguments_the_client_finds_what_ocean_would(token):
    write("dwave.conf", f"[a]\ntoken = no\n[b]\ntoken = {token}\nendpoint = {url('dwave.conf')}\n")
    found = resolve(env=os.environ | {"DWAVE_PROFILE": "b"})
    assert found.sources["token"] == "profile b of ./dwave.conf"
    with Client.from_config(**found.client_config()) as client:
        assert client.config.token == token
        assert client.config.endpoint == url("dwave.conf")
        assert client.config.solver == {}


@pytest.mark.parametrize("place", ["environment", "dwave.conf"])
def test_endpoint_beats_region_in_one_place(place, token, monkeypatch):
    values = {"token": token, "region": "eu-central-1", "endpoint": url(place)}
    put(place, values, monkeypatch)
    found = resolve()
    assert (found.endpoint, found.region) == (url(place), None)


def test_empty_values_count_as_none(token, monkeypatch):
    """As in Ocean, where an exported but empty variable is none."""
    for name in ("TOKEN", "ENDPOINT", "REGION", "SOLVER"):
        monkeypatch.setenv(f"DWAVE_API_{name}", "")
    monkeypatch.setenv("DWAVE_CONFIG_FILE", "")
    monkeypatch.setenv("DWAVE_PROFILE", "")
    write("credentials.toml", toml(token=token, region="na-west-1", solver="A"))
    found = resolve()
    assert (found.token, found.region, found.solver) == (Secret(token), "na-west-1", "A")


def test_files_of_credentials(token, tmp_path):
    """The file that is named, else the one here, else the one of the user; never two of them."""
    user = write(tmp_path / "xdg_config_home/qattn/credentials.toml", toml(token=token + "user"))
    assert resolve().token == Secret(token + "user")
    write("credentials.toml", toml(token=token + "here"))
    assert resolve().token == Secret(token + "here")
    assert resolve(user).token == Secret(token + "user")
    with pytest.raises(FileNotFoundError, match=r"No credentials file at .*copy credentials.exam"):
        resolve(tmp_path / "absent.toml")


def test_solver(token, monkeypatch):
    table = '[dwave.solver]\ntopology__type = "zephyr"\nnum_active_qubits__gte = 4000\n'
    write("credentials.toml", f'[dwave]\ntoken = "{token}"\n{table}')
    features = {"topology__type": "zephyr", "num_active_qubits__gte": 4000}
    assert resolve().solver == features
    monkeypatch.setenv("DWAVE_API_SOLVER", json.dumps({"qpu": True}))
    assert resolve().solver == {"qpu": True}
    assert resolve(solver={"name": "A"}).solver == {"name": "A"}
    with pytest.raises(ValueError, match="The solver from the command line must be a name or a"):
        resolve(solver="{qpu: true}")


# --- files that are wrong


def test_nothing_anywhere(tmp_path):
    with pytest.raises(NoCredentialsError, match="No API token") as caught:
        resolve()
    for place in ("DWAVE_API_TOKEN", "credentials.toml", "dwave.conf", "xdg_config_home"):
        assert place in str(caught.value)


def test_example_is_valid_and_its_token_refused(token):
    text = EXAMPLE.read_text()
    assert tomllib.loads(text) == {"dwave": {"token": PLACEHOLDER}}
    write("credentials.toml", text)
    with pytest.raises(ValueError, match=r"credentials.toml is still the example's"):
        resolve()
    # every setting that stands there as a comment, too
    settings = re.sub(r"^# (?=[\w\[]+.*(=|\]$))", "", text, flags=re.MULTILINE)
    settings = settings.replace(PLACEHOLDER, token)
    one_each = "\n".join(
        line for line in settings.splitlines() if not line.startswith(("endpoint", "solver ="))
    )
    write("credentials.toml", one_each)
    found = resolve()
    assert (found.region, found.qpu_budget) == ("eu-central-1", 60.0)
    assert found.solver == {"topology__type": "zephyr", "num_active_qubits__gte": 4000}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[dwave]\ntoken = TOKEN", "is not a TOML file: Invalid value .at line 2"),
        ("token = 'TOKEN'", r"must have one table, \[dwave\], but has `token` too"),
        ("dwave = 'TOKEN'", "`dwave` must be a table"),
        ("[dwave]\ntokn = 'TOKEN'", "an unknown setting `tokn` .* known: token, endpoint,"),
        ("[dwave]\ntoken = ['TOKEN']", "`token` in .* must be a text, but is of type list"),
        ("[dwave]\ntoken = 'TOKEN'\nregion = 1", "`region` in .* must be a text, .* type int"),
        ("[dwave]\ntoken = 'TOKEN'\nqpu_budget = true", "`qpu_budget` in .* of type bool"),
        ("[dwave]\ntoken = 'TOKEN'\nqpu_budget = '3 x'", "qpu_budget from .*toml is wrong.*'3 x'"),
        ("[dwave]\ntoken = 'TOKEN'\nregion = 'a'\nendpoint = 'b'", "both an endpoint and a regi"),
        ("[dwave]\ntoken = 'TOKEN'\nendpoint = 'b'", "endpoint from .* must be a URL"),
        ("[dwave]\ntoken = 'TOKEN\\n'", "The token from .* has a space"),
        ("[dwave]\ntoken = 'TOKEN é'", "The token from .* has a space"),
    ],
)
def test_wrong_file(text, message, token):
    text = text.replace("'TOKEN\\n'", '"TOKEN\\n"').replace("TOKEN", token)
    path = write("credentials.toml", text)
    with pytest.raises(ValueError, match=message) as caught:
        resolve()
    assert str(path) in str(caught.value)
    assert token not in "".join(traceback.format_exception(caught.value))


def test_not_utf8(token):
    Path("credentials.toml").write_bytes(f'[dwave]\ntoken = "{token}\xff"'.encode("latin-1"))
    with pytest.raises(ValueError, match="is not a TOML file: it is not encoded in UTF-8"):
        resolve()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\ntoken TOKEN", "cannot be understood"),
        ("[a]\ntoken = %TOKEN", "cannot be understood"),
        ("[a\ntoken = TOKEN", "cannot be understood"),
    ],
)
def test_wrong_dwave_conf(text, message, token):
    write("dwave.conf", text.replace("TOKEN", token))
    with pytest.raises(ValueError, match=message) as caught:
        resolve()
    assert token not in "".join(traceback.format_exception(caught.value))


def test_absent_dwave_conf_and_profile():
    with pytest.raises(FileNotFoundError, match=r"gone\.conf cannot be read"):
        resolve(env={"DWAVE_CONFIG_FILE": "gone.conf"})
    write("dwave.conf", "[a]\nregion = na-west-1\n")
    with pytest.raises(ValueError, match=r"no profile 'b' \(DWAVE_PROFILE\) in ./dwave.conf"):
        resolve(env={"DWAVE_PROFILE": "b"})


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
@pytest.mark.parametrize("name", ["credentials.toml", "dwave.conf"])
def test_a_file_that_others_can_read(name, mode, token):
    text = toml(token=token) if name == "credentials.toml" else f"[a]\ntoken = {token}\n"
    path = write(name, text, mode)
    with pytest.warns(InsecureCredentialsWarning, match=f"chmod 600 .*{name}") as caught:
        resolve()
    assert token not in str(caught[0].message)
    path.chmod(0o600)
    resolve()  # warnings are errors


def test_a_readable_file_without_the_token_is_nobodys_business(token):
    write("credentials.toml", toml(region="na-west-1"), 0o644)
    assert resolve(env={"DWAVE_API_TOKEN": token}).region == "na-west-1"


def test_plain_http_beyond_the_machine(token):
    env = {"DWAVE_API_TOKEN": token}
    with pytest.warns(InsecureCredentialsWarning, match=r"in clear"):
        resolve(endpoint="http://example.com/sapi", env=env)
    for endpoint in ("http://127.0.0.1:80/", "http://localhost/", "https://example.com/sapi"):
        resolve(endpoint=endpoint, env=env)


# --- the token shows nowhere


def test_secret_shows_nothing(token):
    secret = Secret(token)
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", f"{[secret]}"):
        assert MASK in text
        assert token not in text
    assert secret.reveal() == token
    assert secret == Secret(token)
    assert hash(secret) == hash(Secret(token))
    assert secret != Secret(token + "x")
    assert secret != token
    assert copy.deepcopy({"a": secret}) == {"a": secret}
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(secret)
    with pytest.raises(ValueError, match="must not be empty"):
        Secret("")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_pickle_holds_a_token(token, protocol):
    for holder in (Secret(token), Credentials(Secret(token))):
        with pytest.raises(TypeError, match="never written to a file"):
            pickle.dumps(holder, protocol)


def test_credentials_show_nothing(token):
    found = resolve(env={"DWAVE_API_TOKEN": token})
    assert token not in repr(found)
    assert token not in str(dataclasses.asdict(found))
    assert found.client_config()["token"] == token


def test_redacted_errors(token):
    secret = Secret(token + "+/")
    try:
        try:
            try:
                raise OSError(f"bad header {token}+/")
            except OSError as error:
                raise KeyError(f"url?token={token}%2B%2F") from error
        except KeyError:
            raise ValueError(f"two\nlines with {token}+/") from None
    except ValueError as error:
        hidden = error
    assert scrubbed(hidden, secret) == f"ValueError: two lines with {MASK}"
    hidden.__suppress_context__ = False
    line = scrubbed(hidden, secret)
    assert line.count(MASK) == 3
    assert token not in line
    assert ", caused by KeyError: " in line
    assert line.endswith(f", caused by OSError: bad header {MASK}")
    hidden.__cause__ = hidden  # a ring ends
    assert scrubbed(hidden, secret) == f"ValueError: two lines with {MASK}"
    assert redact("no token here", secret) == "no token here"


def test_log_records(token, caplog):
    caplog.set_level(1)
    log = logging.getLogger("somebody.else")
    install_log_filter(Secret(token))
    install_log_filter(Secret(token))
    install_log_filter(Secret("another-one"))
    log.info("config %r", {"token": token})
    log.info("%s another-one", token)
    log.info("nothing %d", 1)
    try:
        raise ValueError(token)
    except ValueError:
        log.exception("failed")
    assert caplog.messages == [
        f"config {{'token': '{MASK}'}}",
        f"{MASK} {MASK}",
        "nothing 1",
        "failed",
    ]
    assert f"ValueError: {MASK}" in caplog.text
    assert token not in caplog.text
    assert not any(token in str(record.__dict__) for record in caplog.records)
    assert logging.getLogRecordFactory().secrets.count(Secret(token)) == 1


def test_to_resolve_credentials_leaves_logging_as_it_is(token):
    factory = logging.getLogRecordFactory()
    resolve(env={"DWAVE_API_TOKEN": token})
    assert logging.getLogRecordFactory() is factory


class _Echo(BaseHTTPRequestHandler):
    """A service that refuses the token and repeats it in its answer."""

    def do_GET(self):
        self.server.tokens.append(self.headers["X-Auth-Token"])
        body = f"Invalid token {self.headers['X-Auth-Token']}".encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Echo", self.headers["X-Auth-Token"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def echo():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.tokens = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("filtered", [True, False])
def test_the_real_client_at_its_most_talkative(
    filtered, token, echo, caplog, tmp_path, monkeypatch
):
    """At TRACE the client logs its configuration; the control shows that it would be seen."""
    caplog.set_level(1)
    caplog.set_level(1, logger="dwave")
    monkeypatch.setenv("DWAVE_API_TOKEN", token)
    with caplog.filtering(lambda record: record.name.startswith(("dwave", "urllib3"))):
        found = resolve(endpoint=f"http://127.0.0.1:{echo.server_port}/sapi/")
        if filtered:
            install_log_filter(found.token)
        from dwave.system import DWaveSampler

        with pytest.raises(Exception, match=token) as caught:  # its own message gives it away
            DWaveSampler(**found.client_config())
    assert token in echo.tokens
    assert any(record.name.startswith("dwave.cloud.api") for record in caplog.records)
    seen = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert (token in seen) is not filtered
    line = scrubbed(caught.value, found.token)
    assert token not in line
    assert f"Invalid token {MASK}" in line
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(token.encode() in path.read_bytes() for path in kept)


def test_the_backend_keeps_the_token_out_of_the_log(tmp_path, caplog):
    caplog.set_level(1)
    caplog.set_level(1, logger="dwave")
    with EmulatedQPU(shape=(2, 4)) as qpu:
        backend = backend_of(qpu, tmp_path)
        backend.open()
        backend.close()
    assert any(record.name.startswith("dwave.cloud") for record in caplog.records)
    assert qpu.token not in caplog.text
    assert not any(qpu.token in str(vars(record)) for record in caplog.records)
