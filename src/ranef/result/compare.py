"""Fits side by side: likelihood-ratio tests and information criteria."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.special import chdtrc

from ranef.artifact.model import Model
from ranef.errors import ConvergenceWarning, OptionError
from ranef.learn.noise import standard_error
from ranef.result.criteria import aic, bic, loglik
from ranef.result.tables import Columns
from ranef.result.type3 import type3_table
from ranef.result.warn import warn

# the first is the second with theta at infinity
NESTED = {"poisson", "negative_binomial"}
# Monte-Carlo standard error of a likelihood-ratio statistic above which there is no verdict
MOST_NOISE = 0.5


def anova_table(models: Sequence[Model], names: Sequence[str]) -> Columns:
    """Likelihood-ratio tests of each model against the one before it, ordered by their number of parameters.

    A p value for a variance that is zero under the smaller model is conservative (Self and Liang 1987, J. American
    Statistical Association 82), and so is that for a Poisson model beside a negative binomial one.

    Parameters
    ----------
    models : sequence of Model
        One model gives its type III table instead.
    names : sequence of str
        What to call them.

    Returns
    -------
    dict
        ``model``, ``npar``, ``AIC``, ``BIC``, ``logLik``, ``deviance``, ``chisq``, ``df``, ``p``; NaN where there is no
        test. With a stochastic fit among them also ``chisq_mcse``, the Monte-Carlo standard error of ``chisq``; where
        it exceeds 0.5 there is no verdict, and p is NaN. For one model see `ranef.result.type3.type3_table`.

    Raises
    ------
    OptionError
        The models cannot be compared: other rows, another response, family or link, REML beside ML or with different
        fixed parts, different approximations of the likelihood.

    Warns
    -----
    ConvergenceWarning
        A larger model has a smaller likelihood, or the Monte-Carlo error leaves no verdict.

    Notes
    -----
    Two stochastic fits with the same seed have the probes of their log-determinants in common wherever they have a
    factor in common that neither eliminates. Their Monte-Carlo errors then cancel from ``chisq``, which is the mean of
    the differences probe by probe; `difference` has the details.
    """
    for model, name in zip(models, names, strict=True):
        if model.latent:
            raise OptionError(
                f"{name} has latent() or fm(): tests compare likelihoods, of which method='vb' has a lower bound only; "
                "compare predictions on rows that were held out"
            )
        if model.sample is not None:
            raise OptionError(
                f"{name} was fitted with method='gibbs': tests compare maxima of the likelihood, which it has not; fit "
                "with another method, or see the intervals of confint()"
            )
    if not models:
        raise OptionError("there is no model to test; give at least one")
    if len(models) == 1:
        return type3_table(models[0])
    _check(models, names)
    order = sorted(range(len(models)), key=lambda i: models[i].info.df)
    ordered = [models[i] for i in order]
    npar = np.array([model.info.df for model in ordered], dtype=np.int64)
    deviance = np.array([model.info.deviance for model in ordered])
    df = np.append(np.nan, np.diff(npar).astype(np.float64))
    gained, noise = np.array([(np.nan, np.nan), *(difference(a, b) for a, b in pairwise(ordered))]).T
    tested = df > 0
    # less than this is how far apart two converged searches may end
    worse = [names[order[i]] for i in range(1, len(order)) if tested[i] and gained[i] < -1e-5 - 3 * noise[i]]
    if worse:
        warn(
            f"{', '.join(worse)}: a smaller likelihood than the model before although there are more parameters; they "
            "are not nested, or a search did not find its maximum",
            ConvergenceWarning,
        )
    chisq = np.where(tested, gained.clip(0), np.nan)
    unsure = [names[order[i]] for i in range(1, len(order)) if tested[i] and noise[i] > MOST_NOISE]
    if unsure:
        warn(
            f"{', '.join(unsure)}: no p value, because the Monte-Carlo error of chisq exceeds {MOST_NOISE}; fit both "
            "models with the same seed and more probes (probes=64), or with solver='exact'",
            ConvergenceWarning,
        )
    known = tested & (noise <= MOST_NOISE)
    table: Columns = {
        "model": [names[i] for i in order],
        "npar": npar,
        "AIC": np.array([aic(model) for model in ordered]),
        "BIC": np.array([bic(model) for model in ordered]),
        "logLik": np.array([loglik(model) for model in ordered]),
        "deviance": deviance,
        "chisq": chisq,
        "df": np.where(tested, df, np.nan),
        "p": np.where(known, chdtrc(np.where(known, df, 1.0), np.where(known, chisq, 0.0)), np.nan),
    }
    return {**table, "chisq_mcse": noise} if any(model.info.deviance_error > 0 for model in models) else table


def difference(smaller: Model, larger: Model) -> tuple[float, float]:
    """How much lower the second model's deviance is, and the Monte-Carlo standard error of that.

    Two stochastic fits are compared probe by probe, over the probes that both have. Pairs are independent of each
    other, so the error of their mean is right whatever the fits have in common: small if they share seed and factors,
    that of independent fits if they share nothing. Beside an exact fit the other's own error is left. Where a fit was
    saved before there were draws, the errors are added as independent.
    """
    one, two = (np.array(model.info.deviance_draws) for model in (smaller, larger))
    common = min(len(one), len(two))
    if common < 2:
        gained = smaller.info.deviance - larger.info.deviance
        return gained, float(np.hypot(smaller.info.deviance_error, larger.info.deviance_error))
    pairs = one[:common] - two[:common]
    return float(pairs.mean()), standard_error(pairs)


def _check(models: Sequence[Model], names: Sequence[str]) -> None:
    first = models[0]
    for model, name in zip(models[1:], names[1:], strict=True):
        if model.spec.response_label != first.spec.response_label:
            raise OptionError(
                f"{names[0]} and {name} have different responses, {first.spec.response_label} and "
                f"{model.spec.response_label}; only fits of one response can be compared"
            )
        if model.info.nobs != first.info.nobs:
            raise OptionError(
                f"{names[0]} was fitted to {first.info.nobs:,} rows and {name} to {model.info.nobs:,}; rows with "
                "missing values in any model's columns must be left out of all: drop them before fitting"
            )
    _check_families(models, names)
    methods = {model.info.method for model in models}
    if len(methods) > 1:
        listed = ", ".join(f"{name}: {model.info.method.upper()}" for model, name in zip(models, names, strict=True))
        if first.spec.kind == "number":
            raise OptionError(f"REML and ML fits cannot be compared ({listed}); fit all of them with method='ml'")
        raise OptionError(
            f"these fits maximise different approximations of the likelihood ({listed}); fit all of them with one "
            "method, such as method='laplace'"
        )
    if len({model.info.quadrature for model in models}) > 1:
        listed = ", ".join(f"{name}: {model.info.quadrature}" for model, name in zip(models, names, strict=True))
        raise OptionError(
            f"these fits approximate the likelihood with different numbers of quadrature nodes ({listed}; 1 is "
            "Laplace's method): fit all of them with one number"
        )
    for model, name in zip(models[1:], names[1:], strict=True):
        if methods == {"reml"} and model.fixed_names != first.fixed_names:
            raise OptionError(
                f"{names[0]} and {name} have different fixed parts, and their REML criteria cannot be compared; fit "
                "all of them with method='ml'"
            )


def _check_families(models: Sequence[Model], names: Sequence[str]) -> None:
    """Refuse families that are not nested; a Poisson model is a negative binomial one without overdispersion."""
    first = models[0].info
    for model, name in zip(models[1:], names[1:], strict=True):
        if model.info.family != first.family and {model.info.family, first.family} != NESTED:
            raise OptionError(
                f"{names[0]} is of family {first.family!r} and {name} of family {model.info.family!r}: neither is a "
                "special case of the other, so there is no likelihood-ratio test; compare fit.aic"
            )
        if model.info.link != first.link:
            raise OptionError(
                f"{names[0]} has link {first.link!r} and {name} {model.info.link!r}: neither is a special case of the "
                "other, so there is no likelihood-ratio test; compare fit.aic"
            )
