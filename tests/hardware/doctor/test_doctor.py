"""`qattn doctor` against an emulated QPU: every step, working and failing."""

import json
import os
import secrets
import stat
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from qattn.cli.doctor import doctor
from qattn.hardware.calibration_file import DeviceCalibration, DevicePoint
from qattn.hardware.doctor import Workload, diagnose, setup_checks, step_cost
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.working_graph import WorkingGraph
from qattn.hardware.emulator import EmulatedQPU
from qattn.hardware.service.budget import format_duration
from qattn.training import TrainConfig

pytestmark = pytest.mark.usefixtures("nobodys_machine")


def workload_of(**settings):
    """The workload of a training; the width, which no QPU sees, suits any number of heads."""
    return Workload(TrainConfig(**{"width": settings.get("heads", 4)} | settings))


SMALL = workload_of(context=3, layers=1, heads=2, batch_size=5, num_reads=20, steps=10)
STEPS = [
    "compiled loops",
    *("packages", "credentials", "service", "token", "solver", "fast anneal", "packing"),
    *("calibration", "training step"),
]


@pytest.fixture
def qpu():
    with EmulatedQPU(shape=(2, 4)) as emulated:
        yield emulated


@pytest.fixture
def nothing_leaks(qpu, capsys, caplog, tmp_path):
    """After the test: the token is in no output, no log record, and no file but credentials."""
    caplog.set_level(1)
    caplog.set_level(1, logger="dwave")
    yield
    out, err = capsys.readouterr()
    for seen in (out, err, caplog.text, *(str(vars(record)) for record in caplog.records)):
        assert qpu.token not in seen
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "credentials.toml":
            assert qpu.token.encode() not in path.read_bytes()


def write_credentials(qpu, mode=0o600, **changes):
    values = {"token": qpu.token, "endpoint": qpu.endpoint, "solver": qpu.name} | changes
    text = "".join(f"{name} = {json.dumps(v)}\n" for name, v in values.items() if v is not None)
    path = Path("credentials.toml")
    path.write_text(f"[dwave]\n{text}")
    path.chmod(mode)
    return path


def checks(workload=SMALL, **options):
    """Checks by name, in the order of the steps."""
    found = list(diagnose(workload, timeout=20.0, **options))
    assert [check.name for check in found] == STEPS
    return {check.name: check for check in found}


def fails_at(found, name):
    """This step fails, those before it do not, and those after it are skipped, not guessed."""
    place = STEPS.index(name)
    assert [found[step].status for step in STEPS[: place + 1]] == [*["ok"] * place, "failed"]
    assert {found[step].status for step in STEPS[place + 1 :]} <= {"skipped"}
    assert found[name].hint
    return found[name]


@pytest.mark.usefixtures("nothing_leaks")
def test_everything_works(qpu):
    write_credentials(qpu, qpu_budget="60s")
    found = checks(pack=True)
    statuses = {name: check.status for name, check in found.items()}
    assert statuses == dict.fromkeys(STEPS, "ok") | {"calibration": "skipped"}
    assert "dwave-cloud-client 0." in found["packages"].detail
    for words in (
        "token from credentials.toml",
        f"endpoint {qpu.endpoint} from credentials.toml",
        f"solver {qpu.name} from credentials.toml",
        "budget 60 s from credentials.toml",
    ):
        assert words in found["credentials"].detail
    assert found["service"].detail == qpu.endpoint
    assert found["token"].detail == "opens 1 solver"
    qubits, couplers = len(qpu.graph.qubits), len(qpu.graph.couplers)
    assert found["solver"].detail == (
        f"EMULATED: {qpu.name}, zephyr 2,4, {qubits} qubits, {couplers} couplers, "
        f"graph {qpu.graph_id}"
    )
    assert found["fast anneal"].detail == "5 ns to 2 ms"
    assert "slots of 4 spins" in found["packing"].detail
    assert not qpu.jobs  # nothing was submitted
    features = checks(service={"solver": '{"fast_anneal": true}'})
    assert features["solver"] == found["solver"]
    again = checks()  # from the cache now
    assert again["packing"] == found["packing"]
    assert again["training step"] == found["training step"]


