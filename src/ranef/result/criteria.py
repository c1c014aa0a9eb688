"""Numbers that sum up a fit: log-likelihood, information criteria, explained variance."""

from __future__ import annotations

import math

from ranef.artifact.model import Model
from ranef.errors import OptionError

# variances of the standard logistic, normal and Gumbel distributions
LATENT = {"logit": math.pi**2 / 3, "probit": 1.0, "cloglog": math.pi**2 / 6}


def sigma(model: Model) -> float:
    """Residual standard deviation; of a gamma response its coefficient of variation, 1 for other families."""
    info = model.info
    return math.sqrt(info.family_parameters[0].value) if info.family == "gamma" else info.sigma


def deviance(model: Model) -> float:
    """-2 log-likelihood; the REML criterion under REML.

    Raises
    ------
    OptionError
        The fit is Bayesian; so too below.
    """
    if model.info.method == "map":
        raise OptionError(
            "a fit with method='map' has a penalised likelihood, the last of Fit.history, but no loglik, deviance, AIC "
            "or BIC; compare models by their predictions on rows that were held out"
        )
    if model.info.method == "vb":
        raise OptionError(
            "a fit with method='vb' has a lower bound of the likelihood, Fit.elbo, but no loglik, deviance, AIC or "
            "BIC; compare models by their predictions on rows that were held out"
        )
    if model.sample is not None:
        raise OptionError(
            "a fit with method='gibbs' has no maximum of the likelihood, hence no loglik, deviance, AIC or BIC: "
            "it draws from the posterior. Fit with another method for these; draws() has the log posterior of each draw"
        )
    return model.info.deviance


def loglik(model: Model) -> float:
    """Log-likelihood; under REML that of the residual contrasts, as lme4 reports it."""
    return -deviance(model) / 2


def aic(model: Model) -> float:
    """Akaike's criterion, ``-2 loglik + 2 df``; under REML from the REML criterion and with all parameters, as lme4."""
    return deviance(model) + 2 * model.info.df


def bic(model: Model) -> float:
    """Schwarz's criterion, ``-2 loglik + log(nobs) df``; under REML as for `aic`."""
    return deviance(model) + math.log(model.info.nobs) * model.info.df


def residual_variance(model: Model) -> float | None:
    """Variance of a row around its linear predictor, on the linear predictor's scale; None where there is none.

    Gaussian: ``sigma^2``. Logit, probit and cloglog: that of the latent variable whose sign, or place between the
    thresholds, is the response. Gamma with a log link: that of the logarithm of the response. The variance of a count
    on the log scale depends on its mean, so that it is no one number.
    """
    info = model.info
    if info.family == "gaussian":
        return info.sigma**2
    if info.family == "gamma":
        from scipy.special import polygamma

        return float(polygamma(1, 1 / info.family_parameters[0].value))
    return LATENT.get(info.link)


def r2(model: Model) -> tuple[float, float] | None:
    """Marginal and conditional R2: the share of the variance due to the fixed part, and to fixed and random parts.

    Nakagawa and Schielzeth (2013), Methods in Ecology and Evolution 4; with random slopes as Johnson (2014), same
    journal, 5: the random part's variance is its mean over the rows; other families as Nakagawa, Johnson and Schielzeth
    (2017), J. R. Soc. Interface 14, with the theoretical variance. None where `residual_variance` is, and for models
    with latent terms.
    """
    info, residual = model.info, residual_variance(model)
    if residual is None or model.latent:
        return None
    total = info.fixed_variance + info.random_variance + residual
    return info.fixed_variance / total, (info.fixed_variance + info.random_variance) / total


def icc(model: Model) -> float | None:
    """Intraclass correlation given the fixed part: random variance over random plus residual variance."""
    residual = residual_variance(model)
    return (
        None
        if residual is None or model.latent
        else model.info.random_variance / (model.info.random_variance + residual)
    )
