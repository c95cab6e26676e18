"""``qattn fit-sampler``."""

import json
import os
import signal

import dimod
import pytest
from _support.command_line import run

from qattn.fitting import Fit, FitFolder
from qattn.simulators.autoregressive import load_sampler

pytestmark = pytest.mark.usefixtures("as_users_call")

QUICK = ("--steps", "4", "--batch-size", "8", "--num-reads", "50", "--iterations", "1")
SAMPLED = ("--exact-width", "0", *QUICK)


def test_a_problem_by_name(monkeypatch, capsys, tmp_path):
    out = tmp_path / "run"
    arguments = ("fit-sampler", "sk:spins=6,problems=3", "--problem", 2, "--out", out, *SAMPLED)
    status, printed, _ = run(monkeypatch, capsys, *arguments)
    assert status == 0
    summary = json.loads((out / "summary.json").read_text())
    assert f"F_q  {summary['F_q']:.6f} ±" in printed
    assert f"F    {summary['F']:.6f}, enumeration" in printed
    assert f"ESS {summary['ess']:.4f}, forward ESS {summary['forward_ess']:.4f}" in printed
    assert printed.endswith(f"use it as autoregressive:checkpoint={out}\n")
    config = FitFolder(out).read_config()
    assert (config.problem, config.built.parameters, config.built.iterations) == (2, "couplings", 1)
    status, _, error = run(monkeypatch, capsys, *arguments)
    assert status == 1
    assert "--resume" in error


def test_a_file_of_a_bqm(monkeypatch, capsys, tmp_path):
    file = tmp_path / "glass.json"
    bqm = dimod.BinaryQuadraticModel({0: 0.1, 1: -0.2, 2: 0.0}, {(0, 1): 1, (1, 2): -1}, 0, "SPIN")
    file.write_text(json.dumps(bqm.to_serializable()))
    arguments = ("fit-sampler", file, "--beta", 0.5, "--out", tmp_path / "run", *QUICK)
    status, _, error = run(monkeypatch, capsys, *arguments)
    assert (status, "all spins are drawn exactly" in error) == (1, True)
    status, _, _ = run(monkeypatch, capsys, *arguments, "--exact-width", 0)
    assert status == 0
    assert load_sampler(tmp_path / "run").betas == (0.5,)


def test_ctrl_c_and_resume(monkeypatch, capsys, tmp_path):
    real = Fit.step

    def step(fit, spent):
        if fit.steps == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(fit, spent)

    monkeypatch.setattr(Fit, "step", step)
    out = tmp_path / "run"
    status, _, error = run(monkeypatch, capsys, "fit-sampler", "sk:spins=5", "--out", out, *SAMPLED)
    assert status == 130
    assert f"Continue with: qattn fit-sampler --resume {out}" in error
    monkeypatch.setattr(Fit, "step", real)
    status, printed, _ = run(monkeypatch, capsys, "fit-sampler", "--resume", out, "--steps", 6)
    assert status == 0
    assert ": 6 steps, " in printed
    assert FitFolder(out).read_config().steps == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give a PROBLEM"),
        (("spin:spins=5",), "Argument `problems` must start with one of"),
        (("--resume", "nowhere"), "No run in 'nowhere'"),
        (("sk:spins=5", "--resume", "nowhere"), "drop --out and PROBLEM"),
        (("sk:spins=12", "--parameters", "none"), "Argument `parameters` must be scalars or coup"),
    ],
)
def test_errors_in_a_line(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, _, error = run(monkeypatch, capsys, "fit-sampler", *arguments)
    assert status == 1
    assert error.splitlines()[-1].startswith("Error: ")
    assert message in error
