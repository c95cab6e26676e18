"""What of the D-Wave set-up works, step by step, and the way out where it does not."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qattn.hardware.doctor.device_checks import (
    check_calibration,
    check_cost,
    check_fast_anneal,
    check_packing,
    check_solver,
)
from qattn.hardware.doctor.reachability import TIMEOUT, reach
from qattn.hardware.doctor.setup_checks import (
    Check,
    check_credentials,
    check_packages,
    check_service,
    check_token,
)

if TYPE_CHECKING:
    from qattn.hardware.doctor.cost import Workload


def diagnose(
    workload: "Workload",
    *,
    credentials: Path | None = None,
    service: dict[str, Any] | None = None,
    calibration: Path | None = None,
    annealing_time: float | None = None,
    pack: bool = False,
    packings: Path | None = None,
    timeout: float = TIMEOUT,
) -> Iterator[Check]:
    """Check the set-up, from what is installed to what a training step costs.

    Nothing is submitted: it costs no QPU time.

    Args:
        workload: The training whose cost is estimated.
        credentials: The credentials.toml to read.
        service: More arguments for :func:`qattn.hardware.service.credentials.resolve`.
        calibration: A calibration file of the device, or a folder of them.
        annealing_time: Duration of an anneal in ns; None takes the calibration's, or else the
            shortest that the solver knows.
        pack: Make the packing if there is none yet, which may take a minute.
        packings: Folder of packings; None takes the user's cache.
        timeout: Seconds for the service to answer.

    Yields:
        One check per step, as soon as it is done.
    """
    names = ["credentials", "service", "token", "solver", "fast anneal", "packing", "calibration"]
    names.append("training step")
    packages = check_packages()
    yield packages
    if packages.status == "failed":
        yield from _skipped(names, "packages")
        return
    check, found = check_credentials(credentials, service or {})
    yield check
    if found is None:
        yield from _skipped(names[1:], "credentials")
        return
    reached = reach(found, timeout)
    yield check_service(reached)
    if not reached.answers:
        yield from _skipped(names[2:], "service")
        return
    yield check_token(found, reached)
    if not reached.accepts:
        yield from _skipped(names[3:], "token")
        return
    check, device = check_solver(found, reached)
    yield check
    if device is None:
        yield from _skipped(names[4:], "solver")
        return
    try:
        yield check_fast_anneal(device, workload)
        check, packing = check_packing(device, workload, pack, packings)
        yield check
        check, calibrated = check_calibration(device, calibration, workload)
        yield check
        yield check_cost(device, packing, workload, annealing_time or calibrated, found.qpu_budget)
    finally:
        device.close()


def _skipped(names: list[str], cause: str) -> Iterator[Check]:
    for name in names:
        yield Check(name, "skipped", f"needs: {cause}")
