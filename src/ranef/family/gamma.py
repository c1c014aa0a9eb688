"""Gamma responses: positive numbers whose standard deviation is proportional to their mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ranef.family.base import Derivatives, Family, ParameterDerivatives, signed_root, times
from ranef.family.special import (
    exp_capped,
    log_factorial_rest,
    log_factorial_rest_curvature,
    log_factorial_rest_slope,
    total,
)
from ranef.family.start import weight_sum

FloatArray = npt.NDArray[np.float64]

# a response that the model reproduces to seven digits has one without end
SMALLEST_LOG_DISPERSION = -32.0


@dataclass(frozen=True)
class Gamma(Family):
    """A positive number with mean ``mu = exp(eta)`` and variance ``dispersion mu^2``.

    The dispersion, one over the shape, is learned, as ``phi = log(dispersion)``.
    """

    link: str = "log"

    name = "gamma"
    kind = "positive"
    links = ("log",)

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("log dispersion",)

    # With d = eta - log y and the shape nu = exp(-phi), a row has
    #   l = nu (1 - exp(-d) - d) + log nu - rest(nu) - log y,   rest(nu) = log(nu!) - nu log nu + nu

    def derivatives(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> Derivatives:
        shape = np.exp(-phi)
        value, ratio = _half_deviance(y, eta)
        value *= shape
        value += _of_shape(shape)
        score = ratio * shape
        weight = score + shape
        third = weight.copy()
        out = value, score, weight, third
        times(weights, *out)
        return out

    def loglik(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        shape = np.exp(-phi)
        value, _ = _half_deviance(y, eta)
        value *= shape
        value += _of_shape(shape)
        times(weights, value)
        return value

    def constant(self, y: FloatArray, weights: FloatArray | None) -> float:
        return -total(lambda y, w: np.log(y) * (1.0 if w is None else w), y, weights)

    def parameter_derivatives(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> ParameterDerivatives:
        shape = np.exp(-phi)
        l_phi, ratio = _half_deviance(y, eta)
        l_phi *= -shape
        l_phi += shape * log_factorial_rest_slope(shape) - 1.0
        score_phi = ratio * -shape
        weight_phi = score_phi - shape
        times(weights, l_phi, score_phi, weight_phi)
        return l_phi[:, None], score_phi[:, None], weight_phi[:, None]

    def parameter_information(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        shape = np.exp(-phi)
        second, _ = _half_deviance(y, eta)
        second *= shape
        slope = log_factorial_rest_slope(shape)
        curvature = log_factorial_rest_curvature(shape)
        second -= shape * (slope + shape * curvature)
        times(weights, second)
        return np.array([[-float(second.sum())]])

    def valid(self, phi: FloatArray) -> bool:
        return super().valid(phi) and bool(phi[0] >= SMALLEST_LOG_DISPERSION)

    def natural(self, phi: FloatArray) -> dict[str, float]:
        return {"dispersion": float(np.exp(phi[0]))}

    def natural_jacobian(self, phi: FloatArray) -> FloatArray:
        return np.exp(phi)[:, None]

    def start(self, y: FloatArray, weights: FloatArray | None, offset: FloatArray | None) -> tuple[float, FloatArray]:
        def ratio(y: FloatArray, w: FloatArray | None, o: FloatArray | None) -> FloatArray:
            value = y if o is None else np.exp(np.clip(np.log(y) - o, -300.0, 300.0))
            return value if w is None else value * w

        count = weight_sum(len(y), weights)
        mean = total(ratio, y, weights, offset) / count

        def square(y: FloatArray, w: FloatArray | None, o: FloatArray | None) -> FloatArray:
            value = (ratio(y, None, o) / mean - 1.0) ** 2
            return value if w is None else value * w

        dispersion = np.clip(total(square, y, weights, offset) / count, 1e-4, 100.0)
        return float(np.log(mean)), np.array([float(np.log(dispersion))])

    def mean(self, eta: FloatArray) -> FloatArray:
        return exp_capped(eta)

    def variance(self, mu: FloatArray, phi: FloatArray) -> FloatArray:
        return mu * mu * np.exp(phi)

    def deviance_residuals(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        half, ratio = _half_deviance(y, eta)
        times(weights, half)
        return signed_root(-2.0 * half, ratio)

    def cdf(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        shape = np.exp(-phi)
        value = np.asarray(special.gammainc(shape, shape * exp_capped(np.log(y) - eta)))
        return value, value

    def eta_at(self, y: FloatArray, probability: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        shape = np.exp(-phi)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(y) + np.log(shape) - np.log(special.gammaincinv(shape, probability)))

    def dispersion(self, phi: FloatArray) -> float:
        return float(np.exp(phi[0]))

    def simulate(
        self, rng: np.random.Generator, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        shape = np.exp(-phi)
        drawn = rng.gamma(shape, 1.0 / shape, len(eta)) * exp_capped(eta)
        # a very large dispersion draws numbers below the smallest positive one; zero is no response
        return np.maximum(drawn, np.finfo(np.float64).tiny)


def _half_deviance(y: FloatArray, eta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Minus half the deviance, ``1 - exp(-d) - d`` with ``d = eta - log(y)``, and ``exp(-d) - 1``."""
    d = np.log(y)
    np.subtract(d, eta, out=d)
    ratio = np.minimum(d, 300.0)
    np.expm1(ratio, out=ratio)
    d -= ratio
    return d, ratio


def _of_shape(shape: FloatArray) -> FloatArray:
    return np.log(shape) - log_factorial_rest(shape)
