"""What of the D-Wave set-up works, step by step, and the way out where it does not."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qattn.backends.base import SamplerStopped
from qattn.hardware.budget import format_duration
from qattn.hardware.credentials import Credentials, resolve
from qattn.hardware.reachability import TIMEOUT, Reachability, reach

if TYPE_CHECKING:
    from qattn.hardware.clique_slots import Packing
    from qattn.hardware.cost import Workload
    from qattn.hardware.device import Device

PACKAGES = ("dwave-system", "dwave-cloud-client", "dimod", "minorminer", "dwave-samplers")
"""What the backend needs; dwave-ocean-sdk brings them."""


@dataclass(frozen=True)
class Check:
    """The outcome of one step.

    Attributes:
        name: The step.
        status: Whether it works; "skipped" where an earlier failure leaves nothing to check, or
            nothing was asked for.
        detail: What was found.
        way_out: What the user can do.
    """

    name: str
    status: Literal["ok", "failed", "skipped"]
    detail: str
    way_out: str = ""


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
        service: More arguments for :func:`qattn.hardware.credentials.resolve`.
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


def check_packages() -> Check:
    """Whether Ocean is installed, and in which versions."""
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        detail = f"{', '.join(missing)} not installed"
        return Check("packages", "failed", detail, "pip install dwave-ocean-sdk")
    return Check("packages", "ok", ", ".join(versions))


def check_credentials(
    file: Path | None, service: dict[str, Any]
) -> tuple[Check, Credentials | None]:
    """Whether there are credentials, and where each value came from."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = resolve(file, **service)
    except (ValueError, OSError) as error:
        advice = "credentials.example.toml shows what the file may hold"
        return Check("credentials", "failed", str(error), advice), None
    values = {"token": "token"}
    for name in ("endpoint", "region", "solver"):
        values[name] = f"{name} {getattr(found, name)}"
    if found.qpu_budget is not None:
        values["qpu_budget"] = f"budget {format_duration(found.qpu_budget)}"
    detail = ", ".join(
        f"{words} from {found.sources[name]}"
        for name, words in values.items()
        if name in found.sources
    )
    advice = "; ".join(str(warning.message) for warning in caught)
    return Check("credentials", "ok", detail, advice), found


def check_service(reached: Reachability) -> Check:
    """Whether a solver API answers at the address."""
    if reached.answers:
        return Check("service", "ok", reached.address)
    return Check(
        "service",
        "failed",
        f"{reached.address}: {reached.reason}",
        "check the network, the endpoint or region, a proxy (DWAVE_API_PROXY), and "
        "https://status.dwavesys.com",
    )


def check_token(credentials: Credentials, reached: Reachability) -> Check:
    """Whether the service takes the token."""
    if reached.accepts:
        count = len(reached.status)
        return Check("token", "ok", f"opens {count} solver{'s' if count != 1 else ''}")
    source = credentials.sources["token"]
    return Check(
        "token",
        "failed",
        f"the one from {source} was not accepted: {reached.reason}",
        f"copy it anew from Leap's dashboard to {source}; a token belongs to one region",
    )


def check_solver(credentials: Credentials, reached: Reachability) -> tuple[Check, "Device | None"]:
    """Which solver the backend would use."""
    from qattn.hardware.device import connect

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
    if workload.field_encoding == "direct":
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
    from qattn.hardware.packing import load_packing

    n = workload.num_spins
    try:
        packing = device.packing(n, folder) if pack else load_packing(device.graph, n, folder)
    except ValueError as error:
        return Check("packing", "failed", str(error), "a shorter --context"), None
    if packing is None:
        detail = f"of {n} spins not made yet: the first use makes it, in a minute or two"
        return Check("packing", "skipped", detail, "--pack makes it now"), None
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
    from qattn.hardware.cost import least_step_cost, step_cost

    name = "training step"
    fast = workload.field_encoding != "direct"
    if annealing_time is None:
        annealing_time = _annealing_times(device, fast)[0]
    if math.isnan(annealing_time):
        return Check(name, "skipped", "the solver does not say how long its anneals are")
    settings: dict[str, Any] = {
        "annealing_time": annealing_time,
        "most_reads": device.most_reads,
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


def _skipped(names: list[str], cause: str) -> Iterator[Check]:
    for name in names:
        yield Check(name, "skipped", f"needs: {cause}")
