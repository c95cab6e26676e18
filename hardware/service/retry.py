"""How often, and for how long, requests to the service are repeated."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from qattn.backends.base import BackendStopped
from qattn.hardware.service.solver_api import Busy, Unclear

log = logging.getLogger("qattn.hardware")

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """Retry and time-out limits of requests to the service.

    Attributes:
        first_wait: Seconds before the first repetition; they double, with jitter.
        longest_wait: Largest number of seconds between two repetitions.
        failing: Seconds for which a request may keep failing.
        unseen: Seconds, from the moment at which a submission was found to have no response, in
            which its label must appear. D-Wave documents no bound on how late a job may be listed.
        listings: Listings in a row that must lack the label as well, the last of them after
            `unseen` seconds.
        queued: Seconds for which a job may wait and run.
        poll: Seconds for which the service is asked to hold a response until the job ends.
    """

    first_wait: float = 0.5
    longest_wait: float = 30.0
    failing: float = 300.0
    unseen: float = 60.0
    listings: int = 3
    queued: float = 3600.0
    poll: float = 20.0


class WaitingStopped(BackendStopped):
    """Jobs are no longer waited for."""


class Retrier:
    """Repeats requests as a policy says, until it is told to stop.

    Args:
        policy: The limits.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.stopping = threading.Event()

    def call(self, request: Callable[[], T]) -> T:
        """The result of a request, once it succeeds.

        Raises:
            Refused: The service said no.
            Busy: It said "not now" for as long as a request may keep failing.
            Unclear: The request failed for that long.
            WaitingStopped: Waiting was stopped.
        """
        policy = self.policy
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((Unclear, Busy)),
            wait=tenacity.wait_exponential(policy.first_wait, policy.longest_wait)
            + tenacity.wait_random(0, policy.first_wait),
            stop=tenacity.stop_before_delay(policy.failing),
            sleep=self.pause,
            before_sleep=_log_failure,
            reraise=True,
        )
        return retrying(request)

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            WaitingStopped: Waiting was stopped.
        """
        if self.stopping.wait(seconds):
            raise WaitingStopped(
                "Interrupted while waiting for jobs; the journal has their labels and ids: a "
                "later run picks them up."
            )


def _log_failure(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    wait_for = state.next_action.sleep if state.next_action else 0.0
    log.warning("%s; trying again in %.1f s.", error, wait_for)
