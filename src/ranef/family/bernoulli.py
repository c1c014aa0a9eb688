"""Bernoulli responses: 0 or 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.family.base import Derivatives, signed_root, times
from ranef.family.binary import Binary

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bernoulli(Binary):
    """A response of 0 or 1 with ``P(1) = F(eta)``; weights count a row several times."""

    link: str = "logit"

    name = "bernoulli"
    kind = "binary"

    def _rows(self, y: FloatArray, eta: FloatArray) -> Derivatives:
        if not self.math.symmetric:
            return self.math.binary(y, eta)
        sign = _sign(y)
        value, score, weight, third = self.math.log_cdf_derivatives(sign * eta)
        score *= sign
        third *= sign
        return value, score, weight, third

    def loglik(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        value = self.math.log_cdf(_sign(y) * eta) if self.math.symmetric else self.math.binary_loglik(y, eta)
        times(weights, value)
        return value

    def constant(self, y: FloatArray, weights: FloatArray | None) -> float:
        return 0.0

    def deviance_residuals(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        return signed_root(-2.0 * self.loglik(y, eta, weights, phi), _sign(y))

    def cdf(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        failure = self.math.survival(eta)
        return np.where(y > 0.5, failure, 0.0), np.where(y > 0.5, 1.0, failure)

    def eta_at(self, y: FloatArray, probability: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        # P(Y <= 0) is that of a failure, P(Y <= 1) is 1
        return np.where(y > 0.5, np.inf, self.math.quantile(1.0 - probability))

    def simulate(
        self, rng: np.random.Generator, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        return (rng.random(len(eta)) < self.mean(eta)).astype(np.float64)


def _sign(y: FloatArray) -> FloatArray:
    sign = y * 2.0
    sign -= 1.0
    return sign
