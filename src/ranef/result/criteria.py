"""Numbers that sum up a fit: log-likelihood, information criteria, explained variance."""

from __future__ import annotations

import math

from ranef.artifact.model import Model


def loglik(model: Model) -> float:
    """Log-likelihood; under REML that of the residual contrasts, as lme4 reports it."""
    return -model.info.deviance / 2


def aic(model: Model) -> float:
    """Akaike's criterion, ``-2 loglik + 2 df``; under REML from the REML criterion and with all parameters, as lme4."""
    return model.info.deviance + 2 * model.info.df


def bic(model: Model) -> float:
    """Schwarz's criterion, ``-2 loglik + log(nobs) df``; under REML as for `aic`."""
    return model.info.deviance + math.log(model.info.nobs) * model.info.df


def r2(model: Model) -> tuple[float, float]:
    """Marginal and conditional R2: the share of the variance due to the fixed part, and to fixed and random parts.

    Nakagawa and Schielzeth (2013), Methods in Ecology and Evolution 4; with random slopes as Johnson (2014), same
    journal, 5: the random part's variance is its mean over the rows.
    """
    info = model.info
    total = info.fixed_variance + info.random_variance + info.sigma**2
    return info.fixed_variance / total, (info.fixed_variance + info.random_variance) / total


def icc(model: Model) -> float:
    """Intraclass correlation given the fixed part: random variance over random plus residual variance."""
    return model.info.random_variance / (model.info.random_variance + model.info.sigma**2)
