"""The doctor: what of the D-Wave set-up works, step by step, with a hint where it does not."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from qattn.backends import BackendStopped
from qattn.hardware.doctor.cost import Workload, step_cost
from qattn.hardware.doctor.setup_checks import (
    Check,
    Reachability,
    check_credentials,
    check_loops,
    check_packages,
    check_service,
    check_token,
    reach,
)
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.packing_files import packing_file, packings_of_kin
from qattn.hardware.service.budget import format_duration
from qattn.hardware.service.credentials import Credentials
from qattn.hardware.service.device import Device, connect
from qattn.hardware.service.secret import install_log_filter

TIMEOUT = 15.0
"""Seconds within which the service must connect, and respond."""


def diagnose(
    workload: Workload,
    *,
    credentials: Path | None = None,
    service: dict[str, Any] | None = None,
    calibration: Path | None = None,
    annealing_time: float | None = None,
    pack: bool = False,
    packings: Path | None = None,
    timeout: float = TIMEOUT,
) -> Iterator[Check]:
    """Check the set-up, from the installed packages to the cost of a training step.

    Nothing is submitted: it costs no QPU time. The token is kept out of the process's log records
    from here on.

    Args:
        workload: The training whose cost is estimated.
        credentials: The credentials.toml to read.
        service: More arguments for :func:`qattn.hardware.service.credentials.resolve`.
        calibration: A calibration file of the device, or a folder of them.
        annealing_time: Duration of an anneal in ns; None means the calibration's, or else the
            shortest that the solver knows.
        pack: Make the packing if there is none yet, which may take a minute.
        packings: Folder of packings; None means the user's cache.
        timeout: Seconds for the service to respond.

    Yields:
        One check per step, as soon as it is done.
    """
    names = ["credentials", "service", "token", "solver", "fast anneal", "packing", "calibration"]
    names.append("training step")
    yield check_loops()
    packages = check_packages()
    yield packages
    if packages.status == "failed":
        yield from _skipped(names, "packages")
        return
    check, resolved = check_credentials(credentials, service or {})
    yield check
    if resolved is None:
        yield from _skipped(names[1:], "credentials")
        return
    install_log_filter(resolved.token)
    reached = reach(resolved, timeout)
    yield check_service(reached)
    if not reached.answers:
        yield from _skipped(names[2:], "service")
        return
    yield check_token(resolved, reached)
    if not reached.accepts:
        yield from _skipped(names[3:], "token")
        return
    check, device = check_solver(resolved, reached)
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
        time = annealing_time or calibrated
        yield check_cost(device, packing, workload, time, resolved.qpu_budget)
    finally:
        device.close()


def _skipped(names: list[str], cause: str) -> Iterator[Check]:
    for name in names:
        yield Check(name, "skipped", f"needs: {cause}")


def check_solver(credentials: Credentials, reached: Reachability) -> tuple[Check, Device | None]:
    """Which solver the backend would use."""
    listed = ", ".join(f"{name} ({state.lower()})" for name, state in reached.status.items())
    hint = f"choose with --solver; the token opens: {listed or 'no solver'}"
    try:
        device = connect(credentials)
    except (BackendStopped, ValueError) as error:
        return Check("solver", "failed", str(error), hint), None
    graph = device.graph
    shape = ",".join(map(str, graph.shape))
    detail = (
        f"{'EMULATED: ' if device.emulated else ''}{device.name}, {graph.topology} {shape}, "
        f"{len(graph.qubits)} qubits, {len(graph.couplers)} couplers, graph {graph.graph_id}"
    )
    if reached.status.get(device.name, "ONLINE").upper() != "ONLINE":  # Ocean's list may be old
        device.close()
        return Check("solver", "failed", f"{device.name} is offline", hint), None
    return Check("solver", "ok", detail), device


def check_fast_anneal(device: Device, workload: Workload) -> Check:
    """Whether the solver knows fast anneals, and how short and long they may be."""
    name = "fast anneal"
    shortest, longest = _annealing_times(device, fast=True)
    if "fast_anneal" in device.solver.parameters and not math.isnan(shortest):
        return Check(name, "ok", f"{shortest:g} ns to {format_duration(1e-9 * longest)}")
    detail = f"{device.name} has none"
    if not workload.encoding.fast:
        return Check(name, "skipped", f"{detail}, and standard anneals need none")
    return Check(
        name,
        "failed",
        detail,
        "--solver '{\"fast_anneal\": true}' asks for a solver that has; --field-encoding direct "
        "uses standard anneals",
    )


def _annealing_times(device: Device, fast: bool) -> tuple[float, float]:
    """Shortest and longest anneal in ns; nan where the solver does not say."""
    name = "fast_anneal_time_range" if fast else "annealing_time_range"
    shortest, longest = device.properties.get(name, (math.nan, math.nan))
    return 1e3 * shortest, 1e3 * longest


def check_packing(
    device: Device, workload: Workload, pack: bool, folder: Path | None
) -> tuple[Check, Packing | None]:
    """How many problems fit at a time, if the packing has been made."""
    pattern = workload.pattern
    if not pack and not packing_file(device.graph, pattern, folder).is_file():
        of = f"{pattern.num_spins} spins" if pattern.width is None else pattern.describe()
        detail = f"of {of} not made yet: the first use makes it, in a minute or two"
        if packings_of_kin(device.graph, pattern, folder):
            detail += ", or repairs that of a similar working graph in seconds"
        return Check("packing", "skipped", detail, "--pack makes it now"), None
    try:
        packing = device.packing(pattern, folder)
    except ValueError as error:
        return Check("packing", "failed", str(error), "a shorter --context"), None
    used = "" if packing.pairs is None else f"{pattern.describe()}: "
    return Check("packing", "ok", used + packing.describe()), packing


def check_calibration(
    device: Device, file: Path | None, workload: Workload
) -> tuple[Check, float | None]:
    """How old the calibration is, and its annealing time in ns."""
    from qattn.hardware.calibration_file import load_device_calibration

    hint = "qattn calibrate --sampler dwave"
    if file is None:
        return Check("calibration", "skipped", "none given with --calibration", hint), None
    try:
        loaded = load_device_calibration(file, device.name)
        point = loaded.point(field_encoding=workload.encoding.value)
    except (ValueError, OSError) as error:
        return Check("calibration", "failed", str(error), hint), None
    detail = (
        f"{format_duration(3600 * loaded.age())} old, β_h {point.beta_h:.3g}, β_J "
        f"{point.beta_J:.3g} at {point.annealing_time:g} ns"
    )
    if loaded.graph_id == device.graph.graph_id:
        return Check("calibration", "ok", detail), point.annealing_time
    detail += f", made on the working graph {loaded.graph_id}, which has changed since"
    return Check("calibration", "warn", detail, f"calibrate anew: {hint}"), point.annealing_time


def check_cost(
    device: Device,
    packing: Packing | None,
    workload: Workload,
    annealing_time: float | None,
    budget: float | None,
) -> Check:
    """What a training step costs, and the whole run."""
    name = "training step"
    if annealing_time is None:
        annealing_time = _annealing_times(device, workload.encoding.fast)[0]
    if math.isnan(annealing_time):
        return Check(name, "skipped", "the solver does not say how long its anneals are")
    slots = packing or len(device.graph.qubits)
    params = replace(workload.settings, annealing_time=annealing_time).timing_params
    try:
        cost = step_cost(
            workload,
            slots,
            device.access_time,
            annealing_time=annealing_time,
            max_reads=device.max_reads(
                slots if isinstance(slots, int) else slots.num_qubits, params
            ),
        )
    except BackendStopped as error:
        return Check(name, "failed", str(error), "choose another solver")
    except ValueError as error:
        return Check(name, "failed", str(error), "a shorter --context")
    about = "at least" if packing is None else "about"
    training = workload.training
    run = training.steps * cost.access_time
    detail = (
        f"{cost.problems} problems of up to {workload.num_spins} spins in {about} {cost.jobs} "
        f"job{'s' if cost.jobs != 1 else ''} of {training.num_reads} reads at "
        f"{annealing_time:g} ns: {about} "
        f"{format_duration(cost.access_time)} of QPU access time, {format_duration(run)} for "
        f"{training.steps} steps"
    )
    if budget is None or run <= budget:
        return Check(name, "ok", detail)
    paid = int(budget / cost.access_time)
    detail += f"; the budget of {format_duration(budget)} pays for {paid} steps"
    return Check(name, "ok", detail, "fewer --steps, --num-reads or a smaller --batch-size")
