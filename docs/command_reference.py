"""The page of the commands, from the commands themselves."""

import re
from typing import Any

from qattn.cli.app import COMMANDS, load_command


def commands_in_markdown() -> str:
    """A section for each command: its usage, what it does, and its options in their groups."""
    return "\n\n".join(section(name, load_command(name)) for name in COMMANDS)


def section(name: str, command: Any) -> str:
    """One command's help as Markdown."""
    ctx = command.context_class(command, **command.context_settings)
    label = f"command-{name.replace(' ', '-')}"
    parts = [f"({label})=\n## `qattn {name}`", escaped(command.help or "")]
    for title, options in command.option_groups(ctx).items():
        parts.append(f"**{title}**")
        parts += [f"`{flag}`\n: {escaped(text) or '…'}" for flag, text in options]
    return "\n\n".join(parts)


def escaped(text: str) -> str:
    """Plain text as Markdown; what stands between backticks is code."""
    pieces = re.split(r"(`+[^`]+`+)", " ".join(text.split()) if "\n\n" not in text else text)
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([\\*_<\[\]$|{}#])", r"\\\1", piece)
        for piece in pieces
    )
