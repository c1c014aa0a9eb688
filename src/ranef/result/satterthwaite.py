"""Tests of fixed effects with Satterthwaite's degrees of freedom.

References
----------
Kuznetsova, Brockhoff and Christensen (2017), lmerTest package: tests in linear mixed effects models, J. Stat.
Software 82(13). Fai and Cornelius (1996), Approximate F-tests of multiple degree of freedom hypotheses in generalized
least squares analyses of unbalanced split-plot experiments, J. Stat. Computation and Simulation 54.

SciPy's distributions are imported where they are used: predictions do without, and should start quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.errors import OptionError

FloatArray = npt.NDArray[np.float64]
Ddf = Literal["satterthwaite"] | None


@dataclass(frozen=True)
class FTest:
    """A test that several contrasts are zero: F on ``numdf`` and ``dendf`` degrees of freedom, and its p value."""

    f: float
    numdf: int
    dendf: float
    p: float


def check_ddf(ddf: object) -> None:
    """Refuse an unknown method for the degrees of freedom.

    Raises
    ------
    OptionError
    """
    if ddf is not None and ddf != "satterthwaite":
        raise OptionError(f"ddf={ddf!r} is not known: use 'satterthwaite', or None for the normal distribution")


def contrast_df(model: Model, contrasts: FloatArray) -> FloatArray:
    """Degrees of freedom of each contrast ``c @ beta``: ``2 v^2 / Var(v)``, ``v`` being its estimated variance.

    Parameters
    ----------
    model : Model
    contrasts : float64 array, shape (contrasts, p)

    Returns
    -------
    float64 array, shape (contrasts,)
        Infinite where the variance is known, and for families other than the Gaussian: their tests are normal ones.
    """
    if not len(model.vcov_gradient):
        return np.full(len(contrasts), np.inf)
    variance = np.einsum("ci,ij,cj->c", contrasts, model.vcov, contrasts)
    gradient = np.einsum("ci,mij,cj->cm", contrasts, model.vcov_gradient, contrasts)
    spread = np.einsum("cm,mn,cn->c", gradient, model.parameter_vcov, gradient)
    with np.errstate(divide="ignore"):
        return np.asarray(2 * variance**2 / spread)


def fixed_df(model: Model, ddf: Ddf) -> FloatArray:
    """Degrees of freedom of each fixed effect, shape (p,); infinite for ``ddf=None``.

    Raises
    ------
    OptionError
    """
    check_ddf(ddf)
    p = len(model.beta)
    return np.full(p, np.inf) if ddf is None else contrast_df(model, np.eye(p))


def two_sided_p(statistic: FloatArray, df: FloatArray) -> FloatArray:
    """p values of t statistics; infinite ``df`` means the normal distribution."""
    from scipy.special import ndtr, stdtr

    below = -np.abs(statistic)
    finite = np.where(np.isfinite(df), df, 1.0)
    return np.asarray(2 * np.where(np.isfinite(df), stdtr(finite, below), ndtr(below)))


def t_quantile(probability: float, df: FloatArray) -> FloatArray:
    """Quantiles of the t distribution; infinite ``df`` means the normal distribution."""
    from scipy.special import ndtri, stdtrit

    finite = np.where(np.isfinite(df), df, 1.0)
    return np.asarray(np.where(np.isfinite(df), stdtrit(finite, probability), ndtri(probability)))


def f_test(model: Model, contrasts: FloatArray) -> FTest:
    """Test that all ``contrasts @ beta`` are zero.

    The statistic is a mean of squared independent t statistics; the degrees of freedom of the denominator are such
    that the mean of F is that of this sum (Fai and Cornelius).

    Parameters
    ----------
    model : Model
    contrasts : float64 array, shape (contrasts, p)
        May be linearly dependent.
    """
    from scipy.special import fdtrc

    covariance = contrasts @ model.vcov @ contrasts.T
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    kept = values > 1e-10 * values[-1]
    rotated = vectors[:, kept].T @ contrasts
    t_squared = (rotated @ model.beta) ** 2 / values[kept]
    numdf = int(kept.sum())
    f = float(np.mean(t_squared))
    dendf = _denominator(contrast_df(model, rotated))
    return FTest(f, numdf, dendf, float(fdtrc(numdf, min(dendf, 1e12), f)))


def _denominator(df: FloatArray) -> float:
    if np.isinf(df).all():
        return float("inf")
    if len(df) == 1 or np.ptp(df) < 1e-8:
        return float(df.mean())
    if df.min() <= 2:
        return 2.0
    expected = float(np.sum(df / (df - 2)))
    return 2 * expected / (expected - len(df))
