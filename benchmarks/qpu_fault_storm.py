"""A training on the emulated QPU through faults at random: is anything lost, or paid for twice?

Each round resumes one and the same `qattn train`, with faults on the way: kill -9, time-outs,
dropped connections, late acceptance, listings that lag, 5xx, broken TLS, redirects. After each, the
emulator's account must be within the ceiling; after all, its jobs must be those of the journal, and
what the journal charges at least what the account does. Time-outs are short, so that a round takes
seconds.

    python benchmarks/qpu_fault_storm.py --rounds 200

Exit status 1 means that something did not hold.
"""

import argparse
import functools
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

FAULTS = {
    "time-out": lambda rng: [(rng.choice(["submit", "poll", "answer"]), "slow", 2.5)],
    "accepted late": lambda rng: [("submit", "slow-accept", rng.uniform(1.8, 4.0))],
    "dropped": lambda rng: [(_place(rng), rng.choice(["drop", "drop-after"]), 0.0)],
    "listed late": lambda rng: [
        ("submit", "drop-after", 0.0),
        ("job", "list-lag", rng.uniform(0.2, 3.0)),
    ],
    "5xx": lambda rng: [(_place(rng), rng.choice(["500", "503", "502-after"]), 0.0)],
    "TLS failure": lambda rng: [(_place(rng), "tls", 0.0)],
    "redirect": lambda rng: [(_place(rng), "redirect", 0.0)],
}

LOADED = ["qattn.cli.train", "qattn.hardware.dwave", "dwave.system", "torch._dynamo"]
"""Modules that every training needs: a round forks from a process that has them."""

POLICY = {"first_wait": 0.05, "longest_wait": 0.3, "failing": 8.0, "unseen": 1.0, "poll": 1.0}
TIMEOUT = 1.5
"""Seconds after which a request is given up."""

TRAIN = (
    *("train", "--task", "brackets", "--context", "4", "--layers", "1", "--heads", "1"),
    *("--width", "8", "--batch-size", "4", "--steps", "100000", "--num-reads", "10"),
    *("--eval-every", "100000", "--checkpoint-every", "1", "--threads", "1", "--sampler", "dwave"),
)


def _place(rng):
    return rng.choice(["submit", "submit", "poll", "answer", "list"])


def train(arguments, log):
    """A `qattn train` in a process of its own."""
    from qattn.cli.app import main
    from qattn.hardware.calls import session
    from qattn.hardware.service.credentials import Credentials
    from qattn.hardware.service.retry import RetryPolicy

    for descriptor in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    session.RetryPolicy = functools.partial(RetryPolicy, **POLICY)
    config = Credentials.client_config
    Credentials.client_config = lambda self: config(self) | {"request_timeout": TIMEOUT}
    sys.argv = ["qattn", *arguments]
    main()


def prepared(qpu, folder):
    """Arguments of the training: credentials, and a calibration with the emulator's betas."""
    from qattn.hardware import DeviceCalibration, DevicePoint

    credentials = folder / "credentials.toml"
    credentials.touch(mode=0o600)
    lines = [f'{name} = "{value}"' for name, value in qpu.client_options.items()]
    credentials.write_text("\n".join(["[dwave]", *lines]) + "\n")
    beta, covariance = qpu.settings.beta_J, ((1e-4, 0.0), (0.0, 1e-4))
    point = DevicePoint(5.0, "ghost", 2.0, beta, beta, covariance, 1.0, 1.0, 0.0, 40)
    made = "2026-01-01T00:00:00+00:00"
    calibration = folder / "calibration.toml"
    known = DeviceCalibration(qpu.name, qpu.graph_id, True, made, (point,), 0, "of the emulator")
    known.save(calibration)
    return ["--calibration", str(calibration), "--credentials", str(credentials)]


