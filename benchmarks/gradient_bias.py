"""Bias of gradients from reads where the loss is not linear in the mean spins.

Value and gradient of an estimate come from the same reads. A loss L(<s>) passes dL/d<s> at the
noisy mean on to covariances with the same noise, and the expectation of a product is not that of
its factors. Prints |mean gradient - exact| / |exact| in the fields, with its standard error, by
number of reads, for a quadratic loss L = sum w <s>^2 and for one that is nearer to a line over the
range of <s>, the logistic L = sum w log(1 + exp <s>): `python benchmarks/gradient_bias.py`.
"""

import math

import torch

from qattn import IsingBatch, exact
from qattn.backends import ExactBackend
from qattn.estimators import mean_spins

SPINS, REPETITIONS, STRENGTH = 10, 40_000, 1.0


LOSSES = {"quadratic": torch.square, "logistic": torch.nn.functional.softplus}


def gradient(loss, mean, h, weights):
    """Derivative of the loss in the fields."""
    (grad,) = torch.autograd.grad((weights * LOSSES[loss](mean)).sum(), h, retain_graph=True)
    return grad[0]


def main():
    generator = torch.Generator().manual_seed(3)
    h = 0.3 * torch.randn(1, 1, SPINS, generator=generator, dtype=torch.float64)
    J = torch.randn(1, SPINS, SPINS, generator=generator, dtype=torch.float64).triu(1)
    J = (J + J.mT) * STRENGTH / math.sqrt(SPINS)
    weights = torch.randn(SPINS, generator=generator, dtype=torch.float64)
    h.requires_grad_()
    mean = exact.mean_spins(IsingBatch(h, J))
    expected = {loss: gradient(loss, mean, h, weights)[0] for loss in LOSSES}
    many_h = h.detach().expand(1, REPETITIONS, SPINS).clone().requires_grad_()
    batch = IsingBatch(many_h, J)
    print("reads  estimator  loss       relative bias of the gradient")
    for num_reads in (10, 30, 100):
        for name in ("callen", "moment"):
            mean = mean_spins(batch, ExactBackend(), num_reads=num_reads, estimator=name, seed=0)
            for loss, size in expected.items():
                grads = gradient(loss, mean, many_h, weights)
                bias = (grads.mean(0) - size).norm() / size.norm()
                error = (grads.var(0).sum() / REPETITIONS).sqrt() / size.norm()
                print(f"{num_reads:5d}  {name:9s}  {loss:9s}  {bias:.2%} ± {error:.2%}")


if __name__ == "__main__":
    main()
