r"""A device's inverse temperatures, followed through the reads that are paid for anyway."""

import numpy as np
import torch
from numpy.typing import NDArray

from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.pseudolikelihood import BetaFit, fit_betas

DRIFT = 5e-3
"""Standard deviation by which log β is expected to wander from one call to the next."""

TRACKED_READS = 100
"""Reads of a problem that are used to follow the betas; their temperature is that of all."""

TRACKED_SPINS = 1 << 18
"""Bound on the spins of one fit."""


def fitted_betas(batch: IsingBatch, samples: SpinSamples) -> BetaFit:
    r"""Factors (r_h, r_J) by which reads are colder than a batch at β = 1; 1 if they fit it.

    Clustered by problem, so that a device's control errors count as noise. Of very many reads a
    regular selection is used.
    """
    G, Q, n = batch.h.shape
    # A problem a row; J of absent spins is 0.
    active = batch.active.expand(G, Q, n).flatten(0, 1)
    J = batch.matrix.repeat_interleave(Q, 0) * active[:, None] * active[:, :, None]
    h, spins = batch.h.flatten(0, 1), samples.spins.flatten(0, 1)
    # Every step-th problem and its first reads, so that the fit stays within its bound.
    reads = min(spins.shape[1], TRACKED_READS)
    step = max(1, len(h) * reads * n // TRACKED_SPINS)
    chosen = slice(None, None, step)
    spins = spins[chosen, :reads].double()
    weights = torch.ones(spins.shape[:2], dtype=torch.float64)
    clusters = "problems" if len(spins) >= 20 else "reads"
    return fit_betas(h[chosen], J[chosen], spins, weights, active[chosen], clusters=clusters)


class BetaTracker:
    r"""A Kalman filter for :math:`x = (\log\beta_h, \log\beta_J)` of a device.

    Reads of a batch that was programmed with betas :math:`b` fit the target with factors
    :math:`r` (1 if b is right), so they measure x as :math:`z = \log b + \log r` with the
    covariance R of the fit. Between calls x wanders:

    .. math::
        P \leftarrow P + Q, \quad K = P (P + R)^{-1}, \quad
        x \leftarrow x + K (z - x), \quad P \leftarrow (1 - K) P .

    With Q the square of :data:`DRIFT`, a call moves the betas by a small part of what it measured:
    noise is averaged, drift is followed.

    Args:
        betas: (β_h, β_J) to start from.
        covariance: Covariance of the two; None means a standard error of 1% each.
        drift: Square root of Q; 0 for a device that does not drift.
    """

    def __init__(
        self,
        betas: tuple[float, float],
        covariance: NDArray[np.float64] | None = None,
        drift: float = DRIFT,
    ) -> None:
        scale = np.array(betas)
        relative = 1e-4 * np.eye(2) if covariance is None else covariance / np.outer(scale, scale)
        self._betas = betas
        self._x: NDArray[np.float64] = np.log(scale)
        self._P: NDArray[np.float64] = np.array(relative)
        self.drift = drift

    @property
    def betas(self) -> tuple[float, float]:
        """The present estimate (β_h, β_J)."""
        return self._betas

    @property
    def standard_errors(self) -> tuple[float, float]:
        """Standard errors of the present estimate of β_h and β_J."""
        of_h, of_J = (np.exp(self._x) * np.sqrt(np.diag(self._P))).tolist()
        return of_h, of_J

    def update(self, fit: BetaFit, programmed_with: tuple[float, float]) -> None:
        """Update the estimate from a call's reads.

        Args:
            fit: Factors (r_h, r_J) of the reads' fit to the target; nan where the problems had no
                fields, or no couplings.
            programmed_with: The betas that the problems were divided by.
        """
        r = np.array([fit.beta_h, fit.beta_J])
        # The betas that the reads measure: both, one or none of the two.
        (seen,) = (np.isfinite(r) & (r > 0)).nonzero()
        # P grows by Q with every call, measured or not.
        self._P = self._P + self.drift**2 * np.eye(2)
        if not len(seen):
            return
        # Measurement z and its covariance R in terms of log β: relative errors.
        R = (fit.covariance.numpy() / np.outer(r, r))[np.ix_(seen, seen)]
        z = (np.log(programmed_with) + np.log(np.where(r > 0, r, 1.0)))[seen]
        # Gain K and the update; P is kept symmetric against rounding.
        gain = self._P[:, seen] @ np.linalg.inv(self._P[np.ix_(seen, seen)] + R)
        self._x = self._x + gain @ (z - self._x[seen])
        P = self._P - gain @ self._P[seen]
        self._P = (P + P.T) / 2
        beta_h, beta_J = np.exp(self._x).tolist()
        self._betas = beta_h, beta_J

    def state_dict(self) -> dict[str, list[float]]:
        """Plain numbers for a checkpoint."""
        return {"betas": list(self._betas), "P": self._P.ravel().tolist()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Restore :meth:`state_dict`."""
        beta_h, beta_J = state["betas"]
        self._betas = beta_h, beta_J
        self._x = np.log(state["betas"])
        self._P = np.array(state["P"]).reshape(2, 2)
