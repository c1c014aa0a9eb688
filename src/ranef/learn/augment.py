"""Latent variables that make a response Gaussian given them, for draws of all coefficients in one piece.

Logit links: Polya-Gamma weights (Polson, Scott and Windle 2013). Probit links: the latent normal whose sign, or whose
place among the thresholds, is the response (Albert and Chib 1993).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri_exp

from ranef.errors import DataError, OptionError
from ranef.family import Family
from ranef.family.ordinal import Ordinal
from ranef.family.thresholds import Cuts
from ranef.kernel.polya_gamma import polya_gamma

FloatArray = npt.NDArray[np.float64]
Augmentation = Literal["none", "polya-gamma", "normal"]

SUPPORTED = "gaussian, bernoulli with link logit or probit, binomial with link logit, ordinal with link probit"
_KNOWN: dict[tuple[str, str], Augmentation] = {
    ("gaussian", "identity"): "none",
    ("bernoulli", "logit"): "polya-gamma",
    ("binomial", "logit"): "polya-gamma",
    ("bernoulli", "probit"): "normal",
    ("ordinal", "probit"): "normal",
}


def has_augmentation(family: Family) -> bool:
    """Whether there are latent variables for the family, or it needs none."""
    return (family.name, family.link) in _KNOWN


def augmentation_of(family: Family) -> Augmentation:
    """What the family needs.

    Raises
    ------
    OptionError
        The family has no augmentation here.
    """
    if not has_augmentation(family):
        raise OptionError(
            f"method='gibbs' is not known for family={family.name!r} with link={family.link!r}: it is for {SUPPORTED}"
        )
    return _KNOWN[family.name, family.link]


def check_weights(family: Family, weights: FloatArray | None) -> None:
    """Refuse weights that the latent variables cannot have.

    Raises
    ------
    DataError
        A weight of a probit model is no whole number: a row stands for as many latent normals.
    """
    if augmentation_of(family) != "normal" or weights is None:
        return
    broken = np.flatnonzero(weights != np.rint(weights))
    if len(broken):
        raise DataError(
            f"method='gibbs' with a probit link takes weights that are whole numbers, how often a row counts; "
            f"{len(broken):,} are not, the first in row {broken[0]:,} of those used ({weights[broken[0]]:g}): use "
            "method='laplace', or link='logit' for family='bernoulli'"
        )


def latent_rows(
    family: Family,
    phi: FloatArray,
    y: FloatArray,
    eta: FloatArray,
    weights: FloatArray | None,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Draw the latent variables of some rows given everything else.

    Parameters
    ----------
    family : Family
        Not the Gaussian.
    phi : float64 array
        Its own parameters.
    y, eta : float64 array, shape (rows,)
    weights : float64 array, shape (rows,), or None
    rng : numpy.random.Generator

    Returns
    -------
    weight, response : float64 arrays, shape (rows,)
        Given the latent variables, the likelihood is ``exp(response eta - weight eta^2 / 2)``.
    """
    if augmentation_of(family) == "polya-gamma":
        return polya_gamma_rows(y, eta, weights, rng)
    if isinstance(family, Ordinal):
        cuts, code = Cuts(family.jacobian @ phi), y.astype(np.intp)
        return normal_rows(cuts.lower[code], cuts.upper[code], eta, weights, rng)
    success = y > 0.5
    return normal_rows(np.where(success, 0.0, -np.inf), np.where(success, np.inf, 0.0), eta, weights, rng)


def polya_gamma_rows(
    y: FloatArray, eta: FloatArray, weights: FloatArray | None, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw the weights of logit rows.

    Parameters
    ----------
    y : float64 array, shape (rows,)
        Successes over trials.
    weights : float64 array, shape (rows,), or None
        Trials; None for one each.

    Returns
    -------
    weight, response : float64 arrays, shape (rows,)
        Given the weight, the likelihood is ``exp(response eta - weight eta^2 / 2)``.
    """
    trials = np.ones(len(y)) if weights is None else weights
    weight = np.empty(len(y))
    polya_gamma(trials, eta, rng, weight)
    return weight, trials * (y - 0.5)


def normal_rows(
    lower: FloatArray, upper: FloatArray, eta: FloatArray, weights: FloatArray | None, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw the latent normals of probit rows, between ``lower`` and ``upper``; as `polya_gamma_rows`.

    Parameters
    ----------
    weights : float64 array, shape (rows,), or None
        Whole numbers: how many normals a row has. Their sum is the response.
    """
    if weights is None:
        return np.ones(len(eta)), eta + truncated_normal(lower - eta, upper - eta, rng)
    times = np.rint(weights).astype(np.int64)
    row = np.repeat(np.arange(len(eta)), times)
    drawn = truncated_normal((lower - eta)[row], (upper - eta)[row], rng)
    return weights, weights * eta + np.bincount(row, drawn, len(eta))


def truncated_normal(lower: FloatArray, upper: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Standard normal numbers given that they are between two limits, exact far into both tails.

    By inversion of the logarithm of the distribution function, on the side where that has digits.
    """
    # an interval right of zero is turned to the left
    turned = lower > 0.0
    a, b = np.where(turned, -upper, lower), np.where(turned, -lower, upper)
    below, above = log_ndtr(a), log_ndtr(b)
    u = rng.random(len(lower))
    # log(F(a) + u (F(b) - F(a))): relative to the larger one
    with np.errstate(divide="ignore", invalid="ignore"):
        mixed = above + np.log1p(-(1.0 - u) * -np.expm1(below - above))
    x = np.clip(ndtri_exp(mixed), a, b)
    return np.asarray(np.where(turned, -x, x))
