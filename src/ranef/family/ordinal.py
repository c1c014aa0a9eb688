"""Ordinal responses: ordered categories, by a cumulative link model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn, Self

import numpy as np
import numpy.typing as npt

from ranef.errors import OptionError
from ranef.family import thresholds
from ranef.family.base import Derivatives, Family, ParameterDerivatives, signed_root, times
from ranef.family.intervals import INTERVALS, CodeArray
from ranef.family.links import LINKS
from ranef.family.special import ROWS
from ranef.family.thresholds import STRUCTURES, Cuts, Structure

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ordinal(Family):
    """Ordered categories with ``P(Y <= k) = F(tau_k - eta)``, as R's ``ordinal::clmm`` (McCullagh 1980).

    The thresholds take the place of the intercept: ``eta`` must not have one. They are
    ``tau = J alpha``, and ``phi`` is ``alpha``.

    Attributes
    ----------
    thresholds : {"flexible", "symmetric", "equidistant"}
        Free; symmetric around the middle one or two; or equally far apart.
    categories : tuple of str
        Labels of the categories in order, set by `with_categories`; everything but the names of things needs it.
    """

    link: str = "logit"
    thresholds: Structure = "flexible"
    categories: tuple[str, ...] = ()

    name = "ordinal"
    kind = "ordered"
    links = ("logit", "probit", "cloglog")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.thresholds not in STRUCTURES:
            known = ", ".join(repr(name) for name in STRUCTURES)
            raise OptionError(f"thresholds are {known}, not {self.thresholds!r}")

    @property
    def largest_curvature(self) -> float | None:
        # of logit, a logistic density at each end of the interval; of probit as for two categories
        return {"logit": 0.5, "probit": 1.0}.get(self.link)

    def with_categories(self, labels: tuple[str, ...]) -> Self:
        """The family for a response with these categories, in order.

        Raises
        ------
        OptionError
            There are fewer than two, or fewer than three where thresholds are symmetric or equidistant.
        """
        least = 2 if self.thresholds == "flexible" else 3
        if len(labels) < least:
            raise OptionError(
                f"{self.thresholds} thresholds need {least} categories or more, and the response has {len(labels)}"
            )
        return replace(self, categories=tuple(labels))

    @property
    def parameters(self) -> tuple[str, ...]:
        return thresholds.names(self.thresholds, self.categories)

    @property
    def jacobian(self) -> FloatArray:
        """``J`` of ``tau = J alpha``, shape (thresholds, parameters)."""
        return thresholds.jacobian(self.thresholds, len(self.categories) - 1)

    @property
    def threshold_shift(self) -> FloatArray:
        """The change of ``alpha`` that moves all thresholds up by one, shape (parameters,)."""
        j = self.jacobian
        return np.asarray(np.linalg.lstsq(j, np.ones((len(j), 1)), rcond=None)[0][:, 0])

    def _cuts(self, phi: FloatArray) -> Cuts:
        return Cuts(self.jacobian @ phi)

    # the log-likelihood by eta

    def derivatives(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> Derivatives:
        out = INTERVALS[self.link].derivatives(_codes(y), eta, self._cuts(phi))
        times(weights, *out)
        return out

    def loglik(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        value = INTERVALS[self.link].loglik(_codes(y), eta, self._cuts(phi))
        times(weights, value)
        return value

    def constant(self, y: FloatArray, weights: FloatArray | None) -> float:
        return 0.0

    # the thresholds

    def parameter_derivatives(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> ParameterDerivatives:
        codes, j = _codes(y), self.jacobian
        ends = INTERVALS[self.link].ends(codes, eta, self._cuts(phi))
        times(weights, *ends)
        # derivatives of each row's two ends by alpha; those at infinity stay where they are
        nothing = np.zeros((1, j.shape[1]))
        a, b = np.concatenate([nothing, j])[codes], np.concatenate([j, nothing])[codes]

        def by_alpha(by_a: FloatArray, by_b: FloatArray) -> FloatArray:
            out: FloatArray = by_a[:, None] * a
            out += by_b[:, None] * b
            return out

        return (
            by_alpha(ends.l_a, ends.l_b),
            by_alpha(ends.score_a, ends.score_b),
            by_alpha(ends.weight_a, ends.weight_b),
        )

    def parameter_information(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        codes, j = _codes(y), self.jacobian
        second = INTERVALS[self.link].curvature(codes, eta, self._cuts(phi))
        times(weights, *second)
        aa, ab, bb = (np.bincount(codes, part, len(j) + 1) for part in second)
        by_tau = np.diag(aa[1:] + bb[:-1]) + np.diag(ab[1:-1], 1) + np.diag(ab[1:-1], -1)
        return np.asarray(-(j.T @ by_tau @ j))

    def valid(self, phi: FloatArray) -> bool:
        tau = self.jacobian @ phi
        return bool(np.all(np.isfinite(tau)) and np.all(np.diff(tau) > 0.0))

    def natural(self, phi: FloatArray) -> dict[str, float]:
        names = thresholds.threshold_names(self.categories)
        return dict(zip(names, (self.jacobian @ phi).tolist(), strict=True))

    def natural_jacobian(self, phi: FloatArray) -> FloatArray:
        return self.jacobian

    def start(self, y: FloatArray, weights: FloatArray | None, offset: FloatArray | None) -> tuple[float, FloatArray]:
        counts = np.zeros(len(self.categories))
        for at in range(0, len(y), ROWS):
            rows = slice(at, at + ROWS)
            counts += np.bincount(_codes(y[rows]), None if weights is None else weights[rows], len(counts))
        counts += 0.5
        below = np.cumsum(counts)[:-1] / counts.sum()
        tau = LINKS[self.link].quantile(below)
        if offset is not None:
            tau += float(np.mean(offset))
        return 0.0, thresholds.nearest(self.thresholds, tau)

    # the distribution

    def probabilities(self, eta: FloatArray, phi: FloatArray) -> FloatArray:
        """Probability of each category, shape (rows, categories)."""
        cuts, interval = self._cuts(phi), INTERVALS[self.link]
        out = np.empty((len(eta), len(self.categories)))
        for code in range(out.shape[1]):
            out[:, code] = np.exp(interval.loglik(np.full(len(eta), code), eta, cuts))
        return out

    def mean(self, eta: FloatArray) -> FloatArray:
        self._no_number()

    def variance(self, mu: FloatArray, phi: FloatArray) -> FloatArray:
        self._no_number()

    def _no_number(self) -> NoReturn:
        raise OptionError(
            "an ordinal response has no mean or variance: its categories are no numbers; use their probabilities"
        )

    def deviance_residuals(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        """Roots of ``-2 log P(Y = y)``, shape (rows,); positive where a larger ``eta`` would suit it better."""
        value, score, _, _ = self.derivatives(y, eta, weights, phi)
        return signed_root(-2.0 * value, score)

    def cdf(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        codes, cuts, link = _codes(y), self._cuts(phi), LINKS[self.link]
        return link.cdf(cuts.lower[codes] - eta), link.cdf(cuts.upper[codes] - eta)

    def eta_at(self, y: FloatArray, probability: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        return np.asarray(self._cuts(phi).upper[_codes(y)] - LINKS[self.link].quantile(probability))

    def simulate(
        self, rng: np.random.Generator, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        uniform, y = rng.random(len(eta)), np.zeros(len(eta))
        for tau in self._cuts(phi).tau:
            y += uniform >= LINKS[self.link].cdf(tau - eta)
        return y


def _codes(y: FloatArray) -> CodeArray:
    return y.astype(np.intp)
