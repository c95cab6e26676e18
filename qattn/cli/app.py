"""The command line: its commands, each imported when it is called, and how errors end."""

import logging
import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from typer.core import TyperCommand, TyperGroup

from qattn._version import __version__
from qattn.cli.terminal.groups import GroupedCommand
from qattn.cli.terminal.leave import leaving_at_once

HELP = {"help_option_names": ["-h", "--help"]}

COMMANDS = {
    "backends": "List the backends: what each is, and whether it can run here.",
    "calibrate": "Judge settings of an annealer as a sampler of the Boltzmann distribution.",
    "compare": "Compare samplers with the exact Boltzmann distribution.",
    "doctor": "Check the D-Wave set-up step by step; submits nothing and costs nothing.",
    "emulate-qpu": "Serve an emulated D-Wave processor on the loopback interface until Ctrl-C.",
    "experiment list": "List the experiments, and how far each is.",
    "experiment report": "Write the reports of experiments, of what is done of them.",
    "experiment run": "Run an experiment, or go on with it; ends by writing its report.",
    "experiment status": "Say how far experiments are, and what the rest takes.",
    "fit-sampler": "Fit an autoregressive sampler to a problem, or to a family of problems.",
    "generate": "Generate text with a trained model, token by token.",
    "plot": "Draw learning curves of several runs over each other.",
    "qpu-check": "Check a QPU in under ten seconds of its time; one file of results to attach.",
    "runs": "List runs: what was trained, how far each is, and how well it does.",
    "show": "Show the attention of a trained model on a text: one page, opened in a browser.",
    "spin-glass": "Judge an autoregressive sampler of spin glasses over a ladder of temperatures.",
    "thermo": "Draw heat capacity, susceptibilities, Binder cumulants and entropy against β.",
    "train": "Train a small transformer with Boltzmann attention, or with one of its controls.",
}
"""First line of each command's help; the rest is in the module of its name."""


ON_RUNS = ("generate", "plot", "runs", "show")
"""Commands whose modules are those of :mod:`qattn.cli.run`."""


class CommandsOnCall(TyperGroup):
    """The commands as names and one line each; PyTorch is imported with the one that is called.

    Args:
        group: The first word of the names of its commands, and a space; "" at the root, where
            each first word of several commands is a group of its own.
        options: Those of the class above.
    """

    def __init__(self, *, group: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.group = group
        self.lines = {
            name.removeprefix(group): summary
            for name, summary in COMMANDS.items()
            if name.startswith(group)
        }
        for name, summary in self.lines.items():
            word, inner, _ = name.partition(" ")
            command: Any = TyperCommand(name, help=summary, rich_markup_mode=None)
            if inner:
                command = CommandsOnCall(
                    group=f"{word} ",
                    name=word,
                    no_args_is_help=True,
                    context_settings=HELP,
                    rich_markup_mode=None,
                )
            self.add_command(command, word)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that is called, with its options."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is None or isinstance(command, CommandsOnCall):
            return name, command, rest
        with leaving_at_once():
            return name, load_command(self.group + name), rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands with their whole lines, which Typer would cut off."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lines.items()))


def load_command(name: str) -> Any:
    """The command of a name of :data:`COMMANDS`: a function of that name, in a module of it."""
    words = name.replace("-", "_").split()
    room = ["run"] if name in ON_RUNS else []
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    command = getattr(import_module(".".join(["qattn.cli", *room, *words])), "_".join(words))
    single.command(name, cls=GroupedCommand, context_settings=HELP)(command)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=CommandsOnCall,
    context_settings=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Boltzmann attention: Ising attention patterns, exact or sampled."""
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; an error that its user can fix is one line, without a traceback.

    Ctrl-C ends with a word and status 130. Set QATTN_TRACEBACK=1 to see where it came from.
    """
    notices = logging.getLogger("qattn")
    notices.setLevel(logging.INFO)
    handler = RichHandler(
        console=Console(stderr=True), show_path=False, show_level=False, log_time_format="%X"
    )
    notices.addHandler(handler)
    try:
        app()
    except SystemExit as stop:
        if isinstance(getattr(stop.__context__, "__cause__", None), KeyboardInterrupt):
            _line("Stopped by Ctrl-C.", 130)
        raise
    except Exception as error:
        status = _exit_status(error)
        if status is None:
            raise
        sys.exit(status)
    finally:
        notices.removeHandler(handler)


def _exit_status(error: Exception) -> int | None:
    """Say the error in one line; None for a defect of ours, which keeps its traceback."""
    from qattn.backends import BackendStopped
    from qattn.training import Interrupted

    if isinstance(error, Interrupted):
        return _line(str(error), 130 if error.__cause__ is None else 1)
    fixable = ValueError, TypeError, OSError, MemoryError, FloatingPointError, ImportError
    if os.environ.get("QATTN_TRACEBACK") or not isinstance(error, (BackendStopped, *fixable)):
        return None
    return _line(f"Error: {error}", 1)


def _line(message: str, status: int) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return status
