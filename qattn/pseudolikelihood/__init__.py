"""Inverse temperatures from reads, by pseudo-likelihood."""

from qattn.pseudolikelihood.fit import (
    BetaFit,
    ScalarBetaFit,
    fit_beta,
    fit_betas,
    fit_betas_of_each,
)

__all__ = ["BetaFit", "ScalarBetaFit", "fit_beta", "fit_betas", "fit_betas_of_each"]
