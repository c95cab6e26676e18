"""What ``qattn calibrate`` writes and prints, whichever annealer was calibrated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from qattn.calibration_file import Calibration

console = Console()


class Outcome(NamedTuple):
    """A calibration, what shows it, and its recommended settings in words."""

    calibration: Calibration[Any]
    table: Callable[[Any], Table]
    plot: Callable[[Any], Figure]
    recommended: str

    def write_and_print(self, out: Path) -> None:
        """Write the calibration's file and the plot beside it, and print the table."""
        self.calibration.save(out)
        picture = out.with_suffix(".png")
        self.plot(self.calibration).savefig(picture, dpi=120)
        console.print(self.table(self.calibration))
        console.print(f"recommended: {self.recommended}", highlight=False, soft_wrap=True)
        console.print(f"{out}\n{picture}", highlight=False, soft_wrap=True)
