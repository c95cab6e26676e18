"""``qattn emulate-qpu``: an emulated D-Wave processor for development and tests."""

import os
import signal
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer
from rich.console import Console

from qattn.cli.terminal.flags import flags_of, with_flags
from qattn.hardware.emulator import EmulatedQPU, EmulatorSettings, Fault

console = Console(highlight=False, soft_wrap=True)

WARNING = (
    "EMULATED QPU, for development and tests; no result from it is a quantum computer's result."
)
SETTINGS = (
    *("device", "topology", "port", "dead_qubits", "dead_couplers", "seed", "beta_h", "beta_J"),
    *("schedule", "sheet", "h_noise", "flux_offset", "chain_offset"),
    *("readout_flip", "drift", "tls"),
)


@with_flags(flags_of(EmulatorSettings, SETTINGS))
def emulate_qpu(
    shape: Annotated[
        str | None,
        typer.Option(help="m,t of a Zephyr graph; m of a Pegasus (default: 12,4)."),
    ] = None,
    j_noise: Annotated[float, typer.Option(help="Control error of J, anew for each job.")] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="where:kind[:times[:after[:seconds]]]; may be repeated."),
    ] = None,
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
    **options: Any,
) -> None:
    """Serve an emulated D-Wave processor on the loopback interface until Ctrl-C.

    Any program with the unmodified Ocean client takes it for a QPU; its solver name, tags and
    properties say "emulated". The files of --token-file and --credentials are readable by you
    alone and are removed at the end.
    """
    faults = [Fault.parse(text) for text in fault or ()]
    if shape is None and options["device"] is None:
        shape = "12,4"
    grid = None if shape is None else _numbers(shape)
    settings = EmulatorSettings(shape=grid, J_noise=j_noise, account=account, **options)
    with ExitStack() as stack, EmulatedQPU(settings) as qpu:
        for queued in faults:
            qpu.fault(**vars(queued))
        if token_file is not None:
            _write_secret(token_file, qpu.token + "\n", stack)
        if credentials is not None:
            text = tomli_w.dumps({"dwave": qpu.client_options})
            _write_secret(credentials, text, stack)
        _introduce(qpu, token_file, credentials)
        _wait(seconds)
    console.print(
        f"{len(qpu.jobs)} jobs, {qpu.access_time_us / 1e6:.3f} s of emulated QPU access time"
    )


def _introduce(qpu: EmulatedQPU, token_file: Path | None, credentials: Path | None) -> None:
    graph = qpu.graph
    console.print(WARNING, style="bold")
    console.print(
        f"{qpu.name}: {len(graph.qubits)} qubits, {len(graph.couplers)} couplers; Ctrl-C ends it"
    )
    lines = [f"export DWAVE_API_ENDPOINT={qpu.endpoint}"]
    if token_file is not None:
        lines.append(f'export DWAVE_API_TOKEN="$(cat {token_file})"')
    elif credentials is None:
        lines.append(f"export DWAVE_API_TOKEN={qpu.token}")
    else:
        lines = [f"credentials in {credentials}"]
    if qpu.settings.tls is not None:
        lines.append(f"export REQUESTS_CA_BUNDLE={Path(qpu.settings.tls).absolute()}")
    for line in lines:
        console.print(line, markup=False)
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
