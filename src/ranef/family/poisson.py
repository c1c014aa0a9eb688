"""Poisson counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ranef.errors import FitError
from ranef.family.base import Derivatives, Family, signed_root, times
from ranef.family.special import exp_capped, log_factorial_rest, of_counts, total
from ranef.family.start import log_mean

FloatArray = npt.NDArray[np.float64]

# beyond this mean NumPy draws no counts: they would not fit 64 bits
LARGEST_DRAWN = 9e18


@dataclass(frozen=True)
class Poisson(Family):
    """A count with mean and variance ``exp(eta)``.

    `loglik` is minus half the deviance: it counts from the model that reproduces every count, so that large counts
    cost no digits.
    """

    link: str = "log"

    name = "poisson"
    kind = "count"
    links = ("log",)
    canonical_link = "log"

    def derivatives(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> Derivatives:
        mu = exp_capped(eta)
        score = y - mu
        value = of_counts(_log_or_zero, y)
        np.subtract(eta, value, out=value)
        value *= y
        value += score
        out = value, score, mu, -mu
        times(weights, *out)
        return out

    def loglik(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        value = of_counts(_log_or_zero, y)
        np.subtract(eta, value, out=value)
        value *= y
        value += y - exp_capped(eta)
        times(weights, value)
        return value

    def constant(self, y: FloatArray, weights: FloatArray | None) -> float:
        return -total(lambda y, w: log_factorial_rest(y) * (1.0 if w is None else w), y, weights)

    def start(self, y: FloatArray, weights: FloatArray | None, offset: FloatArray | None) -> tuple[float, FloatArray]:
        return log_mean(y, weights, offset), np.zeros(0)

    def mean(self, eta: FloatArray) -> FloatArray:
        return exp_capped(eta)

    def variance(self, mu: FloatArray, phi: FloatArray) -> FloatArray:
        return mu

    def deviance_residuals(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        return signed_root(-2.0 * self.loglik(y, eta, weights, phi), y - self.mean(eta))

    def cdf(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        mu = exp_capped(eta)
        below = np.where(y > 0.0, special.gammaincc(np.maximum(y, 1.0), mu), 0.0)
        return below, np.asarray(special.gammaincc(y + 1.0, mu))

    def eta_at(self, y: FloatArray, probability: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(special.gammainccinv(y + 1.0, probability)))

    def simulate(
        self, rng: np.random.Generator, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        return draw_counts(rng, exp_capped(eta))


def draw_counts(rng: np.random.Generator, mean: FloatArray) -> FloatArray:
    """Poisson counts of the given means.

    Raises
    ------
    FitError
        A mean is so large that its counts do not fit 64 bits.
    """
    largest = float(mean.max(initial=0.0))
    if not largest < LARGEST_DRAWN:
        raise FitError(
            f"no count can be drawn with a mean of {largest:.3g}: the linear predictor is too large; look for "
            "coefficients that have run away (a level or column whose rows are all zero or all huge)"
        )
    return rng.poisson(mean).astype(np.float64)


def _log_or_zero(y: FloatArray) -> FloatArray:
    return np.log(np.maximum(y, 1.0))
