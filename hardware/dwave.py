"""D-Wave quantum computers as a backend."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import platformdirs

from qattn._clock import sampling_clock
from qattn.backends.base import Backend, check_num_reads, drawn_seed
from qattn.hardware.calls.journal import Journal, journal_of_rank
from qattn.hardware.calls.plan import Request
from qattn.hardware.calls.session import Session
from qattn.hardware.options import DWaveOptions
from qattn.hardware.service.budget import QPUBudget
from qattn.hardware.service.credentials import resolve
from qattn.hardware.service.device import connect
from qattn.hardware.service.secret import install_log_filter
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples


class DWaveBackend(Backend):
    r"""Reads from a D-Wave QPU: diabatic (fast) anneals of thousands of small problems at a time.

    The device is taken to sample

    .. math::
        P(s) \propto \exp\Big(-\beta_h \sum_j h_j s_j - \beta_J \sum_{j<k} J_{jk} s_j s_k\Big)

    in the biases h, J that are programmed (D-Wave's signs). A batch is programmed as
    :math:`-\beta h/\beta_h` and :math:`-\beta J/\beta_J`, one scale for all its problems, onto
    disjoint embeddings, of cliques or, where its couplings are :class:`qattn.couplings.Banded`, of
    bands, which are smaller; nothing is rescaled by the service. Every submission and every
    answer is written to a journal before it is used: called twice for the same reads with the same
    seed, also by another process, the backend takes them from there.

    β_h and β_J come from `betas`, from a `calibration` that ``qattn calibrate --sampler dwave``
    wrote, or from first-order theory for a published `schedule`
    (:func:`qattn.simulators.effective_beta.effective_betas`). With `follow_betas` they follow the
    reads of each call, slowly.

    With a calibration, its recommendation stands for every setting that is not given. The journal
    is a folder in the run's folder unless another is given; without a run, one in the user's data
    folder. Processes that train together take equal parts of the budget, and each has a journal of
    its own. See :func:`qattn.hardware.service.credentials.resolve` for the credentials, and
    :mod:`qattn.field_encoding` for the field encodings.

    Raises:
        ValueError: An argument has another value, or β cannot be known.
    """

    name: ClassVar[str] = "dwave"
    description: ClassVar[str] = "D-Wave QPU with fast anneals; `qattn doctor` checks the set-up"
    requires: ClassVar[dict[str, str]] = {"dwave.cloud": "dwave-ocean-sdk>=8"}
    paid: ClassVar[bool] = True
    takes_structure: ClassVar[bool] = True

    Options = DWaveOptions
    options: DWaveOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._session: Session | None = None
        self._state: dict[str, Any] = {}
        self._rank, self._size = 0, 1

    def divide(self, rank: int, size: int) -> None:
        """Take an equal part of the budget, and the journal of this rank's own."""
        self._rank, self._size = rank, size

    @property
    def session(self) -> Session:
        """The connection to the device and all that goes with it; made at the first use.

        Raises:
            BackendStopped: The service or the solver is not available.
            ValueError: The settings do not suit the device.
        """
        if self._session is None:
            self.open()
        assert self._session is not None
        return self._session

    def open(self, folder: Path | None = None) -> None:
        """Connect, and keep the journal in this run's folder; see :meth:`Backend.open`."""
        if self._session is not None:
            return
        options = self.options
        credentials = resolve(
            None if options.credentials is None else Path(options.credentials),
            endpoint=options.endpoint,
            region=options.region,
            solver=options.solver,
            qpu_budget=options.qpu_budget,
        )
        install_log_filter(credentials.token)
        device = connect(credentials)
        journal = None
        try:
            settings = options.settings_for(device.name, device.properties)
            records = Path(options.journal) if options.journal else _journal_folder(folder)
            journal = Journal(journal_of_rank(records, self._rank))
            budget = QPUBudget(
                credentials.qpu_budget,
                journal.calls.resolved_access_time,
                journal.calls.worst_estimate,
                self._size,
            )
            self._session = Session(device, options, settings, journal, budget, credentials)
        except BaseException:
            if journal is not None:
                journal.close()
            device.close()
            raise
        self._session.load_state_dict(self._state)

    def close(self) -> None:
        """Close all connections and the journal."""
        if self._session is not None:
            self._state = self._session.state_dict()
            self._session.close()
            self._session = None

    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw reads; see :meth:`Backend.sample`.

        ``info`` holds the settings and the betas, the solver and whether it is ``emulated``,
        ``qpu_access_seconds``, ``num_jobs``, ``chain_break_rate`` and ``break_rates`` (groups,
        queries, spins), and how many biases were ``clipped``.

        Raises:
            PaidAlready: A resumed training would buy again what the journal holds.
            OutOfRange: A field or coupling is too strong for the device.
            BudgetExceeded: A job does not fit into the budget; it was not submitted.
            BackendStopped: A job failed, or the service; what was answered is in the journal.
        """
        check_num_reads(num_reads)
        request = Request.of(batch, num_reads, drawn_seed(seed))
        with sampling_clock.running(batch.h.device):
            samples = self.session.reads(request)
        return SpinSamples(samples.spins.to(batch.h.device), info=samples.info)

    def state_dict(self) -> dict[str, Any]:
        """The betas that tracking has reached, and how many of the journal's calls are behind."""
        return self._state if self._session is None else self._session.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._state = state
        if self._session is not None:
            self._session.load_state_dict(state)

    def resume(self, *, buy_again: bool = False) -> None:
        """Guard what the journal holds; without a checkpoint's state, all of it lies ahead."""
        if not self._state:
            self.load_state_dict({"calls": 0})
        self.session.paid_calls.guard(buy_again=buy_again)

    @property
    def replaying(self) -> bool:
        """Whether calls past the checkpoint are still taken from the journal."""
        return self._session is not None and self._session.paid_calls.guarded

    def metrics(self) -> dict[str, float]:
        """QPU time spent and left, the present betas, and the last call's chain breaks."""
        return {} if self._session is None else self._session.metrics()

    def provenance(self) -> dict[str, Any]:
        """The solver, its graph, and whether it is emulated."""
        return {} if self._session is None else dict(self._session.device.description)


def _journal_folder(run: Path | None) -> Path:
    """The folder of a run's journal; without a run, one in the user's data folder."""
    if run is not None:
        return run / "journal"
    started = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return platformdirs.user_data_path("qattn") / "journals" / f"{started}-{os.getpid()}"
