"""Recorded reads as a backend: a journal played again without hardware."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from qattn._clock import sampling_clock
from qattn.backends.base import Backend, BackendStopped, check_num_reads, drawn_seed
from qattn.backends.options import option
from qattn.hardware.calls.collect import Embeddings, collected_reads
from qattn.hardware.calls.journal import Journal, journal_of_rank
from qattn.hardware.calls.plan import Call, Request
from qattn.hardware.calls.records import CallRecord
from qattn.hardware.settings import CHOSEN_BY
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples


class NotRecorded(BackendStopped):
    """The journal does not have these reads, and will not have them later."""

    resume_flags = None


class ReplayBackend(Backend):
    """The reads that a QPU gave to the same models, number of reads and seed.

    A training or a comparison that is run again with the same seed asks for the same reads, and
    has the same result bit for bit. Where a journal holds several settings, choose among them.

    Raises:
        FileNotFoundError: There is no journal.
        ValueError: `journal` is not given, or not a journal.
    """

    name: ClassVar[str] = "replay"
    description: ClassVar[str] = "recorded reads of a D-Wave QPU, from a journal"

    @dataclass(frozen=True, kw_only=True)
    class Options(Backend.Options):
        """The journal, and which of its settings to play."""

        journal: str | Path | None = option(
            None, "Folder of the journal, or of the run that has it; must be given."
        )
        annealing_time: float | None = option(
            None, "Play the calls with this annealing time, in ns."
        )
        field_encoding: str | None = option(None, "Play the calls with this field encoding.")
        chain_strength: float | None = option(None, "Play the calls with this chain strength.")

        def __post_init__(self) -> None:
            if self.journal is None:
                raise ValueError(
                    "Argument `journal` must be given: the folder of a recorded journal "
                    "(--journal)."
                )

    options: Options

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        assert self.options.journal is not None
        folder = Path(self.options.journal)
        inner = folder / "journal"
        self._folder = inner if inner.is_dir() else folder
        self._play(self._folder)
        chosen = {name: getattr(self.options, name) for name in CHOSEN_BY}
        self._chosen = {name: value for name, value in chosen.items() if value is not None}
        self._seconds = 0.0

    def divide(self, rank: int, size: int) -> None:
        """Play the journal of this rank."""
        if rank:
            self._play(journal_of_rank(self._folder, rank))

    def _play(self, folder: Path) -> None:
        """Read a journal."""
        self.journal = Journal(folder, read_only=True)
        self._embeddings = Embeddings(self.journal)
        self._calls: dict[str, list[str]] = {}
        for call in self.journal.calls.values():
            self._calls.setdefault(call.digest, []).append(call.name)

    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """The recorded reads; see :meth:`Backend.sample`.

        Raises:
            NotRecorded: The journal has none for these models, number of reads and seed.
        """
        check_num_reads(num_reads)
        with sampling_clock.running(batch.h.device):
            request = Request.of(batch, num_reads, drawn_seed(seed))
            call = Call(self.journal, self._record(request), request)
            samples = collected_reads(call, self._embeddings)
        self._seconds += samples.info["qpu_access_seconds"]
        return SpinSamples(samples.spins.to(batch.h.device), info=samples.info)

    def metrics(self) -> dict[str, float]:
        """QPU time that the reads cost when they were recorded."""
        return {"qpu_seconds": self._seconds}

    def provenance(self) -> dict[str, Any]:
        """The solver that was recorded, its graph, and whether it is emulated."""
        if not self.journal.calls:
            return {}
        last = self.journal.calls[list(self.journal.calls)[-1]]
        names = ("solver", "graph_id", "topology", "num_qubits", "emulated")
        return {name: last.details[name] for name in names}

    def _record(self, request: Request) -> CallRecord:
        recorded = [self.journal.calls[name] for name in self._calls.get(request.digest, [])]
        calls = [
            call
            for call in recorded
            if all(call.settings[name] == value for name, value in self._chosen.items())
        ]
        if not calls:
            raise NotRecorded(
                f"The journal {self.journal.folder} has no reads of these models with "
                f"num_reads = {request.num_reads} and this seed: replay with the settings and the "
                f"seed of the run that wrote it."
            )
        if len(calls) > 1:
            raise NotRecorded(
                f"The journal {self.journal.folder} has these reads under {len(calls)} settings: "
                f"choose one by annealing_time, field_encoding or chain_strength. They are "
                f"{'; '.join(_described(call.settings) for call in calls)}."
            )
        return calls[0]


def _described(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {settings[name]}" for name in CHOSEN_BY)