def test_packing_is_not_made_unasked(qpu):
    write_credentials(qpu)
    found = checks()
    assert found["packing"].status == "skipped"
    assert "--pack" in found["packing"].hint
    assert "in at least " in found["training step"].detail


def test_cost_and_budget(qpu):
    """Sizes 2, 3 and 4 (a spin carries the fields) of 2 heads and 5 sequences."""
    write_credentials(qpu, qpu_budget="10ms")
    found = checks(pack=True)
    detail = found["training step"].detail
    assert detail.startswith("30 problems of up to 4 spins in about ")
    assert " of 20 reads at 5 ns: about " in detail
    assert "; the budget of 10 ms pays for " in detail
    assert "fewer --steps" in found["training step"].hint


# --- failures


@pytest.mark.usefixtures("nothing_leaks")
def test_package_missing(qpu, monkeypatch):
    monkeypatch.setattr(setup_checks, "PACKAGES", ("dwave-system", "no-such-package"))
    check = fails_at(checks(), "packages")
    assert check.detail == "no-such-package not installed"
    assert check.hint == "pip install dwave-ocean-sdk"


def test_no_credentials():
    assert "No API token" in fails_at(checks(), "credentials").detail


@pytest.mark.usefixtures("nothing_leaks")
def test_broken_credentials(qpu):
    write_credentials(qpu, solver=None, sover="A")
    assert "unknown setting `sover`" in fails_at(checks(), "credentials").detail


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.usefixtures("nothing_leaks")
def test_readable_credentials(qpu):
    path = write_credentials(qpu, mode=0o644)
    check = checks()["credentials"]
    assert check.status == "warn"
    assert check.hint == f"Others can read the token in {path}: chmod 600 {path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644  # changing it is the user's business


@pytest.mark.usefixtures("nothing_leaks")
def test_unreachable(qpu):
    endpoint = "http://127.0.0.1:1/sapi/"
    write_credentials(qpu, endpoint=endpoint)
    check = fails_at(checks(), "service")
    assert check.detail.startswith(f"{endpoint}: ConnectionRefusedError")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("503", "InternalServerError"),
        ("slow", "TimeoutError"),
        ("drop", "Remote end closed connection"),
        ("version", "API response format version"),
        ("truncated", "IncompleteRead"),
        ("corrupt", "JSONDecodeError"),
    ],
)
@pytest.mark.usefixtures("nothing_leaks")
def test_service_in_trouble(qpu, fault, reason):
    write_credentials(qpu)
    qpu.fault("solvers", fault, seconds=1.5)
    timeout = 0.5 if fault == "slow" else 20.0
    found = {check.name: check for check in diagnose(SMALL, timeout=timeout)}
    assert reason in fails_at(found, "service").detail


@pytest.mark.usefixtures("nothing_leaks")
def test_not_a_solver_api(qpu):
    write_credentials(qpu, endpoint=qpu.endpoint.replace("sapi", "elsewhere"))
    assert "ResourceNotFoundError" in fails_at(checks(), "service").detail


@pytest.mark.usefixtures("nothing_leaks")
def test_bad_token(qpu, capsys):
    token = f"BAD-{secrets.token_hex(20)}"
    write_credentials(qpu, token=token)
    check = fails_at(checks(), "token")
    assert check.detail.startswith("the one from credentials.toml was not accepted")
    assert token not in str(check)


@pytest.mark.usefixtures("nothing_leaks")
def test_forbidden(qpu):
    write_credentials(qpu)
    qpu.fault("solvers", "403")
    assert "ResourceAccessForbiddenError" in fails_at(checks(), "token").detail


@pytest.mark.parametrize("solver", ["Advantage_system9.9", '{"topology__type": "pegasus"}'])
@pytest.mark.usefixtures("nothing_leaks")
def test_no_such_solver(qpu, solver):
    write_credentials(qpu)
    check = fails_at(checks(service={"solver": solver}), "solver")
    assert f"{qpu.name} (online)" in check.hint


@pytest.mark.usefixtures("nothing_leaks")
def test_solver_offline(qpu):
    write_credentials(qpu)
    qpu.online = False
    check = fails_at(checks(), "solver")
    assert f"{qpu.name} (offline)" in check.hint


