"""Steps of the doctor about the solver: fast anneals, packing, calibration, and what it costs."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qattn.backends.base import SamplerStopped
from qattn.hardware.doctor.reachability import Reachability
from qattn.hardware.doctor.setup_checks import Check
from qattn.hardware.service.budget import format_duration
from qattn.hardware.service.credentials import Credentials

if TYPE_CHECKING:
    from qattn.hardware.doctor.cost import Workload
    from qattn.hardware.embedding.packing import Packing
    from qattn.hardware.service.device import Device


def check_solver(credentials: Credentials, reached: Reachability) -> tuple[Check, "Device | None"]:
    """Which solver the backend would use."""
    from qattn.hardware.service.device import connect

    listed = ", ".join(f"{name} ({state.lower()})" for name, state in reached.status.items())
    advice = f"choose with --solver; the token opens: {listed or 'no solver'}"
    try:
        device = connect(credentials)
    except (SamplerStopped, ValueError) as error:
        return Check("solver", "failed", str(error), advice), None
    graph = device.graph
    shape = ",".join(map(str, graph.shape))
    detail = (
        f"{'EMULATED: ' if device.emulated else ''}{device.name}, {graph.topology} {shape}, "
        f"{len(graph.qubits)} qubits, {len(graph.couplers)} couplers, graph {graph.graph_id}"
    )
    if reached.status.get(device.name, "ONLINE").upper() != "ONLINE":  # Ocean's list may be old
        device.close()
        return Check("solver", "failed", f"{device.name} is offline", advice), None
    return Check("solver", "ok", detail), device


def check_fast_anneal(device: "Device", workload: "Workload") -> Check:
    """Whether the solver knows fast anneals, and of what length."""
    name = "fast anneal"
    shortest, longest = _annealing_times(device, fast=True)
    if device.supports_fast_anneal and not math.isnan(shortest):
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


def _annealing_times(device: "Device", fast: bool) -> tuple[float, float]:
    """Shortest and longest anneal in ns; nan where the solver does not say."""
    name = "fast_anneal_time_range" if fast else "annealing_time_range"
    shortest, longest = device.properties.get(name, (math.nan, math.nan))
    return 1e3 * shortest, 1e3 * longest


def check_packing(
    device: "Device", workload: "Workload", pack: bool, folder: Path | None
) -> tuple[Check, "Packing | None"]:
    """How many problems fit at a time, if that has been found out."""
    from qattn.hardware.embedding.packing_files import packing_file

    n = workload.num_spins
    if not pack and not packing_file(device.graph, n, folder).is_file():
        detail = f"of {n} spins not made yet: the first use makes it, in a minute or two"
        return Check("packing", "skipped", detail, "--pack makes it now"), None
    try:
        packing = device.packing(n, folder)
    except ValueError as error:
        return Check("packing", "failed", str(error), "a shorter --context"), None
    return Check("packing", "ok", packing.describe()), packing


def check_calibration(
    device: "Device", file: Path | None, workload: "Workload"
) -> tuple[Check, float | None]:
    """How old the calibration is, and its annealing time in ns."""
    from qattn.hardware.calibration_file import load_device_calibration

    advice = "qattn calibrate --sampler dwave"
    if file is None:
        return Check("calibration", "skipped", "none given with --calibration", advice), None
    try:
        found = load_device_calibration(file, device.name)
        point = found.point(field_encoding=workload.field_encoding)
    except (ValueError, OSError) as error:
        return Check("calibration", "failed", str(error), advice), None
    detail = (
        f"{format_duration(3600 * found.age())} old, β_h {point.beta_h:.3g}, β_J "
        f"{point.beta_J:.3g} at {point.annealing_time:g} ns"
    )
    if found.graph_id == device.graph.graph_id:
        return Check("calibration", "ok", detail), point.annealing_time
    detail += f", made on the working graph {found.graph_id}, which has changed since"
    return Check("calibration", "ok", detail, f"calibrate anew: {advice}"), point.annealing_time


def check_cost(
    device: "Device",
    packing: "Packing | None",
    workload: "Workload",
    annealing_time: float | None,
    budget: float | None,
) -> Check:
    """What a training step costs, and the whole run."""
    from qattn.hardware.doctor.cost import least_step_cost, step_cost

    name = "training step"
    if annealing_time is None:
        annealing_time = _annealing_times(device, workload.encoding.fast)[0]
    if math.isnan(annealing_time):
        return Check(name, "skipped", "the solver does not say how long its anneals are")
    settings: dict[str, Any] = {
        "annealing_time": annealing_time,
        "most_reads": device.most_reads(annealing_time),
    }
    try:
        if packing is None:
            qubits = len(device.graph.qubits)
            cost = least_step_cost(workload, qubits, device.access_time, **settings)
        else:
            cost = step_cost(workload, packing, device.access_time, **settings)
    except SamplerStopped as error:
        return Check(name, "failed", str(error), "choose another solver")
    except ValueError as error:
        return Check(name, "failed", str(error), "a shorter --context")
    about = "at least" if packing is None else "about"
    run = workload.steps * cost.access_time
    detail = (
        f"{cost.problems} problems of up to {workload.num_spins} spins in {about} {cost.jobs} "
        f"jobs of {workload.num_reads} reads at {annealing_time:g} ns: {about} "
        f"{format_duration(cost.access_time)} of QPU access time, {format_duration(run)} for "
        f"{workload.steps} steps"
    )
    if budget is None or run <= budget:
        return Check(name, "ok", detail)
    paid = int(budget / cost.access_time)
    detail += f"; the budget of {format_duration(budget)} pays for {paid} steps"
    return Check(name, "ok", detail, "fewer --steps, --num-reads or a smaller --batch-size")
