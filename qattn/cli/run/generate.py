"""``qattn generate``: text from a trained model."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from qattn.cli.run.trained import Data, Member, NumReads, reads_of
from qattn.training.tasks import Task

LINES = 3
"""Positions of a query that a table names."""


def generate(
    run: Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)],
    prompt: Annotated[str, typer.Option(help="What the text begins with.", show_default=False)],
    tokens: Annotated[int, typer.Option(help="Number of tokens to add.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="Divides the logits; 0 takes the likeliest token.")
    ] = 1.0,
    top_k: Annotated[
        int | None, typer.Option(help="Draw among so many likeliest tokens (default: all).")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of tokens and reads (default: another each time).")
    ] = None,
    member: Member = 0,
    data: Data = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Take mean spins from reads of this backend, with options as in "
            "neal:num_sweeps=100 (default: exact ones, or the run's mean field). What it costs is "
            "said at the end."
        ),
    ] = None,
    num_reads: NumReads = 1000,
    attention: Annotated[
        bool,
        typer.Option(
            "--attention",
            help="Then show what each token was drawn from: the sum of the weights of the query "
            "before it, and the positions with the largest, by layer and head.",
        ),
    ] = False,
) -> None:
    """Generate text with a trained model, token by token.

    Once the text is longer than the model's context, the model sees its last tokens only.
    """
    import qattn
    from qattn.transformer import stream

    if seed is not None:
        torch.manual_seed(seed)
    else:
        torch.seed()
    model, task = qattn.load(run, member=member, data=data)
    text = task.encode(prompt)
    steps = stream(
        model, text[None], tokens, temperature=temperature, top_k=top_k, need_weights=attention
    )
    table = None
    costs: dict[str, Any] = {}
    with ExitStack() as stack:
        backend = None
        if sampler is not None:
            backend = stack.enter_context(reads_of(model, sampler, num_reads, None))
        printer = Printer(task, text)
        stack.callback(printer.end)
        for step in steps:
            if step.weights is not None:
                table = with_step(table, task, printer.tokens, int(step.token), step.weights)
            printer.add(int(step.token))
            if backend is not None and not isinstance(backend, str):
                costs = backend.provenance() | backend.metrics()
    if table is not None:
        Console(highlight=False).print(table)
    for name, value in costs.items():
        shown = f"{value:g}" if isinstance(value, float) else value
        print(f"{name}: {shown}", file=sys.stderr)


class Printer:
    """Prints a text as its tokens come, and ends the line whatever happens.

    Args:
        task: What tokens mean.
        tokens: Those that are there already.
    """

    def __init__(self, task: Task, tokens: Tensor) -> None:
        self.task, self.tokens, self._printed = task, tokens, ""
        self._print(task.decode(tokens))

    def add(self, token: int) -> None:
        """One more token."""
        self.tokens = torch.cat([self.tokens, self.tokens.new_tensor([token])])
        # The last bytes may be those of a character whose others are to come.
        self._print(self.task.decode(self.tokens).rstrip("\ufffd"))

    def end(self) -> None:
        """What was held back, and the end of the line."""
        self._print(self.task.decode(self.tokens) + "\n")

    def _print(self, text: str) -> None:
        if len(text) > len(self._printed):
            print(text[len(self._printed) :], end="", flush=True)
            self._printed = text


def with_step(
    table: Table | None, task: Task, seen: Tensor, token: int, weights: list[Tensor]
) -> Table:
    """The table of attention with a row more: what `token` was drawn from.

    Args:
        table: The rows before it.
        task: What tokens mean.
        seen: The tokens before it.
        token: The token.
        weights: Of each layer, those of the last query over the last tokens before it.
    """
    if table is None:
        heads = [f"{i}.{h}" for i, layer in enumerate(weights) for h in range(layer.shape[1])]
        table = Table(
            "token",
            *heads,
            show_lines=True,
            title="Attention: by layer and head, the sum of the weights, and the largest of them "
            "with the token and its distance from the query",
        )
    last, new = task.token_names(torch.cat([seen[-1:], seen.new_tensor([token])]))
    names = task.token_names(seen[-weights[0].shape[-1] :])
    cells = ("\n".join(lines_of(w, names)) for layer in weights for w in layer[0])
    table.add_row(f"{last} → {new}", *cells)
    return table


def lines_of(weights: Tensor, names: list[str]) -> Iterator[str]:
    """The sum of a query's weights, and the largest of them.

    >>> list(lines_of(torch.tensor([0.1, 0.0, 0.7]), ["a", "b", "c"]))
    ['Σ 0.80', 'c  0 0.70', 'a -2 0.10', 'b -1 0.00']
    """
    yield f"Σ {float(weights.sum()):.2f}"
    top = weights.topk(min(LINES, len(names)))
    for weight, position in zip(top.values.tolist(), top.indices.tolist(), strict=True):
        distance = position - len(names) + 1
        yield f"{names[position]} {distance:2d} {weight:.2f}"
