"""``qattn qpu-check``: every part of the software on a QPU once, in ten seconds of its time."""

import json
import platform
import time
import warnings
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console

from qattn.cli._emulated import ANNEALING_TIME
from qattn.cli.terminal.flags import flags_of, with_flags
from qattn.training.emulated import write_credentials

console = Console(highlight=False, soft_wrap=True)

SERVICE = ("credentials", "endpoint", "region", "solver")
GRAPH = ("qubits", "couplers")
"""Properties of a solver that are lists of thousands of numbers; the graph's id names them."""

SPINS, READS, STEPS = 6, 100, 5


@with_flags(flag.replace(default=None) for flag in flags_of("dwave", SERVICE))
def qpu_check(
    out: Annotated[Path, typer.Option(help="Folder of the results, a new one.")] = Path(
        "runs/qpu-check"
    ),
    qpu_budget: Annotated[
        str, typer.Option(help="Ceiling on QPU access time, for all stages together.")
    ] = "10s",
    emulate_qpu: Annotated[
        bool, typer.Option("--emulate-qpu", help="Run on an emulated QPU, offline.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of problems, gauges and training.")] = 0,
    **service: Any,
) -> None:
    """Check a QPU in under ten seconds of its time; one file of results to attach.

    Runs the doctor, a calibration at one annealing time, a comparison with exact Boltzmann on 20
    small problems, and a training of five steps. Writes a folder, and the same as one ZIP file
    without secrets: tables, versions, settings, journals, the solver's properties. A stage that
    fails is noted in it. Exit status 1 if one failed.
    """
    from qattn.hardware.emulator import EmulatedQPU
    from qattn.hardware.service.budget import parse_duration
    from qattn.hardware.service.credentials import resolve

    if out.exists():
        raise FileExistsError(f"The folder {out} exists: choose another --out.")
    budget = parse_duration(qpu_budget)
    place = {name: value for name, value in service.items() if value is not None}
    with ExitStack() as stack:
        if emulate_qpu:
            private = Path(stack.enter_context(TemporaryDirectory()))  # mode 0700
            qpu = stack.enter_context(EmulatedQPU(device="advantage2-system4", seed=seed))
            place = {"credentials": str(write_credentials(private, qpu))}
        credentials = place.get("credentials")
        token = resolve(None if credentials is None else Path(credentials)).token
        check = QPUCheck(out, place, budget, seed)
        for stage in (check.doctor, check.calibrate, check.compare, check.train):
            check.run(stage)
            if check.failed and stage in (check.doctor, check.calibrate):
                break  # nothing to sample, or no temperatures to sample at
        archive, left_out = check.archive(token.reveal())
    console.print(f"{check.spent:.3f} s of QPU time of {budget:g} s allowed\n{archive}")
    for name in left_out:
        console.print(f"left out, since it holds the token: {name}")
    if check.failed or left_out:
        raise typer.Exit(1)


