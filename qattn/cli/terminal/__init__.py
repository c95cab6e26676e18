"""What every command has on a terminal: groups in its help, Ctrl-C, and its progress."""

__all__: list[str] = []