@pytest.mark.usefixtures("nothing_leaks")
def test_solver_without_fast_anneal():
    qpu = EmulatedQPU(shape=(2, 4))
    known = qpu.properties["parameters"]
    qpu.properties["parameters"] = {k: v for k, v in known.items() if k != "fast_anneal"}
    del qpu.properties["fast_anneal_time_range"]
    with qpu:
        write_credentials(qpu)
        found = checks()
        other = checks(service={"solver": '{"fast_anneal": true}'})
        direct = checks(workload_of(context=3, batch_size=5, field_encoding="direct"), pack=True)
    assert found["solver"].status == "ok"
    assert found["fast anneal"].status == "failed"
    assert """'{"fast_anneal": true}'""" in found["fast anneal"].hint
    fails_at(other, "solver")
    assert direct["fast anneal"].status == "skipped"
    assert "at 500 ns" in direct["training step"].detail  # the shortest standard anneal


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_leaks")
def test_problems_too_large(qpu):
    write_credentials(qpu)
    found = checks(workload_of(context=100, batch_size=1), pack=True)
    for name in ("packing", "training step"):
        assert found[name].status == "failed"
        assert found[name].hint == "a shorter --context"


# --- calibration


def calibration(qpu, **changes):
    point = DevicePoint(7.0, "ghost", 2.0, 9.5, 11.25, ((0.01, 0.0), (0.0, 0.01)), 0.3, 1.0, 0.0, 9)
    values = {
        "solver": qpu.name,
        "graph_id": qpu.graph_id,
        "emulated": True,
        "created": "2026-01-01T00:00:00+00:00",
        "points": (point,),
        "recommended": 0,
    }
    return DeviceCalibration(**values | changes)


def test_calibration(qpu):
    write_credentials(qpu)
    file = Path("calibration.toml")
    assert checks()["calibration"].status == "skipped"
    assert checks(calibration=file)["calibration"].status == "failed"
    found = calibration(qpu)
    found.save(file)
    check = checks(calibration=file, pack=True)
    assert check["calibration"].status == "ok", check["calibration"].detail
    assert f"β_h {9.5}, β_J {11.2} at 7 ns" in check["calibration"].detail
    age = format_duration(3600 * found.age())
    assert check["calibration"].detail.startswith(f"{age} old")
    assert "at 7 ns" in check["training step"].detail
    calibration(qpu, graph_id="before").save(file)
    check = checks(calibration=file)["calibration"]
    assert "which has changed since" in check.detail
    assert check.status == "warn"
    assert "qattn calibrate" in check.hint
    calibration(qpu, solver="Other").save(file)
    assert checks(calibration=file)["calibration"].status == "failed"


# --- cost


@pytest.fixture
def one_qubit_slots():
    """Three slots of native K4 of a Zephyr graph, every chain of one qubit."""
    import networkx as nx

    graph = WorkingGraph.perfect("zephyr", 2, 4)
    cliques, left = [], graph.to_networkx()
    while len(cliques) < 3:
        clique = next(c for c in nx.find_cliques(left) if len(c) == 4)
        cliques.append(sorted(clique))
        left.remove_nodes_from(clique)
    return Packing(graph, np.array(cliques, dtype=np.int32)[..., None])


def test_step_cost_by_hand(one_qubit_slots):
    """T = 3: sizes 2, 3, 4, twice a head. On three slots of 4: [4, 4, 3], [3, 2+2, ...], ..."""
    jobs = []

    def access_time(num_qubits, params):
        jobs.append((num_qubits, params["num_reads"], params["annealing_time"]))
        return 0.5

    workload = workload_of(context=3, layers=3, heads=2, batch_size=2, num_reads=25)
    assert sorted(workload.sizes.tolist()) == sorted([2, 3, 4] * 4)
    cost = step_cost(workload, one_qubit_slots, access_time, annealing_time=7.0, max_reads=10)
    assert cost.problems == 3 * 12
    # 4 slots for the fours, 4 for the threes, 2 for the twos: ten slots are four jobs of three
    assert {reads for _, reads, _ in jobs} == {8, 9}
    assert [time for _, _, time in jobs] == pytest.approx([0.007] * len(jobs))
    assert len(jobs) == 3 * 4
    assert cost.jobs == 3 * len(jobs)
    assert cost.access_time == pytest.approx(3 * 0.5 * len(jobs))
    # every part programs the qubits of all problems once
    assert sum(qubits for qubits, _, _ in jobs) == 3 * workload.sizes.sum()


