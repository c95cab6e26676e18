"""What persistent chains save, and their bias: `python benchmarks/persistent_chains.py`.

A transformer is trained on bracket matching with reads of `gibbs`. Each call's reads are compared
with exact ⟨s⟩: rms error over the rms noise of as many independent reads, over the last third of
the steps, for chains that start up and down anew (fresh) and for chains that go on from those of
the call before, whose couplings are nearly the same but whose fields belong to other sequences
(persistent). The last column is the size of the couplings then. Without bias the ratio is 1.
"""

import argparse
import math

import torch

from qattn import IsingBatch, SpinSamples, exact
from qattn.backends import Backend, register_backend
from qattn.simulators import GibbsBackend
from qattn.training import Learner, TrainConfig


class Watched(Backend):
    """gibbs, with the error of every call's ⟨s⟩ over its floor noted."""

    def __init__(self, num_sweeps: int, persistent: bool) -> None:
        self.inner = GibbsBackend(num_sweeps=num_sweeps, persistent=persistent)
        self.ratios: list[float] = []
        self.coupling = 0.0

    def sample(self, batch: IsingBatch, *, num_reads: int, seed: int | None = None) -> SpinSamples:
        """Draw reads, and compare them."""
        samples = self.inner.sample(batch, num_reads=num_reads, seed=seed)
        m = exact.mean_spins(batch)
        squares = (samples.mean_spins() - m).square().sum()
        floor = ((1 - m**2) * batch.active).sum() / num_reads
        self.ratios.append(math.sqrt(float(squares / floor)))
        self.coupling = float(batch.J.square().mean().sqrt())
        return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--reads", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--coupling-lr-factor", type=float, default=3.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("sweeps  chains      error of ⟨s⟩ / floor   rms coupling")
    for num_sweeps in (1, 2, 5, 20):
        for persistent in (False, True):
            watched = Watched(num_sweeps, persistent)
            register_backend("watched", lambda watched=watched: watched)
            config = TrainConfig(
                task="brackets",
                context=12,
                steps=given.steps,
                batch_size=8,
                lr=given.lr,
                coupling_lr_factor=given.coupling_lr_factor,
                sampler="watched",
                estimator="callen",
                num_reads=given.reads,
            )
            learner = Learner(config)
            for step in range(given.steps):
                learner.step(step)
            late = torch.tensor(watched.ratios[2 * len(watched.ratios) // 3 :])
            name = "persistent" if persistent else "fresh"
            print(f"{num_sweeps:6d}  {name:10s}  {late.mean():14.3f} {watched.coupling:20.2f}")


if __name__ == "__main__":
    main()
