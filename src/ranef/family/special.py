"""Special functions in forms that keep their digits, and sums over rows without large temporaries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]

# exp() is held at this exponent, so that no product of two of these, no sum over rows and no Newton step overflows
LARGEST_EXPONENT = 300.0

# from here on the series in 1 / x are exact to double precision
SERIES_FROM = 15.0

ROWS = 1 << 14


def exp_capped(x: FloatArray) -> FloatArray:
    """``exp(x)``, at most ``exp(300)``."""
    out = np.minimum(x, LARGEST_EXPONENT)
    return np.exp(out, out=out)


def log1mexp(x: FloatArray) -> FloatArray:
    """``log(1 - exp(-x))`` for positive ``x`` (Maechler 2012); 0 at infinity."""
    with np.errstate(divide="ignore"):
        return np.where(x < np.log(2.0), np.log(-np.expm1(-x)), np.log1p(-np.exp(-x)))


def log_factorial_rest(x: FloatArray) -> FloatArray:
    """``log(x!) - x log(x) + x``: what Stirling's first two terms leave of a factorial; 0 at 0.

    It grows as ``log(2 pi x) / 2``, so that differences of factorials of large numbers keep their digits
    (Loader 2000, "Fast and accurate computation of binomial probabilities").
    """
    series = x > SERIES_FROM
    large = np.where(series, x, SERIES_FROM)
    s = 1.0 / (large * large)
    tail = (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s / 1188)))) / large
    small = np.where(series, SERIES_FROM, x)
    return np.where(
        series,
        0.5 * np.log(2.0 * np.pi * large) + tail,
        special.gammaln(small + 1.0) - special.xlogy(small, small) + small,
    )


def log_factorial_rest_slope(x: FloatArray) -> FloatArray:
    """First derivative of `log_factorial_rest`, ``digamma(x + 1) - log(x)``, for positive ``x``."""
    series = x > SERIES_FROM
    large = np.where(series, x, SERIES_FROM)
    s = 1.0 / (large * large)
    small = np.where(series, SERIES_FROM, x)
    return np.where(
        series,
        0.5 / large - s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s / 132)))),
        special.digamma(small + 1.0) - np.log(small),
    )


def log_factorial_rest_curvature(x: FloatArray) -> FloatArray:
    """Second derivative of `log_factorial_rest`, ``trigamma(x + 1) - 1 / x``, for positive ``x``."""
    series = x > SERIES_FROM
    large = np.where(series, x, SERIES_FROM)
    s = 1.0 / (large * large)
    small = np.where(series, SERIES_FROM, x)
    return np.where(
        series,
        -0.5 * s + s / large * (1 / 6 - s * (1 / 30 - s * (1 / 42 - s * (1 / 30 - s * 5 / 66)))),
        special.polygamma(1, small + 1.0) - 1.0 / small,
    )


def beta_cdf_at_failure(a: FloatArray, b: FloatArray, success: FloatArray, failure: FloatArray) -> FloatArray:
    """``1 - I_success(a, b) = I_failure(b, a)``, with all its digits; ``success + failure = 1``.

    The smaller of the two arguments is the one that has all its digits. SciPy's complement takes ten times as long as
    its beta distribution, and is asked only where subtraction would lose digits.
    """
    a, b, success, failure = np.broadcast_arrays(a, b, success, failure)
    out = np.empty(success.shape)
    small = failure < success
    out[small] = special.betainc(b[small], a[small], failure[small])
    large = ~small
    out[large] = 1.0 - special.betainc(a[large], b[large], success[large])
    low = large & (out < 0.1)
    out[low] = special.betaincc(a[low], b[low], success[low])
    return out


def of_counts(function: Callable[[FloatArray], FloatArray], y: FloatArray) -> FloatArray:
    """``function`` of whole numbers, computed once for each number where they are small and many."""
    largest = float(y.max(initial=0.0))
    if largest < len(y) // 16:
        return function(np.arange(largest + 1.0))[y.astype(np.intp)]
    return function(y)


def total(function: Callable[..., FloatArray], *arrays: FloatArray | None) -> float:
    """Sum of what ``function`` gives for each row, a few thousand rows at a time; an array may be None."""
    rows = next(len(a) for a in arrays if a is not None)
    sums = [
        float(np.sum(function(*(None if a is None else a[at : at + ROWS] for a in arrays))))
        for at in range(0, rows, ROWS)
    ]
    return float(np.sum(sums))
