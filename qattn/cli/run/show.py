"""``qattn show``: the attention of a trained model on a text, as a page."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from qattn.cli.run.trained import Data, Member, NumReads, reads_of
from qattn.cli.terminal.report import called

console = Console(highlight=False, soft_wrap=True)


def show(
    run: Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)],
    text: Annotated[
        str | None,
        typer.Option(
            help="What the model reads, up to its context (default: the first validation sequence)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The page (default: show.html in the run's folder).")
    ] = None,
    layers: Annotated[
        str, typer.Option(help="Show some layers only: 0,3 (default: all of them).")
    ] = "",
    member: Member = 0,
    data: Data = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Take mean spins from reads of this backend, with options as in "
            "neal:num_sweeps=100 (default: exact ones, or the run's mean field)."
        ),
    ] = None,
    num_reads: NumReads = 1000,
) -> None:
    """Show the attention of a trained model on a text: one page, opened in a browser.

    Choose a layer, a head and a token whose query is shown: its weights over the tokens beside
    those that it would have without couplings (J = 0), its fields, and the couplings J of the head.
    The page needs no network and no other file.
    """
    import qattn
    from qattn.show import write_page
    from qattn.training import RunFolder

    state = RunFolder(run).read_checkpoint()
    model, task = qattn.load(run, member=member, data=data)
    config = RunFolder(run).trained_config(state)
    tokens = task.validation()[0][0] if text is None else task.encode(text)
    if not 0 < len(tokens) <= config.context:
        raise ValueError(
            f"Argument `text` must have at least 1 and at most {config.context} tokens, the run's "
            f"context, but has {len(tokens)}."
        )
    path = run / "show.html" if out is None else out
    with ExitStack() as stack:
        if sampler is not None:
            stack.enter_context(reads_of(model, sampler, num_reads, path.with_suffix("")))
        write_page(
            model,
            tokens,
            task.token_names(tokens),
            path,
            layers=numbers("layers", layers) or None,
            title=f"Attention of the run {run.resolve().name}",
            about={
                "run": run,
                "attention": config.arm,
                "task": config.task,
                "step": None if state is None else state["progress"]["step"],
                "seed": config.seed + member,
                "sampler": sampler,
            },
            **called(),
        )
    console.print(str(path), markup=False)


def numbers(name: str, text: str) -> list[int]:
    """Whole numbers from a list such as 0,3.

    >>> numbers("layers", "0,3")
    [0, 3]
    """
    try:
        return [int(part) for part in filter(None, text.split(","))]
    except ValueError:
        raise ValueError(
            f"Argument `{name}` must be whole numbers as in 0,3, but is {text!r}."
        ) from None
