"""Links of a probability: distribution functions ``F`` with ``P = F(eta)``, and the derivatives of ``log F``.

Each is exact to a few units in the last place from the bulk far into both tails. What comes in fours is the value, the
first derivative, minus the second (these functions are log-concave: it is never negative) and the third.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy import special

from ranef.family.special import exp_capped

FloatArray = npt.NDArray[np.float64]
Derivatives = tuple[FloatArray, FloatArray, FloatArray, FloatArray]


class Link(ABC):
    """A distribution function and its logarithms."""

    symmetric: ClassVar[bool]

    @abstractmethod
    def cdf(self, x: FloatArray) -> FloatArray:
        """``F(x)``."""

    @abstractmethod
    def survival(self, x: FloatArray) -> FloatArray:
        """``1 - F(x)``, not by subtraction."""

    @abstractmethod
    def quantile(self, p: FloatArray) -> FloatArray:
        """``x`` with ``F(x) = p``."""

    @abstractmethod
    def log_cdf(self, x: FloatArray) -> FloatArray:
        """``log F(x)``."""

    @abstractmethod
    def log_cdf_derivatives(self, x: FloatArray) -> Derivatives:
        """``log F`` and its derivatives."""

    @abstractmethod
    def log_survival(self, x: FloatArray) -> FloatArray:
        """``log(1 - F(x))``."""

    @abstractmethod
    def log_survival_derivatives(self, x: FloatArray) -> Derivatives:
        """``log(1 - F)`` and its derivatives."""

    def binary(self, y: FloatArray, x: FloatArray) -> Derivatives:
        """``y log F(x) + (1 - y) log(1 - F(x))`` and its derivatives, for any ``y`` from 0 to 1."""
        failures = 1.0 - y
        yes, no = self.log_cdf_derivatives(x), self.log_survival_derivatives(x)
        value, first, second, third = (y * a + failures * b for a, b in zip(yes, no, strict=True))
        return value, first, second, third

    def binary_loglik(self, y: FloatArray, x: FloatArray) -> FloatArray:
        """The value of `binary` alone."""
        return y * self.log_cdf(x) + (1.0 - y) * self.log_survival(x)


class Symmetric(Link):
    """A distribution that is symmetric around zero."""

    symmetric = True

    def survival(self, x: FloatArray) -> FloatArray:
        return self.cdf(-x)

    def log_survival(self, x: FloatArray) -> FloatArray:
        return self.log_cdf(-x)

    def log_survival_derivatives(self, x: FloatArray) -> Derivatives:
        value, first, second, third = self.log_cdf_derivatives(-x)
        return value, np.negative(first, out=first), second, np.negative(third, out=third)


class Logit(Symmetric):
    """The logistic distribution: everything from one ``exp(-|x|)``."""

    def cdf(self, x: FloatArray) -> FloatArray:
        return np.asarray(special.expit(x))

    def quantile(self, p: FloatArray) -> FloatArray:
        return np.asarray(special.logit(p))

    def log_cdf(self, x: FloatArray) -> FloatArray:
        _, out = _half_logistic(x)
        np.log(out, out=out)
        return np.add(out, np.minimum(x, 0.0), out=out)

    def log_cdf_derivatives(self, x: FloatArray) -> Derivatives:
        tail, bulk = _half_logistic(x)
        value = np.log(bulk)
        value += np.minimum(x, 0.0)
        tail *= bulk
        first = np.where(x > 0.0, tail, bulk)  # 1 - F
        tail *= bulk  # F (1 - F)
        third = np.multiply(first, -2.0, out=bulk)
        third += 1.0
        third *= tail
        return value, first, tail, third

    def binary(self, y: FloatArray, x: FloatArray) -> Derivatives:
        tail, bulk = _half_logistic(x)
        value = np.log(bulk)
        value += y * np.minimum(x, 0.0)
        value -= (1.0 - y) * np.maximum(x, 0.0)
        tail *= bulk
        positive = x > 0.0
        below = np.where(positive, tail, bulk)  # 1 - F
        above = np.where(positive, bulk, tail)  # F
        tail *= bulk
        third = (above - below) * tail
        below *= y
        below -= (1.0 - y) * above
        return value, below, tail, third

    def binary_loglik(self, y: FloatArray, x: FloatArray) -> FloatArray:
        _, value = _half_logistic(x)
        np.log(value, out=value)
        value += y * np.minimum(x, 0.0)
        value -= (1.0 - y) * np.maximum(x, 0.0)
        return value


def _half_logistic(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``exp(-|x|)`` and ``F(|x|)``."""
    tail = np.abs(x)
    np.negative(tail, out=tail)
    np.exp(tail, out=tail)
    bulk = tail + 1.0
    np.reciprocal(bulk, out=bulk)
    return tail, bulk


