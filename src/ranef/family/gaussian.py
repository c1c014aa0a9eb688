"""Gaussian responses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ranef.family.base import Derivatives, Family, ParameterDerivatives
from ranef.family.special import total
from ranef.family.start import weight_sum

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian(Family):
    """A number with mean ``eta`` and variance ``sigma^2 / weight``; ``phi = log(sigma^2)`` is learned."""

    link: str = "identity"

    name = "gaussian"
    kind = "number"
    links = ("identity",)
    canonical_link = "identity"

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("log sigma^2",)

    def derivatives(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> Derivatives:
        weight = _precision(len(y), weights, phi)
        residual = y - eta
        score = residual * weight
        residual *= score
        residual *= -0.5
        residual -= 0.5 * phi
        return residual, score, weight, np.zeros_like(y)

    def loglik(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        return self.derivatives(y, eta, weights, phi)[0]

    def constant(self, y: FloatArray, weights: FloatArray | None) -> float:
        by_weight = 0.0 if weights is None else total(np.log, weights)
        return 0.5 * (by_weight - len(y) * float(np.log(2.0 * np.pi)))

    def parameter_derivatives(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> ParameterDerivatives:
        _, score, weight, _ = self.derivatives(y, eta, weights, phi)
        l_phi = 0.5 * ((y - eta) * score - 1.0)
        return l_phi[:, None], -score[:, None], -weight[:, None]

    def parameter_information(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        squares = (y - eta) ** 2 * _precision(len(y), weights, phi)
        return np.array([[0.5 * float(squares.sum())]])

    def natural(self, phi: FloatArray) -> dict[str, float]:
        return {"sigma": float(np.exp(0.5 * phi[0]))}

    def natural_jacobian(self, phi: FloatArray) -> FloatArray:
        return 0.5 * np.exp(0.5 * phi)[:, None]

    def start(self, y: FloatArray, weights: FloatArray | None, offset: FloatArray | None) -> tuple[float, FloatArray]:
        def residual(y: FloatArray, o: FloatArray | None) -> FloatArray:
            return y if o is None else y - o

        def first(y: FloatArray, w: FloatArray | None, o: FloatArray | None) -> FloatArray:
            return residual(y, o) if w is None else residual(y, o) * w

        eta0 = total(first, y, weights, offset) / weight_sum(len(y), weights)

        def second(y: FloatArray, w: FloatArray | None, o: FloatArray | None) -> FloatArray:
            square = (residual(y, o) - eta0) ** 2
            return square if w is None else square * w

        variance = total(second, y, weights, offset) / len(y)
        return eta0, np.array([float(np.log(max(variance, 1e-30)))])

    def mean(self, eta: FloatArray) -> FloatArray:
        return eta

    def variance(self, mu: FloatArray, phi: FloatArray) -> FloatArray:
        return np.full_like(mu, np.exp(phi))

    def deviance_residuals(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        return y - eta if weights is None else (y - eta) * np.sqrt(weights)

    def cdf(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        value = np.asarray(special.ndtr((y - eta) * np.sqrt(_precision(len(y), weights, phi))))
        return value, value

    def eta_at(self, y: FloatArray, probability: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        return np.asarray(y - special.ndtri(probability) / np.sqrt(_precision(len(y), weights, phi)))

    def dispersion(self, phi: FloatArray) -> float:
        return float(np.exp(phi[0]))

    def simulate(
        self, rng: np.random.Generator, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        return eta + rng.standard_normal(len(eta)) / np.sqrt(_precision(len(eta), weights, phi))


def _precision(rows: int, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
    """One over each row's variance."""
    precision = np.exp(-phi)
    return np.full(rows, precision) if weights is None else weights * precision
