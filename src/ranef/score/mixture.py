"""The predictive distribution of a new response: the family's, mixed over a normal linear predictor."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import special

from ranef.artifact.model import FloatArray
from ranef.errors import OptionError
from ranef.family import Family

NODES = 24
ROWS = 1 << 12
# of a positive response: of its logarithm, and of the normal score of its probability
ACCURACY = 1e-9
# counts beyond it are no exact float64
LARGEST_COUNT = float(1 << 53)


@cache
def _nodes() -> tuple[FloatArray, FloatArray]:
    """Points and weights of Gauss-Hermite quadrature for a standard normal variable."""
    points, weights = np.polynomial.hermite_e.hermegauss(NODES)
    return points, weights / weights.sum()


def mixed_cdf(
    family: Family, y: FloatArray, mean: FloatArray, sd: FloatArray, weights: FloatArray | None, phi: FloatArray
) -> FloatArray:
    """``P(Y <= y)`` where the linear predictor is normal, shape (rows,).

    Parameters
    ----------
    y : float64 array, shape (rows,)
    mean, sd : float64 arrays, shape (rows,)
        Of the linear predictor.
    weights : float64 array, shape (rows,), or None
        Trials of a proportion.
    phi : float64 array

    Notes
    -----
    Quadrature over the linear predictor sees a step where the response is almost determined by it (large counts).
    There the roles change: with ``U`` uniform, ``Y <= y`` means that ``eta`` is below the linear predictor at which
    ``P(Y <= y) = U``, and the quadrature goes over the normal score of ``U``. Whichever of the two varies more is
    integrated exactly, so that the integrand is smooth.
    """
    points, mass = _nodes()
    half = np.full(len(y), special.ndtr(0.5))
    with np.errstate(invalid="ignore"):
        own = family.eta_at(y, 1.0 - half, weights, phi) - family.eta_at(y, half, weights, phi)
    # a difference of infinities: no linear predictor matters
    by_eta = ~(sd > own)
    out = np.zeros(len(y))

    def over(rows: npt.NDArray[np.bool_], integrand: Callable[..., FloatArray]) -> None:
        if rows.any():
            chosen = [None if a is None else a[rows] for a in (y, mean, sd, weights)]
            out[rows] = sum(w * integrand(t, *chosen) for t, w in zip(points, mass, strict=True))

    def given_eta(t: float, y: FloatArray, m: FloatArray, s: FloatArray, w: FloatArray | None) -> FloatArray:
        return family.cdf(y, m + t * s, w, phi)[1]

    def given_score(t: float, y: FloatArray, m: FloatArray, s: FloatArray, w: FloatArray | None) -> FloatArray:
        eta = family.eta_at(y, np.full(len(y), special.ndtr(t)), w, phi)
        return np.asarray(special.ndtr((eta - m) / s))

    over(by_eta, given_eta)
    over(~by_eta, given_score)
    return out


def mixed_quantile(
    family: Family,
    probability: float,
    mean: FloatArray,
    sd: FloatArray,
    weights: FloatArray | None,
    phi: FloatArray,
) -> FloatArray:
    """Smallest response ``y`` with ``P(Y <= y) >= probability``, shape (rows,); arguments as for `mixed_cdf`.

    Whole for counts, and successes over trials for proportions. NaN where the linear predictor or the trials are, or
    where there are no trials.

    Raises
    ------
    OptionError
        The family has neither counts nor positive numbers; a count would be larger than 2^53.
    """
    out = np.full(len(mean), np.nan)
    usable = np.isfinite(mean) & np.isfinite(sd)
    if weights is not None:
        usable &= weights > 0
    find = {"count": _count, "proportion": _proportion, "positive": _positive}.get(family.kind)
    if find is None:
        raise OptionError(f"a new response of the {family.name} family has no quantiles worth telling")
    known = np.flatnonzero(usable)
    for at in range(0, len(known), ROWS):
        rows = known[at : at + ROWS]
        out[rows] = find(family, probability, mean[rows], sd[rows], None if weights is None else weights[rows], phi)
    return out


def _proportion(
    family: Family, p: float, mean: FloatArray, sd: FloatArray, weights: FloatArray | None, phi: FloatArray
) -> FloatArray:
    trials = np.ones(len(mean)) if weights is None else weights

    def reached(k: FloatArray, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        return mixed_cdf(family, k / trials[rows], mean[rows], sd[rows], trials[rows], phi) >= p

    return _bisect(reached, np.rint(trials)) / trials


def _count(
    family: Family, p: float, mean: FloatArray, sd: FloatArray, weights: FloatArray | None, phi: FloatArray
) -> FloatArray:
    def reached(k: FloatArray, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        return mixed_cdf(family, k, mean[rows], sd[rows], None, phi) >= p

    high = np.ceil(family.mean(mean)) + 1.0
    left = np.arange(len(mean))
    while len(left):
        if high[left].max() > LARGEST_COUNT:
            raise OptionError(
                f"a prediction interval reaches {high[left].max():.2g}, and counts beyond 9e15 cannot be told apart: "
                "is the linear predictor far from those of the fit? Look at type='link'"
            )
        left = left[~reached(high[left], left)]
        high[left] *= 2.0
    return _bisect(reached, high)


def _bisect(
    reached: Callable[[FloatArray, npt.NDArray[np.intp]], npt.NDArray[np.bool_]], high: FloatArray
) -> FloatArray:
    """Smallest whole number of at least 0 that is enough, where ``high`` is."""
    low, high = np.full(len(high), -1.0), high.copy()
    while len(left := np.flatnonzero(high - low > 1.0)):
        middle = np.floor((low[left] + high[left]) / 2.0)
        enough = reached(middle, left)
        high[left] = np.where(enough, middle, high[left])
        low[left] = np.where(enough, low[left], middle)
    return high


def _positive(
    family: Family, p: float, mean: FloatArray, sd: FloatArray, weights: FloatArray | None, phi: FloatArray
) -> FloatArray:
    """By the secant rule on normal scores, where both distributions are close to straight lines, held by a bracket."""
    goal = float(special.ndtri(p))

    def excess(log_y: FloatArray, rows: npt.NDArray[np.intp]) -> FloatArray:
        below = mixed_cdf(family, np.exp(log_y), mean[rows], sd[rows], None, phi)
        return np.asarray(special.ndtri(below.clip(1e-300, 1.0 - 1e-16))) - goal

    every = np.arange(len(mean))
    width = np.sqrt(sd**2 + family.dispersion(phi))
    low, high = mean - width, mean + width
    for end, sign in ((low, -1.0), (high, 1.0)):
        left, step = every, width.copy()
        while len(left := left[sign * excess(end[left], left) < 0.0]):
            end[left] += sign * step[left]
            step[left] *= 2.0
    at_low, at_high = excess(low, every), excess(high, every)
    left, turn = every, 0
    while len(left):
        a, b, fa, fb = low[left], high[left], at_low[left], at_high[left]
        # every third step halves the bracket: the rule alone may move one end only
        x = (a + b) / 2.0 if turn % 3 == 2 else (a * fb - b * fa) / (fb - fa)
        f = excess(x, left)
        found, above = np.abs(f) < ACCURACY, f >= 0.0
        high[left], at_high[left] = np.where(above | found, x, b), np.where(above, f, fb)
        low[left], at_low[left] = np.where(above & ~found, a, x), np.where(above, fa, f)
        left = left[~found & (b - a > ACCURACY)]
        turn += 1
    return np.exp((low + high) / 2.0)