class Probit(Symmetric):
    """The standard normal distribution, from one scaled complementary error function."""

    # beyond this the difference of Mills' ratio and |x| is taken from a continued fraction: subtraction loses it
    TAIL = -6.0

    def cdf(self, x: FloatArray) -> FloatArray:
        return np.asarray(special.ndtr(x))

    def quantile(self, p: FloatArray) -> FloatArray:
        return np.asarray(special.ndtri(p))

    def log_cdf(self, x: FloatArray) -> FloatArray:
        return self._log_cdf(x)[0]

    def _log_cdf(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``log F``, and the density over ``F``."""
        scaled = 0.5 * special.erfcx(np.abs(x) * np.sqrt(0.5))
        square = -0.5 * x * x
        density = np.exp(square)
        negative = x < 0.0
        part = np.where(negative, scaled, 1.0 - scaled * density)  # F, but for the factor exp(-x^2 / 2) if negative
        value = np.log(part)
        value += np.where(negative, square, 0.0)
        ratio = np.where(negative, 1.0, density)
        ratio *= 1.0 / np.sqrt(2.0 * np.pi)
        ratio /= part
        return value, ratio

    def log_cdf_derivatives(self, x: FloatArray) -> Derivatives:
        # with r = f / F the derivatives are r, -r (x + r) and r ((x + r) (x + 2 r) - 1)
        value, r = self._log_cdf(x)
        excess = x + r
        second = r * excess
        third = (excess * (excess + r) - 1.0) * r
        far = np.flatnonzero(x < self.TAIL)
        if len(far):
            r[far], second[far], third[far] = normal_tail(-x[far])
        return value, r, second, third


def normal_tail(t: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """First, minus second and third derivative of ``log F`` of the normal distribution at ``-t``, for ``t >= 6``.

    From Laplace's continued fraction ``f / F = t + 1/(t + 2/(t + 3/(t + ...)))``: with ``e_k = k / (t + e_k+1)`` the
    ratio is ``r = t + e_1``, ``r (r - t) = r e_1``, and the third derivative is ``r e_1^2 e_2 (e_3 - e_2)``, where
    no digits cancel.
    """
    e1 = e2 = e3 = 24.0 / t
    for k in range(23, 0, -1):
        e1, e2, e3 = k / (t + e1), e1, e2
    r = t + e1
    second = r * e1
    return r, second, second * e1 * e2 * (e3 - e2)


class Cloglog(Link):
    """The distribution of the smallest of many: ``F(x) = 1 - exp(-exp(x))``."""

    symmetric = False

    # F is 1 to double precision from 3.7 on
    UPPER = 6.0

    def cdf(self, x: FloatArray) -> FloatArray:
        return -np.expm1(-exp_capped(x))

    def survival(self, x: FloatArray) -> FloatArray:
        return np.exp(-exp_capped(x))

    def quantile(self, p: FloatArray) -> FloatArray:
        return np.log(-np.log1p(-p))

    def log_cdf(self, x: FloatArray) -> FloatArray:
        return self._log_cdf(x)[0]

    def _log_cdf(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        u = np.exp(np.clip(x, -700.0, self.UPPER))
        odds = np.expm1(u)
        g = u / odds
        value = np.minimum(x, 0.0)
        value -= np.log(np.where(x < 0.0, g + u, 1.0 + 1.0 / odds))
        return value, u, g

    def log_cdf_derivatives(self, x: FloatArray) -> Derivatives:
        # with u = exp(x) and g = u / (exp(u) - 1): (log F)' = g, g' = g (1 - g - u)
        value, u, g = self._log_cdf(x)
        rest = 1.0 - g - u
        low = np.flatnonzero(u < 0.05)
        if len(low):
            u_low = u[low]
            rest[low] = -0.5 * u_low * (1.0 + u_low / 6.0 * (1.0 - u_low**2 / 60.0 * (1.0 - u_low**2 / 42.0)))
        second = -g * rest
        third = (rest * (rest - g) - u) * g
        return value, g, second, third

    def log_survival(self, x: FloatArray) -> FloatArray:
        return -exp_capped(x)

    def log_survival_derivatives(self, x: FloatArray) -> Derivatives:
        u = exp_capped(x)
        return -u, -u, u, -u


LINKS: dict[str, Link] = {"logit": Logit(), "probit": Probit(), "cloglog": Cloglog()}
