r"""How much of what couplings between spins do to attention is a bias of position?

The weights of random queries and keys, 64 positions, with a band of couplings (standard deviation
0.05) between spins, between occupations, and as a field alone: root mean square of their change
from J = 0, relative to the weights there; and of the difference of spins to the field alone.

    python benchmarks/interaction_or_bias.py
"""

import math

import torch

from qattn import boltzmann_weights
from qattn.couplings import Banded


def main() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 16, 4, 64, 16)
    J = Banded.relative(0.05 * torch.randn(4, 4), num_spins=64)
    weights = {
        name: boltzmann_weights(
            query, key, J, is_causal=True, interaction=name, field_bias=-math.log(64)
        )
        for name in ("spin", "occupation", "field")
    }
    plain = (query @ key.mT / 4 - math.log(64)).sigmoid().tril()

    def size(x: torch.Tensor) -> float:
        return float(x.square().mean().sqrt() / plain.square().mean().sqrt())

    for name, found in weights.items():
        print(f"{name:20s} {size(found - plain):.3f}")
    print(f"{'spin less field':20s} {size(weights['spin'] - weights['field']):.3f}")


if __name__ == "__main__":
    main()
