r"""`nn.TransformerEncoderLayer` with Boltzmann attention against the same with PyTorch's own.

Forward and backward of a layer of width 64, four heads and a feed-forward network of 256, batch 64,
without dropout, under the masks that such a layer is given. Both take turns in one process; CPU
time, ratios of medians.

    python benchmarks/encoder_layer.py
"""

import argparse
import platform
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from qattn.layers import replace_attention

COUPLINGS: list[tuple[int, dict[str, Any]]] = [
    (12, {"couplings": "dense"}),
    (12, {"couplings": "banded"}),
    (64, {"couplings": "banded"}),
    (64, {"couplings": "low_rank"}),
]
BATCH, WIDTH = 64, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table("keys", "couplings", "mask", "softmax, ms", "Boltzmann, ms", "ratio")
    for T, options in COUPLINGS:
        torch.manual_seed(0)
        softmax, boltzmann = (
            nn.TransformerEncoderLayer(WIDTH, 4, 256, 0.0, batch_first=True) for _ in range(2)
        )
        replace_attention(boltzmann, T, **options)
        x = torch.randn(BATCH, T, WIDTH)
        for name, masks in masks_of(T).items():
            times: dict[nn.Module, list[float]] = {softmax: [], boltzmann: []}
            for _ in range(arguments.repeats):
                for layer, own in times.items():
                    own.append(seconds(layer, x, masks))
            medians = [statistics.median(own[3:]) for own in times.values()]
            shown = [f"{value * 1e3:.1f}" for value in medians]
            table.add_row(
                str(T), options["couplings"], name, *shown, f"{medians[1] / medians[0]:.2f}"
            )
    console = Console()
    console.print(
        f"{platform.machine()}, {arguments.threads} thread(s), PyTorch {torch.__version__}"
    )
    console.print(table)


def masks_of(T: int) -> dict[str, dict[str, Any]]:
    """What the layer is called with: half of each sequence at most is padding."""
    absent = torch.arange(T) >= torch.randint(T // 2, T + 1, (BATCH, 1))
    padding = torch.zeros(BATCH, T).masked_fill(absent, -torch.inf)
    causal = {"src_mask": nn.Transformer.generate_square_subsequent_mask(T), "is_causal": True}
    return {
        "none": {},
        "padding": {"src_key_padding_mask": padding},
        "causal": causal,
        "causal, not hinted": causal | {"is_causal": False},
        "causal and padding": causal | {"src_key_padding_mask": padding},
    }


def seconds(layer: nn.Module, x: Tensor, masks: Mapping[str, Any]) -> float:
    """CPU time of forward and backward."""
    start = time.process_time()
    layer(x, **masks).square().mean().backward()
    return time.process_time() - start


if __name__ == "__main__":
    main()
