"""Probabilities of intervals: ``log(F(b) - F(a))`` of a row's category, where ``a`` and ``b`` are its thresholds minus
``eta``, with the derivatives by ``eta``, ``a`` and ``b``.

The difference is never formed. Every link has a form in which nothing cancels, from categories far in the tail
to categories much narrower than the rounding of their ends' probabilities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranef.family.links import LINKS, Derivatives
from ranef.family.special import exp_capped
from ranef.family.thresholds import Cuts

FloatArray = npt.NDArray[np.float64]
CodeArray = npt.NDArray[np.intp]


class Ends(NamedTuple):
    """Derivatives by the lower end ``a`` and the upper end ``b``, each of shape (rows,)."""

    l_a: FloatArray
    l_b: FloatArray
    score_a: FloatArray
    score_b: FloatArray
    weight_a: FloatArray
    weight_b: FloatArray


class Curvature(NamedTuple):
    """Second derivatives of the log-probability by the ends, each of shape (rows,)."""

    aa: FloatArray
    ab: FloatArray
    bb: FloatArray


class Intervals(ABC):
    """The intervals' log-probabilities under one link."""

    @abstractmethod
    def loglik(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> FloatArray:
        """Log-probability of each row's category, shape (rows,)."""

    @abstractmethod
    def derivatives(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> Derivatives:
        """Log-probability, first, minus second and third derivative by ``eta``, each of shape (rows,)."""

    @abstractmethod
    def ends(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> Ends:
        """Derivatives of log-probability, score and weight by both ends."""

    @abstractmethod
    def curvature(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> Curvature:
        """Second derivatives of the log-probability by both ends."""


class LogitIntervals(Intervals):
    """``F(b) - F(a) = F(b) F(-a) (1 - exp(-(b - a)))``: the last factor does not depend on ``eta``."""

    def loglik(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> FloatArray:
        a, b = cuts.lower[codes] - eta, cuts.upper[codes] - eta
        bulk = (1.0 + np.exp(-np.abs(a))) * (1.0 + np.exp(-np.abs(b)))
        return _logit_value(a, b, bulk, cuts.log1mexp_width[codes])

    def derivatives(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> Derivatives:
        a, b = cuts.lower[codes] - eta, cuts.upper[codes] - eta
        below, variance_a, bulk = _logistic(a)
        above, variance_b, bulk_b = _logistic(-b)
        bulk *= bulk_b
        value = _logit_value(a, b, bulk, cuts.log1mexp_width[codes])
        score = below - above
        weight = variance_a + variance_b
        below *= -2.0
        below += 1.0
        below *= variance_a
        above *= -2.0
        above += 1.0
        above *= variance_b
        below -= above
        return value, score, weight, below

    def ends(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> Ends:
        below, variance_a, _ = _logistic(cuts.lower[codes] - eta)
        above, variance_b, _ = _logistic(eta - cuts.upper[codes])
        odds = cuts.odds[codes]
        return Ends(
            l_a=-below - odds,
            l_b=above + odds,
            score_a=variance_a,
            score_b=variance_b,
            weight_a=variance_a * (1.0 - 2.0 * below),
            weight_b=variance_b * (2.0 * above - 1.0),
        )

    def curvature(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> Curvature:
        _, variance_a, _ = _logistic(cuts.lower[codes] - eta)
        _, variance_b, _ = _logistic(eta - cuts.upper[codes])
        shared = (cuts.odds * (1.0 + cuts.odds))[codes]
        return Curvature(aa=-variance_a - shared, ab=shared, bb=-variance_b - shared)


def _logistic(x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``F(x)``, ``F(x) F(-x)`` and ``1 + exp(-|x|)``."""
    tail = np.abs(x)
    np.negative(tail, out=tail)
    np.exp(tail, out=tail)
    bulk = 1.0 + tail
    at = np.where(x > 0.0, 1.0, tail)
    at /= bulk
    tail /= bulk
    tail /= bulk
    return at, tail, bulk


def _logit_value(a: FloatArray, b: FloatArray, bulk: FloatArray, log_width: FloatArray) -> FloatArray:
    value = np.log(bulk)
    np.subtract(log_width, value, out=value)
    value += np.minimum(b, 0.0)
    value -= np.maximum(a, 0.0)
    return value


class CloglogIntervals(Intervals):
    """``F(b) - F(a) = exp(-u_a) F(x)`` with ``u_a = exp(a)`` and ``x = log(exp(b) - exp(a))``, which ``eta`` shifts."""

    def _parts(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> tuple[FloatArray, FloatArray]:
        # without eta, x is tau_b + log(1 - exp(-width))
        return exp_capped(cuts.lower[codes] - eta), (cuts.upper + cuts.log1mexp_width)[codes] - eta

    def loglik(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> FloatArray:
        u_a, x = self._parts(codes, eta, cuts)
        return LINKS["cloglog"].log_cdf(x) - u_a

    def derivatives(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> Derivatives:
        u_a, x = self._parts(codes, eta, cuts)
        value, first, second, third = LINKS["cloglog"].log_cdf_derivatives(x)
        return value - u_a, u_a - first, u_a + second, u_a - third

    def ends(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> Ends:
        u_a, x = self._parts(codes, eta, cuts)
        _, first, second, third = LINKS["cloglog"].log_cdf_derivatives(x)
        by_a = cuts.odds[codes]  # -dx/da; dx/db is one more
        by_b = 1.0 + by_a
        return Ends(
            l_a=-u_a - first * by_a,
            l_b=first * by_b,
            score_a=u_a - second * by_a,
            score_b=second * by_b,
            weight_a=u_a + third * by_a,
            weight_b=-third * by_b,
        )

    def curvature(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> Curvature:
        u_a, x = self._parts(codes, eta, cuts)
        _, first, second, _ = LINKS["cloglog"].log_cdf_derivatives(x)
        by_a = cuts.odds[codes]
        by_b = 1.0 + by_a
        shared = first * by_a * by_b
        return Curvature(
            aa=-u_a - second * by_a**2 - shared, ab=second * by_a * by_b + shared, bb=-second * by_b**2 - shared
        )


# log-probabilities of the ends that are nearer than this lose too many digits in their difference
SMALL_GAP = 0.25


class _Normal(NamedTuple):
    """A standard normal number between ``a`` and ``b``."""

    value: FloatArray  # log-probability of the interval
    mean: FloatArray  # given the interval, as are the next two
    lack: FloatArray  # one minus the variance
    skew: FloatArray  # third central moment
    at_a: FloatArray  # density at the ends over the probability
    at_b: FloatArray


class ProbitIntervals(Intervals):
    """The derivatives by ``eta`` are moments of a normal number in the interval: mean, variance - 1, third central one.

    Intervals are reflected to lie, for the greater part, below zero. Then ``F(b) - F(a) = F(b) (1 - exp(-gap))`` with
    ``gap = log F(b) - log F(a)``; where the gap is small the moments are integrals by Gauss's rule.
    """

    # stands for infinity, so that nothing times the distance to it is nothing
    FAR = 1e50

    def loglik(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> FloatArray:
        return self._moments(codes, eta, cuts).value

    def derivatives(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> Derivatives:
        normal = self._moments(codes, eta, cuts)
        return normal.value, normal.mean, normal.lack, normal.skew

    def ends(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> Ends:
        a, b = self._bounds(codes, eta, cuts)
        normal = self._moments(codes, eta, cuts)
        from_a, to_b, variance = normal.mean - a, b - normal.mean, 1.0 - normal.lack
        return Ends(
            l_a=-normal.at_a,
            l_b=normal.at_b,
            score_a=normal.at_a * from_a,
            score_b=normal.at_b * to_b,
            weight_a=normal.at_a * (from_a**2 - variance),
            weight_b=normal.at_b * (variance - to_b**2),
        )

    def curvature(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> Curvature:
        a, b = self._bounds(codes, eta, cuts)
        normal = self._moments(codes, eta, cuts)
        return Curvature(
            aa=normal.at_a * (a - normal.at_a), ab=normal.at_a * normal.at_b, bb=-normal.at_b * (b + normal.at_b)
        )

    def _bounds(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> tuple[FloatArray, FloatArray]:
        return np.maximum(cuts.lower, -self.FAR)[codes] - eta, np.minimum(cuts.upper, self.FAR)[codes] - eta

    def _moments(self, codes: CodeArray, eta: FloatArray, cuts: Cuts) -> _Normal:
        a, b = self._bounds(codes, eta, cuts)
        reflected = a + b > 0.0
        a, b = np.where(reflected, -b, a), np.where(reflected, -a, b)
        value, ratio, lack, skew = LINKS["probit"].log_cdf_derivatives(b)
        normal = _Normal(value, -ratio, lack, np.negative(skew, out=skew), np.zeros_like(a), ratio)
        inner = np.flatnonzero(a > -0.5 * self.FAR)
        if len(inner):
            gap = _cut_off(normal, inner, a[inner])
            narrow = inner[gap < SMALL_GAP]
            if len(narrow):
                found = _narrow(0.5 * (a[narrow] + b[narrow]), 0.5 * cuts.width[codes[narrow]])
                for array, part in zip(normal, found, strict=True):
                    array[narrow] = part
        np.negative(normal.mean, out=normal.mean, where=reflected)
        np.negative(normal.skew, out=normal.skew, where=reflected)
        return normal._replace(
            at_a=np.where(reflected, normal.at_b, normal.at_a), at_b=np.where(reflected, normal.at_a, normal.at_b)
        )


def _cut_off(normal: _Normal, rows: CodeArray, a: FloatArray) -> FloatArray:
    """Turn moments below ``b`` into those between ``a`` and ``b``, for some rows in place; returns the gap."""
    value_a, ratio_a, lack_a, skew_a = LINKS["probit"].log_cdf_derivatives(a)
    value, mean, lack, skew, ratio = (array[rows] for array in (*normal[:4], normal.at_b))
    gap = value - value_a
    # derivatives of the gap by x, where both ends move as x does
    first, second, third = ratio - ratio_a, lack_a - lack, -skew - skew_a
    wide = np.clip(gap, 0.5 * SMALL_GAP, 700.0)
    odds = 1.0 / np.expm1(wide)
    slope = odds * (1.0 + odds)
    normal.value[rows] = value + np.log1p(-np.exp(-wide))
    normal.mean[rows] = mean - odds * first
    normal.lack[rows] = lack + slope * first**2 - odds * second
    normal.skew[rows] = skew - odds * third + slope * first * (3.0 * second - (1.0 + 2.0 * odds) * first**2)
    normal.at_a[rows] = ratio_a * odds
    normal.at_b[rows] = ratio * (1.0 + odds)
    return gap


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)


def _narrow(middle: FloatArray, half: FloatArray) -> _Normal:
    """Moments in intervals over which the density changes little, from the middle and half the width."""
    t = _NODES[:, None]
    density = _WEIGHTS[:, None] * np.exp(-half * t * (middle + 0.5 * half * t))  # relative to that at the middle
    mass = density.sum(axis=0)
    mean = (density * t).sum(axis=0) / mass
    from_mean = t - mean
    variance = (density * from_mean**2).sum(axis=0) / mass
    third = (density * from_mean**3).sum(axis=0) / mass
    scale = 1.0 / (half * mass)
    return _Normal(
        value=np.log(half * mass) - 0.5 * (middle**2 + np.log(2.0 * np.pi)),
        mean=middle + half * mean,
        lack=1.0 - half**2 * variance,
        skew=half**3 * third,
        at_a=scale * np.exp(half * (middle - 0.5 * half)),
        at_b=scale * np.exp(-half * (middle + 0.5 * half)),
    )


INTERVALS: dict[str, Intervals] = {
    "logit": LogitIntervals(),
    "probit": ProbitIntervals(),
    "cloglog": CloglogIntervals(),
}
