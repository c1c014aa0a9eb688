"""What Bernoulli and binomial families share: a probability of success."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt

from ranef.family.base import Derivatives, Family, times
from ranef.family.links import LINKS, Link
from ranef.family.special import ROWS, total
from ranef.family.start import weight_sum

FloatArray = npt.NDArray[np.float64]


class Binary(Family):
    """A response whose mean is a probability ``F(eta)``."""

    links = ("logit", "probit", "cloglog")
    canonical_link = "logit"

    @property
    def math(self) -> Link:
        """The link's functions."""
        return LINKS[self.link]

    @property
    def largest_curvature(self) -> float | None:
        # of probit, one less the variance of a normal variable that is known to be on one side
        return {"logit": 0.25, "probit": 1.0}.get(self.link)

    @abstractmethod
    def _rows(self, y: FloatArray, eta: FloatArray) -> Derivatives:
        """`derivatives` of one trial."""

    def derivatives(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> Derivatives:
        out = self._rows(y, eta)
        times(weights, *out)
        return out

    def start(self, y: FloatArray, weights: FloatArray | None, offset: FloatArray | None) -> tuple[float, FloatArray]:
        phi = np.zeros(0)
        trials = weight_sum(len(y), weights)
        successes = total(lambda y, w: y if w is None else y * w, y, weights)
        probability = np.array([(successes + 0.5) / (trials + 1.0)])
        eta0 = float(self.math.quantile(probability)[0])
        if offset is None:
            return eta0, phi
        eta0 -= total(lambda o: o, offset) / len(offset)
        for _ in range(50):
            score = weight = 0.0
            for at in range(0, len(y), ROWS):
                rows = slice(at, at + ROWS)
                w = None if weights is None else weights[rows]
                _, s, c, _ = self.derivatives(y[rows], eta0 + offset[rows], w, phi)
                score += float(s.sum())
                weight += float(c.sum())
            step = score / weight if abs(score) < weight else float(np.sign(score))
            eta0 += step
            if abs(step) < 1e-4:
                break
        return eta0, phi

    def mean(self, eta: FloatArray) -> FloatArray:
        return self.math.cdf(eta)

    def variance(self, mu: FloatArray, phi: FloatArray) -> FloatArray:
        return mu * (1.0 - mu)

    def probabilities(self, eta: FloatArray, phi: FloatArray) -> FloatArray:
        """Probabilities of failure and success, shape (rows, 2)."""
        return np.column_stack([self.math.survival(eta), self.math.cdf(eta)])
