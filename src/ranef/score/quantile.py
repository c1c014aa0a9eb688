"""Quantiles of the predictive distribution of a new response: the limits of its prediction interval.

A response is on its *scale* ``v``: the logarithm of a positive number, that of a count and one more. There quantiles
are smooth functions of mean and standard deviation of the linear predictor, and where there are many rows they are read
off a table. Counts that the table does not settle are looked for one by one, so that they are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import special

from ranef.artifact.model import FloatArray
from ranef.errors import OptionError
from ranef.family import Family
from ranef.family.ratings import Ratings
from ranef.score.mixture import mixed_cdf
from ranef.score.table import Box, interpolate, interpolation

IntArray = npt.NDArray[np.intp]
Reached = Callable[[FloatArray, IntArray], npt.NDArray[np.bool_]]

ROWS = 1 << 12
# with as many rows a table is made
MANY = 8_000
# share of the rows that may lie outside it, at either end
OUTSIDE = 1e-3
# rows that the table is tried on
TRIED = 256
# of the scale: an error of the table that a search around it makes good, and how many times what was seen it may be
ROUGH, MARGIN = 1e-3, 8.0
# of a positive response: of its logarithm, and of the normal score of its probability
ACCURACY = 1e-9
# of the table of a positive response
FINE = 1e-8
# counts beyond it are no exact float64
LARGEST_COUNT = float(1 << 53)


@dataclass(frozen=True, eq=False)
class Predictor:
    """Normal linear predictors, and whose response they are of.

    Attributes
    ----------
    mean, sd : float64 arrays, shape (rows,)
    weights : float64 array, shape (rows,), or None
        Trials of a proportion.
    """

    family: Family
    phi: FloatArray
    mean: FloatArray
    sd: FloatArray
    weights: FloatArray | None = None

    def at(self, rows: npt.NDArray[np.intp | np.bool_]) -> Predictor:
        weights = None if self.weights is None else self.weights[rows]
        return Predictor(self.family, self.phi, self.mean[rows], self.sd[rows], weights)

    def below(self, y: FloatArray, rows: IntArray) -> FloatArray:
        """``P(Y <= y)`` of some rows."""
        weights = None if self.weights is None else self.weights[rows]
        return mixed_cdf(self.family, y, self.mean[rows], self.sd[rows], weights, self.phi)


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
        The family has neither counts, positive numbers nor ratings; a count would be larger than 2^53.
    """
    usable = np.isfinite(mean) & np.isfinite(sd)
    if weights is not None:
        usable &= weights > 0
    find = {"count": _count, "proportion": _proportion, "positive": _positive, "rating": _rating}.get(family.kind)
    if find is None:
        raise OptionError(f"a new response of the {family.name} family has no quantiles worth telling")
    out = np.full(len(mean), np.nan)
    known = np.flatnonzero(usable)
    of = Predictor(family, phi, mean, sd, weights)
    tabulated = {"count": _tabulated_counts, "positive": _tabulated_positive}.get(family.kind)
    if tabulated is not None and len(known) >= MANY:
        out[known], settled = tabulated(of.at(known), probability)
        known = known[~settled]
    for at in range(0, len(known), ROWS):
        rows = known[at : at + ROWS]
        out[rows] = find(of.at(rows), probability)
    return out


def _proportion(of: Predictor, p: float) -> FloatArray:
    trials = np.ones(len(of.mean)) if of.weights is None else of.weights
    return _bisect(lambda k, rows: of.below(k / trials[rows], rows) >= p, np.rint(trials)) / trials


def _rating(of: Predictor, p: float) -> FloatArray:
    if not isinstance(of.family, Ratings):
        raise OptionError(f"a new response of the {of.family.name} family is no rating")
    low, step, steps = of.family.low, of.family.step, of.family.steps
    most = np.full(len(of.mean), float(steps))
    return low + step * _bisect(lambda k, rows: of.below(low + step * k, rows) >= p, most)


def _count(of: Predictor, p: float) -> FloatArray:
    def reached(k: FloatArray, rows: IntArray) -> npt.NDArray[np.bool_]:
        return of.below(k, rows) >= p

    high = np.ceil(of.family.mean(of.mean)) + 1.0
    left = np.arange(len(of.mean))
    while len(left):
        if high[left].max() > LARGEST_COUNT:
            raise OptionError(
                f"a prediction interval reaches {high[left].max():.2g}, and counts beyond 9e15 cannot be told apart: "
                "is the linear predictor far from those of the fit? Look at type='link'"
            )
        left = left[~reached(high[left], left)]
        high[left] *= 2.0
    return _bisect(reached, high)


def _bisect(reached: Reached, high: FloatArray, low: FloatArray | None = None) -> FloatArray:
    """Smallest whole number of at least 0 that is enough, where ``high`` is and ``low``, by default -1, is not."""
    low, high = np.full(len(high), -1.0) if low is None else low.copy(), high.copy()
    while len(left := np.flatnonzero(high - low > 1.0)):
        middle = np.floor((low[left] + high[left]) / 2.0)
        enough = reached(middle, left)
        high[left] = np.where(enough, middle, high[left])
        low[left] = np.where(enough, low[left], middle)
    return high


def _positive(of: Predictor, p: float) -> FloatArray:
    width = np.sqrt(of.sd**2 + of.family.dispersion(of.phi))
    return np.exp(_root(lambda v, rows: _excess(of, p, np.exp(v), rows), of.mean, width))


