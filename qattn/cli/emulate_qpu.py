"""``qattn emulate-qpu``: an emulated D-Wave processor for development and tests."""

import os
import signal
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tomli_w
import typer
from rich.console import Console

if TYPE_CHECKING:
    from qattn.hardware.emulator import EmulatedQPU

console = Console()

WARNING = (
    "EMULATED QPU, for development and tests; no result from it is a quantum computer's result."
)


def emulate_qpu(
    topology: Annotated[str, typer.Option(help="zephyr or pegasus.")] = "zephyr",
    shape: Annotated[str, typer.Option(help="m,t of a Zephyr graph; m of a Pegasus.")] = "12,4",
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    dead_qubits: Annotated[float, typer.Option(help="Fraction of dead qubits.")] = 0.0,
    dead_couplers: Annotated[float, typer.Option(help="Fraction of dead couplers.")] = 0.0,
    beta_h: Annotated[float, typer.Option(help="Inverse temperature of fields.")] = 10.2,
    beta_J: Annotated[
        float, typer.Option("--beta-J", help="Inverse temperature of couplings.")
    ] = 11.2,
    schedule: Annotated[
        str | None, typer.Option(help="Name or file: answers come from the simulated anneal.")
    ] = None,
    sheet: Annotated[str, typer.Option(help="Sheet of a schedule file: fast, standard.")] = "fast",
    h_noise: Annotated[float, typer.Option(help="Control error of h, anew for each job.")] = 0.0,
    j_noise: Annotated[float, typer.Option(help="Control error of J, anew for each job.")] = 0.0,
    flux_offset: Annotated[float, typer.Option(help="Spread of fixed fields, as h.")] = 0.0,
    readout_flip: Annotated[float, typer.Option(help="Chance to misread a qubit.")] = 0.0,
    drift: Annotated[float, typer.Option(help="Relative growth of both β in 1,000 jobs.")] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="where:kind[:times[:after[:seconds]]]; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of defects, noise and reads.")] = 0,
    token_file: Annotated[
        Path | None, typer.Option(help="Write the token to this new file, not to the screen.")
    ] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="Write a new credentials.toml for qattn.")
    ] = None,
    account: Annotated[
        Path | None, typer.Option(help="Keep the account of jobs in this file (JSON).")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after this time.")] = None,
) -> None:
    """Serve an emulated D-Wave processor on the loopback interface until Ctrl-C.

    Any program with the unmodified Ocean client takes it for a QPU; its solver name, tags and
    properties say "emulated". The files of --token-file and --credentials are readable by you
    alone and are removed at the end.
    """
    from qattn.hardware.emulator import EmulatedQPU, EmulatorSettings, Fault

    faults = [Fault.parse(text) for text in fault or ()]
    settings = EmulatorSettings(
        topology=topology,
        shape=_numbers(shape),
        dead_qubits=dead_qubits,
        dead_couplers=dead_couplers,
        seed=seed,
        beta_h=beta_h,
        beta_J=beta_J,
        schedule=schedule,
        sheet=sheet,
        h_noise=h_noise,
        J_noise=j_noise,
        flux_offset=flux_offset,
        readout_flip=readout_flip,
        drift=drift,
        port=port,
        account=account,
    )
    with ExitStack() as stack, EmulatedQPU(settings) as qpu:
        for item in faults:
            qpu.fault(
                item.where, item.kind, times=item.times, after=item.after, seconds=item.seconds
            )
        if token_file is not None:
            _write_secret(token_file, qpu.token + "\n", stack)
        if credentials is not None:
            text = tomli_w.dumps({"dwave": qpu.client_options})
            _write_secret(credentials, text, stack)
        _introduce(qpu, token_file, credentials)
        _wait(seconds)
    console.print(
        f"{len(qpu.jobs)} jobs, {qpu.access_time_us / 1e6:.3f} s of emulated QPU access time",
        highlight=False,
    )


def _introduce(qpu: "EmulatedQPU", token_file: Path | None, credentials: Path | None) -> None:
    graph = qpu.graph
    console.print(WARNING, style="bold", highlight=False, soft_wrap=True)
    console.print(
        f"{qpu.name}: {len(graph.qubits)} qubits, {len(graph.couplers)} couplers; Ctrl-C ends it",
        highlight=False,
        soft_wrap=True,
    )
    lines = [f"export DWAVE_API_ENDPOINT={qpu.endpoint}"]
    if token_file is not None:
        lines.append(f'export DWAVE_API_TOKEN="$(cat {token_file})"')
    elif credentials is None:
        lines.append(f"export DWAVE_API_TOKEN={qpu.token}")
    else:
        lines = [f"credentials in {credentials}"]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    console.file.flush()  # a script that reads the output waits for these lines


def _wait(seconds: float | None) -> None:
    """Wait until Ctrl-C, SIGTERM, or the end of the time."""
    ended = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        ended.wait(seconds)
    except KeyboardInterrupt:
        console.print()
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_secret(file: Path, text: str, stack: ExitStack) -> None:
    """Write a new file that its owner alone can read, and that the stack removes."""
    descriptor, part = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
        os.link(part, file)  # complete from its first moment, and never over another file
    except FileExistsError:
        raise FileExistsError(f"The file {file} exists: remove it or choose another.") from None
    finally:
        os.unlink(part)
    stack.callback(file.unlink, missing_ok=True)


def _numbers(shape: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in shape.split(","))
    except ValueError:
        raise ValueError(
            f"Argument `shape` must be numbers such as 12,4 but is {shape!r}."
        ) from None
