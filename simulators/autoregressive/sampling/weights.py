"""Importance weights as the weights of reads, and reads drawn anew by them."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def normalised(log_weights: Float[Tensor, "*queries reads"]) -> Float[Tensor, "*queries reads"]:
    r"""Weights R w_r / Σ w in float64, of mean 1: they sum to the number of reads R exactly.

    They are rounded to multiples of a power of two, so fine that every partial sum is exact; what
    is then missing goes to the largest.

    >>> normalised(torch.tensor([0.3, 0.1, 0.2]).log()).sum()
    tensor(3., dtype=torch.float64)
    """
    reads = log_weights.shape[-1]
    w = reads * log_weights.double().softmax(-1)
    step = 2.0 ** (math.ceil(math.log2(reads)) - 51)
    w = (w / step).round() * step
    return w.scatter_add(-1, w.argmax(-1, keepdim=True), reads - w.sum(-1, keepdim=True))


def resampled(
    log_weights: Float[Tensor, "*queries reads"], generator: torch.Generator
) -> Int[Tensor, "*queries reads"]:
    r"""Which reads are drawn by their weights: low-variance (systematic) resampling.

    Read r is drawn ⌊R w_r⌋ or ⌈R w_r⌉ times, R w_r in the mean, with one random number u for all of
    a query: where Σ_{t≤r} w_t passes (u + k)/R, k = 0 … R - 1 (Kitagawa, J. Comput. Graph. Stat. 5,
    1 (1996)). Their order is random, so that they are exchangeable.

    >>> chosen = resampled(torch.tensor([0.5, 0.25, 0.25, 0.0]).log(), torch.Generator())
    >>> chosen.sort().values
    tensor([0, 0, 1, 2])
    """
    log_w = log_weights.double()
    reads, device = log_w.shape[-1], log_w.device
    u = torch.rand(*log_w.shape[:-1], 1, generator=generator, device=device, dtype=log_w.dtype)
    places = (u + torch.arange(reads, device=device)) / reads
    found = torch.searchsorted(log_w.softmax(-1).cumsum(-1), places.contiguous(), right=True)
    # The last sum may be below 1 by rounding: what is beyond it is the likeliest read.
    found = torch.where(found < reads, found, log_w.argmax(-1, keepdim=True))
    order = torch.rand(found.shape, generator=generator, device=device).argsort(-1)
    return found.gather(-1, order)