def _excess(of: Predictor, p: float, y: FloatArray, rows: IntArray) -> FloatArray:
    """Of ``P(Y <= y)`` over ``p``, in normal scores, where both distributions are close to straight lines."""
    return np.asarray(special.ndtri(of.below(y, rows).clip(1e-300, 1.0 - 1e-16))) - float(special.ndtri(p))


def _root(excess: Callable[[FloatArray, IntArray], FloatArray], near: FloatArray, width: FloatArray) -> FloatArray:
    """Where rising functions are zero, by the secant rule held by a bracket that is looked for first."""
    every = np.arange(len(near))
    low, high = near - width, near + width
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
    return (low + high) / 2.0


def _tabulated_positive(of: Predictor, p: float) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Quantiles, and which rows have them: the mean shifts the logarithm, so that the table is one of the sd alone."""
    family, phi = of.family, of.phi
    own = family.dispersion(phi)
    # over its width the quantile hardly changes, on the width's own scale
    widths = np.log(of.sd**2 + own) / 2.0

    def scale(width: FloatArray) -> FloatArray:
        sd = np.sqrt((np.exp(2.0 * width) - own).clip(0.0))
        return np.log(_positive(Predictor(family, phi, np.zeros(len(sd)), sd), p)) / np.exp(width)

    box = Box.around(widths, OUTSIDE)
    table, error = interpolation(scale, [box], FINE, TRIED)
    if error > FINE:
        return np.zeros(len(of.mean)), np.zeros(len(of.mean), np.bool_)
    return np.exp(of.mean + np.exp(widths) * interpolate(table, [box], widths)), box.holds(widths)


def _tabulated_counts(of: Predictor, p: float) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Quantiles, and which rows have them.

    A count is zero up to a mean that depends on the sd. The table begins there: beyond it the distribution function,
    taken between whole numbers too, is smooth.
    """
    family, phi = of.family, of.phi
    none = np.zeros(len(of.mean)), np.zeros(len(of.mean), np.bool_)
    sds = Box.around(of.sd, OUTSIDE)

    def first(sd: FloatArray) -> FloatArray:
        """The mean up to which the quantile is zero."""

        def short(mean: FloatArray, rows: IntArray) -> FloatArray:
            there = Predictor(family, phi, mean, sd[rows])
            return -_excess(there, p, np.zeros(len(mean)), np.arange(len(mean)))

        return _root(short, np.zeros(len(sd)), 1.0 + sd)

    starts, off = interpolation(first, [sds], ROUGH, TRIED)
    if off > ROUGH:
        return none
    beyond = of.mean - interpolate(starts, [sds], of.sd)
    lengths = Box.around(beyond[beyond > 0.0], OUTSIDE, low=0.0)

    def scale(length: FloatArray, sd: FloatArray) -> FloatArray:
        mean = interpolate(starts, [sds], sd) + length
        there = Predictor(family, phi, mean, sd)

        def excess(v: FloatArray, rows: IntArray) -> FloatArray:
            # before zero, where the distribution function of a count stands still, a straight line
            return _excess(there, p, np.expm1(v.clip(0.0)), rows) + np.minimum(v, 0.0)

        return _root(excess, np.log1p(family.mean(mean)), 1.0 + sd).clip(0.0)

    table, error = interpolation(scale, [lengths, sds], ROUGH / MARGIN, TRIED)
    if error > ROUGH:
        return none
    margin = MARGIN * max(error, off, ACCURACY)
    # far before the table's beginning
    zero = sds.holds(of.sd) & (beyond < -10.0 * margin)
    inside = sds.holds(of.sd) & ~zero & (beyond <= lengths.high)
    rows = np.flatnonzero(inside)
    v = interpolate(table, [lengths, sds], beyond[rows].clip(0.0), of.sd[rows])
    low, high = (np.ceil(np.expm1(v + side)).clip(0.0) for side in (-margin, margin))
    out, settled = np.zeros(len(of.mean)), zero
    out[rows] = high
    settled[rows] = low == high
    unsure = np.flatnonzero((low < high) & (high < LARGEST_COUNT))
    return _looked_up(of, p, rows[unsure], low[unsure] - 1.0, high[unsure], out, settled), settled


def _looked_up(
    of: Predictor,
    p: float,
    rows: IntArray,
    low: FloatArray,
    high: FloatArray,
    out: FloatArray,
    settled: npt.NDArray[np.bool_],
) -> FloatArray:
    """Fill in the counts between ``low`` and ``high`` where these turn out to enclose them."""

    def reached(k: FloatArray, which: IntArray) -> npt.NDArray[np.bool_]:
        return of.below(k, which) >= p

    for at in range(0, len(rows), ROWS):
        part, before, after = rows[at : at + ROWS], low[at : at + ROWS], high[at : at + ROWS]
        enclosed = reached(after, part)
        some = np.flatnonzero(before >= 0.0)
        enclosed[some] &= ~reached(before[some], part[some])
        part, before, after = part[enclosed], before[enclosed], after[enclosed]
        out[part] = _bisect(partial(_among, reached, part), after, before)
        settled[part] = True
    return out


def _among(reached: Reached, rows: IntArray, k: FloatArray, which: IntArray) -> npt.NDArray[np.bool_]:
    return reached(k, rows[which])
