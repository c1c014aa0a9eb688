"""Binomial responses: successes out of trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ranef.family.base import Derivatives, signed_root, times
from ranef.family.binary import Binary
from ranef.family.special import beta_cdf_at_failure, log_factorial_rest, total

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Binomial(Binary):
    """A proportion of successes ``y`` out of ``weights`` trials, each with probability ``F(eta)``; without weights one.

    `loglik` is minus half the deviance: it counts from the model that reproduces every proportion, so that large
    numbers of trials cost no digits.
    """

    link: str = "logit"

    name = "binomial"
    kind = "proportion"

    def _rows(self, y: FloatArray, eta: FloatArray) -> Derivatives:
        value, score, weight, third = self.math.binary(y, eta)
        value += _entropy(y)
        return value, score, weight, third

    def loglik(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        value = self.math.binary_loglik(y, eta)
        value += _entropy(y)
        times(weights, value)
        return value

    def constant(self, y: FloatArray, weights: FloatArray | None) -> float:
        if weights is None:
            return total(lambda y: -_entropy(y), y)

        def saturated(y: FloatArray, n: FloatArray) -> FloatArray:
            k = np.rint(y * n)
            return log_factorial_rest(n) - log_factorial_rest(k) - log_factorial_rest(n - k)

        return total(saturated, y, weights)

    def deviance_residuals(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        return signed_root(-2.0 * self.loglik(y, eta, weights, phi), y - self.mean(eta))

    def cdf(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        n = np.ones_like(y) if weights is None else weights
        k = np.rint(y * n)
        success, failure = self.math.cdf(eta), self.math.survival(eta)

        def upto(k: FloatArray) -> FloatArray:
            # P(Y <= k) = I_(1-p)(n - k, k + 1); the arguments must be positive where the answer is known
            inside = np.clip(k, 0.0, n - 1.0)
            value = beta_cdf_at_failure(inside + 1.0, n - inside, success, failure)
            return np.where(k < 0.0, 0.0, np.where(k >= n, 1.0, value))

        return upto(k - 1.0), upto(k)

    def eta_at(self, y: FloatArray, probability: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        n = np.ones_like(y) if weights is None else weights
        k = np.rint(y * n)
        # as in `cdf`: a beta distribution of the probability of success
        inside = np.clip(k, 0.0, n - 1.0)
        with np.errstate(divide="ignore"):
            eta = self.math.quantile(special.betainccinv(inside + 1.0, n - inside, probability))
        return np.where(k < 0.0, -np.inf, np.where(k >= n, np.inf, eta))

    def simulate(
        self, rng: np.random.Generator, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        n = np.ones_like(eta) if weights is None else weights
        return rng.binomial(np.rint(n).astype(np.int64), self.mean(eta)) / n


def _entropy(y: FloatArray) -> FloatArray:
    """What the log-likelihood of a trial is at its best, with the other sign."""
    out: FloatArray = special.entr(y)
    out += special.entr(1.0 - y)
    return out
