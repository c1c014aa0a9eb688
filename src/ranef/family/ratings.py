"""Ratings between a smallest and a largest one: how many of the steps between them were climbed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from ranef.errors import OptionError
from ranef.family.base import Derivatives, Family
from ranef.family.binomial import Binomial
from ranef.family.special import total

FloatArray = npt.NDArray[np.float64]

# relative to the distance between neighbouring ratings
ROUNDING = 1e-6
STEPS = Binomial("logit")


@dataclass(frozen=True)
class Ratings(Family):
    """A rating ``low + step * k`` with ``k`` binomial: of ``(high - low) / step`` steps each is taken with ``F(eta)``.

    The mean ``low + (high - low) / (1 + exp(-eta))`` stays within the scale, as the logistic function of probabilistic
    matrix factorization makes it (Salakhutdinov and Mnih 2008), and the variance vanishes at its ends.

    Attributes
    ----------
    low, high, step : float
        The scale, set by `with_categories`; everything but the names of things needs it.
    """

    link: str = "logit"
    low: float = 0.0
    high: float = 1.0
    step: float = 1.0

    name = "ratings"
    kind = "rating"
    links = ("logit",)
    canonical_link = "logit"

    @property
    def steps(self) -> int:
        """Between the smallest and the largest rating."""
        return round((self.high - self.low) / self.step)

    @property
    def largest_curvature(self) -> float | None:
        return self.steps / 4

    def with_categories(self, labels: tuple[str, ...]) -> Self:
        """The family for a response that takes these values.

        Raises
        ------
        OptionError
            They are not evenly spaced.
        """
        values = np.array([float(label) for label in labels])
        step = float(np.diff(values).min())
        places = (values - values[0]) / step
        if np.any(np.abs(places - np.rint(places)) > ROUNDING * np.maximum(places, 1)):
            raise OptionError(
                f"family='ratings' takes evenly spaced numbers, and the response has {', '.join(labels[:5])} ...: take "
                "family='ordinal', or 'gaussian'"
            )
        return replace(self, low=float(values[0]), high=float(values[-1]), step=step)

    def proportion(self, y: FloatArray) -> FloatArray:
        """The share of the steps that a rating has climbed."""
        return (y - self.low) / (self.high - self.low)

    def trials(self, rows: int, weights: FloatArray | None) -> FloatArray:
        """Steps times how often a row counts, shape (rows,)."""
        return np.full(rows, float(self.steps)) if weights is None else self.steps * weights

    def derivatives(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> Derivatives:
        return STEPS.derivatives(self.proportion(y), eta, self.trials(len(y), weights), phi)

    def loglik(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        return STEPS.loglik(self.proportion(y), eta, self.trials(len(y), weights), phi)

    def constant(self, y: FloatArray, weights: FloatArray | None) -> float:
        def of_rows(y: FloatArray, w: FloatArray | None) -> FloatArray:
            each = self.trials(len(y), None)
            values = np.array([STEPS.constant(one, self.trials(1, None)) for one in self._scale()[:, None]])
            of = values[np.rint(self.proportion(y) * each).astype(np.intp)]
            return of if w is None else of * w

        return total(of_rows, y, weights)

    def _scale(self) -> FloatArray:
        return np.arange(self.steps + 1) / self.steps

    def start(self, y: FloatArray, weights: FloatArray | None, offset: FloatArray | None) -> tuple[float, FloatArray]:
        return STEPS.start(self.proportion(y), self.trials(len(y), weights), offset)

    def mean(self, eta: FloatArray) -> FloatArray:
        return self.low + (self.high - self.low) * STEPS.mean(eta)

    def variance(self, mu: FloatArray, phi: FloatArray) -> FloatArray:
        return (mu - self.low) * (self.high - mu) / self.steps

    def deviance_residuals(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        return STEPS.deviance_residuals(self.proportion(y), eta, self.trials(len(y), weights), phi)

    def cdf(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        return STEPS.cdf(self.proportion(y), eta, self.trials(len(y), None), phi)

    def eta_at(self, y: FloatArray, probability: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        return STEPS.eta_at(self.proportion(y), probability, self.trials(len(y), None), phi)

    def simulate(
        self, rng: np.random.Generator, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        return np.asarray(self.low + self.step * rng.binomial(self.steps, STEPS.mean(eta)), np.float64)