@dataclass
class QPUCheck:
    """The stages of a check, each in its folder, within one budget of QPU time.

    Attributes:
        folder: The check's folder.
        service: Where the QPU is: options of the backend ``dwave``.
        budget: Ceiling on the QPU access time of all stages, in seconds.
        seed: Seed of problems, gauges and training.
        stages: What came out of each stage so far.
    """

    folder: Path
    service: dict[str, Any]
    budget: float
    seed: int
    stages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def spent(self) -> float:
        """QPU access time of all journals of the check, in seconds."""
        from qattn.hardware.calls.journal import Journal

        files = self.folder.rglob("journal.jsonl")
        journals = (Journal(file.parent, read_only=True) for file in files)
        return sum((job.access_time for x in journals for job in x.jobs.values()), 0.0)

    @property
    def failed(self) -> bool:
        """Whether a stage failed."""
        return any(stage["status"] == "failed" for stage in self.stages)

    @property
    def left(self) -> dict[str, Any]:
        """Options of the backend that bring it to the QPU with what is left of the budget."""
        return self.service | {"qpu_budget": f"{max(self.budget - self.spent, 1e-6):.6f}s"}

    @property
    def calibration(self) -> Path:
        """The calibration's file."""
        return self.folder / "calibration.toml"

    def run(self, stage: Callable[[], str]) -> None:
        """Run a stage, which returns its result in words; a failure is noted in one line."""
        name = stage.__name__
        console.print(f"{name} …")
        before, start = self.spent, time.perf_counter()
        outcome: dict[str, Any]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                outcome = {"status": "ok", "result": stage()}
            except Exception as error:  # whatever it is, it belongs into the archive
                outcome = {"status": "failed", "result": f"{type(error).__name__}: {error}"}
        notes = list(dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught))
        qpu, seconds = self.spent - before, time.perf_counter() - start
        outcome |= {"stage": name, "qpu_seconds": qpu, "seconds": seconds, "warnings": notes}
        self.stages.append(outcome)
        console.print(
            f"{name}: {outcome['status']}, {outcome['result']} "
            f"({qpu:.3f} s of QPU time, {seconds:.1f} s in all)",
            markup=False,
        )

    def doctor(self) -> str:
        """Every step of ``qattn doctor``, and the solver's properties."""
        from qattn.hardware.doctor import Workload, diagnose
        from qattn.hardware.service.credentials import resolve
        from qattn.hardware.service.device import connect
        from qattn.training import TrainConfig

        credentials = self.service.get("credentials")
        path = None if credentials is None else Path(credentials)
        service = {name: value for name, value in self.left.items() if name != "credentials"}
        workload = Workload(TrainConfig(**self._training()))
        checks = list(diagnose(workload, credentials=path, service=service, pack=True))
        self._write("doctor.json", [asdict(check) for check in checks])
        if failed := [check for check in checks if check.status == "failed"]:
            raise RuntimeError(f"{failed[0].name}: {failed[0].detail}")
        device = connect(resolve(path, **service))
        try:
            properties = {k: v for k, v in device.properties.items() if k not in GRAPH}
            self._write("solver.json", device.description | {"properties": properties})
        finally:
            device.close()
        return f"{device.name}, graph {device.graph.graph_id}, {len(device.graph.qubits)} qubits"

    def calibrate(self) -> str:
        """β_h and β_J at one annealing time."""
        from qattn.cli.calibration.qpu import qpu_outcome
        from qattn.problems import synthetic

        outcome = qpu_outcome(
            synthetic(40, SPINS, seed=self.seed),
            described=f"40 problems of {SPINS} spins, fields 1, couplings 0.3",
            seed=self.seed,
            annealing_times=(ANNEALING_TIME,),
            num_reads=READS,
            quiet=True,
            journal=self.folder / "calibration-journal",
            **self.left,
        )
        outcome.calibration.save(self.calibration)
        best = outcome.calibration.best
        return f"β_h = {best.beta_h:.3g}, β_J = {best.beta_J:.3g}, misfit {best.misfit:.2f}"

    def compare(self) -> str:
        """20 problems beside exact Boltzmann."""
        from qattn.backends.spec import parse_samplers
        from qattn.compare.report import write_report
        from qattn.compare.results import CompareSettings
        from qattn.compare.run import compare
        from qattn.problems import synthetic

        exact, qpu = parse_samplers("exact,dwave")
        qpu = qpu.with_options(**self.left, calibration=str(self.calibration))
        out = self.folder / "comparison"
        results = compare(
            [exact, qpu],
            {f"synthetic:spins={SPINS}": synthetic(20, SPINS, seed=self.seed + 1)},
            CompareSettings(num_reads=READS, seed=self.seed),
            folder=out,
        )
        write_report(results, out, command="qattn qpu-check")
        judged = results.sets[0].results[-1]
        if judged.quality is None:
            raise RuntimeError(judged.error)
        ratio = judged.quality.scores["kl"].ratio
        return f"KL {ratio:.2f} of the floor of {READS} exact reads, on 20 problems"

    def train(self) -> str:
        """A training of five steps."""
        from qattn.training import TrainConfig, train

        settings = self._training() | self.left | {"calibration": str(self.calibration)}
        summary = train(TrainConfig(**settings), self.folder / "training")
        return f"{STEPS} steps, cross-entropy {summary['validation_loss']:.3f}"

    def _training(self) -> dict[str, Any]:
        return {
            "task": "brackets",
            **{"context": SPINS, "layers": 1, "heads": 1, "width": 8, "batch_size": 4},
            **{"steps": STEPS, "num_reads": READS, "sampler": "dwave", "seed": self.seed},
        }

    def _write(self, name: str, content: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
        (self.folder / name).write_text(text + "\n", encoding="utf-8")

    def archive(self, token: str) -> tuple[Path, list[str]]:
        """Put the folder into one file; returns it, and the files left out as they hold the token.

        Args:
            token: What must not be in the archive.
        """
        from qattn.compare.page import versions

        about: dict[str, Any] = {
            "platform": platform.platform(),
            "versions": versions(),
            "budget": self.budget,
        }
        self._write("check.json", about | {"stages": self.stages})
        out, left_out = self.folder.with_name(f"{self.folder.name}.zip"), []
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(self.folder.rglob("*")):
                name = str(file.relative_to(self.folder.parent))
                if not file.is_file() or file.suffix == ".lock":
                    continue
                if token and token.encode() in file.read_bytes():
                    left_out.append(name)
                else:
                    archive.write(file, name)
        return out, left_out