def storm(rounds, seed, folder):
    """Run the rounds; returns whether all held, after printing what was found."""
    from qattn.hardware.calls.journal import Journal
    from qattn.hardware.emulator import EmulatedQPU

    rng, happened, broken = random.Random(seed), Counter(), []
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    certificate, run, log = (folder / name for name in ("cert.pem", "run", "output"))
    os.environ["REQUESTS_CA_BUNDLE"] = str(certificate)
    with EmulatedQPU(shape=(3, 4), tls=certificate, default_wait=0.1) as qpu:
        start, events = prepared(qpu, folder), run / "journal" / "journal.jsonl"
        ceiling = 0.3

        def process():
            budget = ("--qpu-budget", f"{ceiling:.3f}s")
            new = [*TRAIN, *start, "--out", str(run)]
            arguments = ["train", "--resume", str(run)] if run.exists() else new
            child = context.Process(target=train, args=([*arguments, *budget], log))
            child.start()
            return child

        def wait_for_events(child):
            size = events.stat().st_size if events.exists() else 0
            deadline = time.monotonic() + 60
            while child.is_alive() and time.monotonic() < deadline:
                if events.exists() and events.stat().st_size > size:
                    return
                time.sleep(0.01)

        for number in range(rounds):
            for name in rng.choices(list(FAULTS), k=rng.randint(1, 3)):
                happened[name] += 1
                after = rng.randint(0, 3)
                for where, kind, seconds in FAULTS[name](rng):
                    qpu.fault(where, kind, after=after, seconds=seconds)
            child = process()
            wait_for_events(child)
            child.join(rng.uniform(0.0, 1.5))
            if child.is_alive():
                happened["kill -9"] += 1
                child.kill()
            child.join()
            if "QPU budget of" in log.read_text()[-2000:]:
                happened["ceiling reached"] += 1
                log.write_text("")
                ceiling += 0.3
            qpu.clear_faults()
            if qpu.access_time_us * 1e-6 > ceiling:
                broken.append(f"round {number}: the account is above the ceiling of {ceiling} s")
            print(f"\rround {number + 1}: {len(qpu.jobs)} jobs", end="", file=sys.stderr)
        # What was accepted late is there by now; a last run looks for it and ends in order.
        time.sleep(3.0)
        ceiling += 1.0
        child = process()
        wait_for_events(child)
        time.sleep(1.0)
        os.kill(child.pid, signal.SIGINT)
        child.join(120)
        if child.exitcode != 130:
            broken.append(f"the last run ended with status {child.exitcode}: {log.read_text()}")
        journal = Journal(run / "journal", read_only=True)
        lines = [json.loads(line) for line in events.read_text().splitlines()]
        known = {line["problem_id"] for line in lines if "problem_id" in line}
        charged = sum(job.access_time for job in journal.jobs.values())
        doubtful = [sent for job in journal.jobs.values() for sent in job.doubtful]
        account, jobs = qpu.access_time_us * 1e-6, qpu.jobs
        seconds = Counter(line["state"] for line in lines if line["event"] == "duplicate")
        found = {
            "jobs in the account": len(jobs),
            "jobs in the journal": len(known),
            "labels in the account": len({job.label for job in jobs}),
            "seconds in the account": f"{account:.6f}",
            "seconds charged in the journal": f"{charged:.6f}",
            "of which for submissions never listed": f"{sum(s.charge for s in doubtful):.6f}",
            "sent twice, and found": dict(seconds),
            "requests that followed a redirect": qpu.redirects_followed,
            "last ceiling": f"{ceiling:.3f}",
        }
        holds = [
            known == {job.id for job in jobs},
            len({job.label for job in jobs}) == len(jobs),
            charged >= account * (1 - 1e-9),
            charged - sum(s.charge for s in doubtful) <= account * (1 + 1e-9),
            qpu.redirects_followed == 0,
            account <= ceiling,
        ]
        written = [path for path in folder.rglob("*") if path.is_file()]
        named = [p for p in written if qpu.token.encode() in p.read_bytes()]
        holds.append(named == [folder / "credentials.toml"])
    print(file=sys.stderr)
    for what, value in {**dict(sorted(happened.items())), **found}.items():
        print(f"{what:40} {value}")
    broken += [f"condition {number} does not hold" for number, ok in enumerate(holds, 1) if not ok]
    print(*broken, sep="\n")
    return not broken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            os.environ[variable] = made
        os.chdir(made)
        started = time.monotonic()
        well = storm(chosen.rounds, chosen.seed, Path(made))
        print(f"{chosen.rounds} rounds in {time.monotonic() - started:.0f} s")
    sys.exit(0 if well else 1)
