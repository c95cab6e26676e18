r"""Effective sample sizes of reads whose order means something: chains, and annealers in a row.

.. math::
    \tau = 1 + 2 \sum_{t=1}^{W} \rho(t), \qquad N_\text{eff} = N / \tau,

with ρ the normalised autocorrelation. The sum stops at the first W ≥ c τ(W) (Sokal's window:
A. Sokal, in Functional Integration, Springer 1997, section 3): later lags add noise, not signal.
Where that gives less than 1, reads are anticorrelated, and τ does not say how long they remember;
the window is then c (1 + 4 Σ ρ²), which for ρ(t) = a^t is c (1 + 3a²)/(1 - a²), as long for -a as
for a. A sum over nearly all lags is 0 whatever the chain (the mean was taken out), so a chain
shorter than about 50 τ gives too small a τ.
For a vector such as the spins of a read the autocovariances of its components are added up, which
gives each the weight of its variance. Independent reads have τ = 1.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

SOKAL = 5.0
"""The window's c: its neglected tail is e^-c of the sum for an exponential decay."""


LONG_ENOUGH = 50.0
"""Length of a chain, in τ, at which its τ is known to about 60% and no longer biased by much (the
rule of emcee's ``integrated_time``)."""


def autocorrelation(series: Float[Tensor, "*batch reads features"]) -> Float[Tensor, "*batch lags"]:
    """ρ(t) of vector series with the mean taken out; nan where nothing varies."""
    N = series.shape[-2]
    centred = series.double() - series.double().mean(-2, keepdim=True)
    size = 1 << (2 * N - 1).bit_length()  # padded with zeros: the transform is cyclic, ρ is not
    spectrum = torch.fft.rfft(centred, size, dim=-2).abs().square().sum(-1)
    covariance = torch.fft.irfft(spectrum, size)[..., :N] / N
    variance = covariance[..., :1]
    # A variance below the rounding of the transform is zero.
    least = N * torch.finfo(torch.float64).eps
    rho: Tensor = torch.where(variance > least, covariance / variance, torch.nan)
    return rho


def integrated_time(
    series: Float[Tensor, "*batch reads features"],
    window: float = SOKAL,
    *,
    least: float = LONG_ENOUGH,
) -> Float[Tensor, "*batch"]:
    r"""Integrated autocorrelation time τ in reads, at least 1/N.

    nan for series that do not vary, and where τ cannot be estimated: N is below `least` times the
    τ that comes out, or below `least` reads.

    Args:
        series: Reads in the order in which they were drawn; the components of their vector last.
        window: c of Sokal's window.
        least: Length in τ that a series must have; 0 gives a τ, too small, of any series.

    Raises:
        ValueError: There are fewer than two reads, or `window` is not positive.
    """
    N = series.shape[-2]
    if N < 2:
        raise ValueError(f"Argument `series` must hold at least 2 reads, but holds {N}.")
    if not 0 < window < math.inf:
        raise ValueError(f"Argument `window` must be positive and finite, but is {window}.")
    rho = autocorrelation(series)
    times = 2 * rho.cumsum(-1) - 1
    time = _at_window(times, window * times)
    memory = _at_window(times, window * (4 * rho.square().cumsum(-1) - 3))
    time = torch.where(time < 1, memory, time).clamp_min(1 / N)
    return torch.where(least * time.clamp_min(1) > N, torch.nan, time)


def _at_window(times: Tensor, needed: Tensor) -> Tensor:
    """τ at the first lag that is as large as needed there; at the last one if there is none."""
    enough = torch.arange(times.shape[-1]) >= needed
    enough[..., -1] = True
    first = enough.double().argmax(-1, keepdim=True)
    return times.gather(-1, first).squeeze(-1)
