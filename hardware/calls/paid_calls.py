"""How far a training has come through the calls that its journal holds: nothing is bought again."""

from qattn.backends.base import BackendStopped
from qattn.hardware.calls.journal import Journal


class PaidAlready(BackendStopped):
    """The next call would pay again for reads that the journal holds under other models."""

    resume_flags = "--buy-again"


class PaidCalls:
    """The calls of a journal that lie past a training's checkpoint.

    Calls are found by a digest of their models, to the last bit. A resumed training that is not
    bit-identical (another number of threads, another version of PyTorch, a calibration that was
    measured anew) finds none of those that it paid for, and would buy all of them again.

    Args:
        journal: The journal; all that it holds now lies behind a training that begins.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._ahead: dict[str, None] = {}
        self._guarded = False

    @property
    def position(self) -> int:
        """Number of the journal's calls that are behind."""
        return len(self._journal.calls) - len(self._ahead)

    def go_to(self, position: int) -> None:
        """Go back to where a checkpoint was written; what came after it lies ahead."""
        self._ahead = dict.fromkeys(list(self._journal.calls)[position:])

    def guard(self, *, buy_again: bool) -> None:
        """Refuse new calls as long as calls lie ahead, or accept that they are bought again."""
        self._guarded = bool(self._ahead) and not buy_again

    @property
    def guarded(self) -> bool:
        """Whether calls lie ahead that must not be bought again; once none does, it is over."""
        return self._guarded

    def replayed(self, name: str) -> None:
        """A call was found in the journal."""
        self._ahead.pop(name, None)
        self._guarded = self._guarded and bool(self._ahead)

    def before_new_call(self) -> None:
        """A call was not found in the journal, and is about to be paid for.

        Raises:
            PaidAlready: Calls lie ahead, of which it is none.
        """
        if self._guarded:
            calls = [self._journal.calls[name] for name in self._ahead]
            seconds = sum(job.access_time for call in calls for job in call.jobs)
            raise PaidAlready(
                f"The journal {self._journal.folder} holds {len(calls)} calls past this step, "
                f"{seconds:.3g} s of QPU time, and the next call is none of them: the run does "
                f"not repeat itself to the bit, and would buy them again. Nothing was bought. "
                f"Resume with the threads, versions and calibration of before, or accept the "
                f"price with --buy-again."
            )
        self._ahead.clear()