def test_least_cost(one_qubit_slots):
    """Never above that of a packing; by hand for problems of one size."""

    def access_time(num_qubits, params):
        return 1.0 + 1e-6 * num_qubits

    settings = {"annealing_time": 5.0, "max_reads": 100}
    workload = workload_of(context=3, layers=3, heads=2, batch_size=2)
    real = step_cost(workload, one_qubit_slots, access_time, **settings)
    least = step_cost(workload, len(one_qubit_slots.graph.qubits), access_time, **settings)
    assert least.problems == real.problems
    assert least.jobs <= real.jobs
    assert least.access_time <= real.access_time
    # five problems of one spin on two qubits are three jobs
    lone = workload_of(context=1, layers=1, heads=5, batch_size=1, field_encoding="direct")
    assert step_cost(lone, 2, access_time, **settings).jobs == 3
    with pytest.raises(ValueError, match="do not fit 15 qubits"):
        step_cost(workload_of(context=9), 15, access_time, **settings)
    assert step_cost(workload_of(context=9), 16, access_time, **settings).jobs > 0


def test_couplings_are_asked_for_once_a_head():
    sizes = workload_of(context=3, heads=2, batch_size=7, attention="couplings").sizes
    assert sizes.tolist() == [2, 3, 4] * 2
    direct = workload_of(context=3, heads=1, batch_size=2, field_encoding="direct")
    assert direct.sizes.tolist() == [1, 1, 2, 2, 3, 3]
    assert workload_of(context=3, heads=1, batch_size=1, ensemble=2).sizes.tolist() == [2, 3, 4] * 2


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"field_encoding": "x"}, {"attention": "softmax"}])
def test_wrong_workload(wrong):
    with pytest.raises(ValueError, match=f"Argument `{next(iter(wrong))}` must be"):
        workload_of(**wrong)


# --- the command


def command(*arguments):
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("nothing_leaks")
def test_command(qpu):
    write_credentials(qpu)
    small = ["--context=3", "--layers=1", "--heads=2", "--batch-size=5", "--num-reads=20"]
    result = command(*small, "--pack", "--steps=10", "--annealing-time=9")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if not line.startswith(" ")]
    assert [line[8:22].strip() for line in lines] == STEPS
    assert "EMULATED" in result.output
    assert "at 9 ns" in result.output
    assert qpu.token not in result.output
    Path("run.toml").write_text("context = 3\nlayers = 1\nheads = 2\nbatch_size = 5\nsteps = 7\n")
    result = command("--config=run.toml", "--steps=10", "--num-reads=20", "--annealing-time=9")
    assert lines[-1] in result.output


@pytest.mark.usefixtures("nothing_leaks")
def test_command_that_fails(qpu):
    write_credentials(qpu)
    result = command("--endpoint=http://127.0.0.1:1/")
    assert result.exit_code == 1
    assert "failed  service" in result.output
    assert "-> check the network" in result.output
    assert qpu.token not in result.output


@pytest.mark.usefixtures("nothing_leaks")
def test_command_with_a_trainings_settings(qpu):
    """The file's settings stand where no flag is given; the model's width does not matter."""
    write_credentials(qpu)
    Path("run.toml").write_text(
        "context = 3\nlayers = 1\nheads = 2\nbatch_size = 5\nsteps = 7\nannealing_time = 9.0\n"
        'sampler = "dwave"\ncalibration = "none.toml"\n'
    )
    result = command("--config=run.toml", "--heads=3", "--num-reads=20", "--pack")
    assert result.exit_code == 1
    words = " ".join(result.output.split())
    assert "45 problems of up to 4 spins" in words
    assert " jobs of 20 reads at 9 ns" in words
    assert "for 7 steps" in words
    assert "none.toml" in words
    result = command("--config=run.toml", "--heads=0")
    assert "Argument `heads` must be at least 1, but is 0" in str(result.exception)
