"""Negative binomial counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ranef.family.base import Derivatives, Family, ParameterDerivatives, signed_root, times
from ranef.family.links import LINKS
from ranef.family.poisson import draw_counts
from ranef.family.special import (
    beta_cdf_at_failure,
    exp_capped,
    log_factorial_rest,
    log_factorial_rest_curvature,
    log_factorial_rest_slope,
    of_counts,
    total,
)
from ranef.family.start import log_mean

FloatArray = npt.NDArray[np.float64]

# of log(theta): from here on no count that can be computed with varies more than a Poisson one
LARGEST_THETA = 60.0


@dataclass(frozen=True)
class NegativeBinomial(Family):
    """A count with mean ``mu = exp(eta)`` and variance ``mu + mu^2 / theta``: R's ``nbinom2``, a Poisson of gamma mean.

    ``theta`` is learned, as ``phi = log(theta)``; where it is large the family is Poisson.
    """

    link: str = "log"

    name = "negative_binomial"
    kind = "count"
    links = ("log",)

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("log theta",)

    # With t = eta - phi and p = mu / (mu + theta) = 1 - q, a row has
    #   l = y (eta - log y) + y - (y + theta) log(1 + exp(t)) + rise(y)

    def derivatives(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> Derivatives:
        theta = np.exp(phi)
        softplus, p, q = _logistic(eta - phi)
        value = _loglik(y, eta, theta, softplus)
        # y - (y + theta) p, where p may be almost one
        score = y * q
        score -= theta * p
        weight = p * q
        weight *= y + theta
        p -= q
        p *= weight
        out = value, score, weight, p
        times(weights, *out)
        return out

    def loglik(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        value = _loglik(y, eta, np.exp(phi), _softplus(eta - phi))
        times(weights, value)
        return value

    def constant(self, y: FloatArray, weights: FloatArray | None) -> float:
        return -total(lambda y, w: log_factorial_rest(y) * (1.0 if w is None else w), y, weights)

    def parameter_derivatives(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> ParameterDerivatives:
        theta = np.exp(phi)
        softplus, p, q = _logistic(eta - phi)
        v = p * q
        l_phi = of_counts(lambda y: _rise_slope(y, theta), y) + y * p + theta * (p - softplus)
        score_phi = y * v - theta * p * p
        weight_phi = v * (2.0 * theta * p - y * (q - p))
        times(weights, l_phi, score_phi, weight_phi)
        return l_phi[:, None], score_phi[:, None], weight_phi[:, None]

    def parameter_information(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        theta = np.exp(phi)
        softplus, p, q = _logistic(eta - phi)
        second = of_counts(lambda y: _rise_curvature(y, theta), y)
        second += theta * (p * p + p - softplus) - y * p * q
        times(weights, second)
        return np.array([[-float(second.sum())]])

    def held(self, phi: FloatArray) -> FloatArray:
        return np.minimum(phi, LARGEST_THETA)

    def natural(self, phi: FloatArray) -> dict[str, float]:
        return {"theta": float(np.exp(phi[0]))}

    def natural_jacobian(self, phi: FloatArray) -> FloatArray:
        return np.exp(phi)[:, None]

    def start(self, y: FloatArray, weights: FloatArray | None, offset: FloatArray | None) -> tuple[float, FloatArray]:
        eta0 = log_mean(y, weights, offset)

        def moments(y: FloatArray, w: FloatArray | None, o: FloatArray | None) -> FloatArray:
            mu = exp_capped(np.full(len(y), eta0) if o is None else o + eta0)
            both = np.array([(y - mu) ** 2 - mu, mu * mu])
            return both if w is None else both * w

        excess = total(lambda *rows: moments(*rows)[0], y, weights, offset)
        square = total(lambda *rows: moments(*rows)[1], y, weights, offset)
        # what the covariates and random effects will explain is in this excess too: theta only begins here
        theta = np.clip(square / max(excess, 1e-3 * square), 0.1, 100.0)
        return eta0, np.array([float(np.log(theta))])

    def mean(self, eta: FloatArray) -> FloatArray:
        return exp_capped(eta)

    def variance(self, mu: FloatArray, phi: FloatArray) -> FloatArray:
        return mu + mu * mu * np.exp(-phi)

    def deviance_residuals(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        log_y = np.log(np.maximum(y, 0.5))  # any number will do where y = 0: l does not depend on eta's part of it
        best = np.where(y > 0.0, self.loglik(y, log_y, None, phi), 0.0)
        half = best - self.loglik(y, eta, None, phi)
        times(weights, half)
        return signed_root(2.0 * half, y - self.mean(eta))

    def cdf(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        theta, t = np.exp(phi), eta - phi
        logit = LINKS["logit"]
        failure, success = logit.survival(t), logit.cdf(t)

        def upto(k: FloatArray) -> FloatArray:
            return beta_cdf_at_failure(np.maximum(k, 0.0) + 1.0, theta, success, failure)

        return np.where(y > 0.0, upto(y - 1.0), 0.0), upto(y)

    def eta_at(self, y: FloatArray, probability: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        theta = np.exp(phi)
        # as in `cdf`: p / (1 - p) is the mean over theta
        success = np.asarray(special.betainccinv(y + 1.0, theta, probability))
        failure = 1.0 - success
        large = np.flatnonzero(success > 0.9)
        failure[large] = special.betaincinv(theta, y[large] + 1.0, probability[large])
        with np.errstate(divide="ignore"):
            return np.asarray(phi + np.log(success) - np.log(failure))

    def simulate(
        self, rng: np.random.Generator, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        theta = np.exp(phi)
        return draw_counts(rng, rng.gamma(theta, 1.0, len(eta)) * exp_capped(eta - phi))


def _softplus(t: FloatArray) -> FloatArray:
    """``log(1 + exp(t))`` with all its digits where it is tiny: it is multiplied by a ``theta`` that may be huge."""
    out = np.abs(t)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    out += np.maximum(t, 0.0)
    return out


def _logistic(t: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """`_softplus`, its derivative ``p = 1 / (1 + exp(-t))`` and ``1 - p``."""
    tail = np.exp(-np.abs(t))
    softplus = np.log1p(tail)
    softplus += np.maximum(t, 0.0)
    bulk = 1.0 / (1.0 + tail)
    tail *= bulk
    positive = t > 0.0
    return softplus, np.where(positive, bulk, tail), np.where(positive, tail, bulk)


def _loglik(y: FloatArray, eta: FloatArray, theta: FloatArray, softplus: FloatArray) -> FloatArray:
    value = of_counts(lambda y: _rise(y, theta) + y - special.xlogy(y, y), y)
    value += y * eta
    value -= (y + theta) * softplus
    return value


def _rise(y: FloatArray, theta: FloatArray) -> FloatArray:
    """``log((theta + y - 1)! / (theta - 1)!) - y log(theta)``: the sum of ``log(1 + j / theta)`` over ``j < y``."""
    size = y + theta
    return log_factorial_rest(size) - log_factorial_rest(theta) + (size - 1.0) * np.log1p(y / theta) - y


def _rise_slope(y: FloatArray, theta: FloatArray) -> FloatArray:
    """First derivative of `_rise` by ``log(theta)``: minus the sum of ``j / (theta + j)``."""
    size = y + theta
    rest = log_factorial_rest_slope(size) - log_factorial_rest_slope(theta)
    return theta * (rest + np.log1p(y / theta)) - y * (size - 1.0) / size


def _rise_curvature(y: FloatArray, theta: FloatArray) -> FloatArray:
    """Second derivative of `_rise` by ``log(theta)``: the sum of ``j theta / (theta + j)^2``."""
    size = y + theta
    # differences of digamma and trigamma between theta + y and theta
    first = log_factorial_rest_slope(size) - log_factorial_rest_slope(theta)
    first += np.log1p(y / theta) + y / (theta * size)
    second = log_factorial_rest_curvature(size) - log_factorial_rest_curvature(theta)
    second -= y / (theta * size) * (1.0 + 1.0 / size + 1.0 / theta)
    return theta * first + theta * theta * second
