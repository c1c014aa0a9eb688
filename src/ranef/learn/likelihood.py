"""The likelihood of a generalized model's rows at given coefficients: its value and its linearisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.family import Family
from ranef.family.base import Derivatives
from ranef.family.special import total
from ranef.solve.cross_products import CrossProducts
from ranef.solve.elimination import Coefficients
from ranef.solve.reweigh import reweigh_by
from ranef.solve.weighted import Weighing, linear_predictor, sums_by, sums_of_rows

FloatArray = npt.NDArray[np.float64]

# a row of a million counts rounds as ten thousand rows do: errors of large terms are seldom all of one sign
COUNTED = 0.01


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Rows in the order of ``pattern``.

    Attributes
    ----------
    family : Family
    pattern : Weighing
    y : float64 array, shape (rows,)
    weights, offset : float64 array, shape (rows,), or None
    constant : float
        What the family leaves out of each row's log-likelihood, summed.
    size : float
        Terms of order one that the log-likelihood sums up, as its rounding errors show them: the rows, and more where
        counts or trials are large.
    """

    family: Family
    pattern: Weighing
    y: FloatArray
    weights: FloatArray | None
    offset: FloatArray | None
    constant: float
    size: float


def likelihood(
    family: Family, pattern: Weighing, y: FloatArray, weights: FloatArray | None, offset: FloatArray | None
) -> Likelihood:
    """The likelihood of rows in the caller's order."""
    order = pattern.sorted
    return Likelihood(
        family=family,
        pattern=pattern,
        y=y[order],
        weights=None if weights is None else weights[order],
        offset=None if offset is None else offset[order],
        constant=family.constant(y, weights),
        size=len(y) + _counted(family, y, weights) * COUNTED,
    )


def _counted(family: Family, y: FloatArray, weights: FloatArray | None) -> float:
    """All counts, or trials."""
    if family.kind == "count":
        return total(lambda y, w: y if w is None else y * w, y, weights)
    return 0.0 if family.kind != "proportion" or weights is None else total(lambda w: w, weights)


def eta(of: Likelihood, coefficients: FloatArray, first: int, last: int) -> FloatArray:
    """Linear predictor of the rows ``first <= n < last``; ``coefficients`` in one flat vector."""
    out = linear_predictor(of.pattern, coefficients, first, last)
    if of.offset is not None:
        out += of.offset[first:last]
    return out


def part(values: FloatArray | None, first: int, last: int) -> FloatArray | None:
    return None if values is None else values[first:last]


def weigh(of: Likelihood, coefficients: FloatArray, phi: FloatArray) -> tuple[float, CrossProducts]:
    """Log-likelihood without its constant, and the working system's cross products.

    Returns
    -------
    value : float
        Minus infinity or NaN where it cannot be computed.
    CrossProducts
        ``[Z X]'score`` in the response's place.
    """

    def linearised(first: int, last: int) -> tuple[float, FloatArray, FloatArray]:
        values, score, weight, _ = _derivatives(of, coefficients, phi, first, last)
        return float(values.sum()), weight, score

    return reweigh_by(of.pattern, linearised)


def score_sums(of: Likelihood, coefficients: FloatArray, phi: FloatArray) -> tuple[float, Coefficients]:
    """Log-likelihood without its constant, and ``[Z X]'score``."""

    def scores(first: int, last: int) -> tuple[FloatArray, FloatArray]:
        values, score, _, _ = _derivatives(of, coefficients, phi, first, last)
        return score[:, None], np.array([values.sum()])

    sums, (value,) = sums_by(of.pattern, scores, 1)
    return float(value[0]), sums


def curvature_along(of: Likelihood, coefficients: FloatArray, step: FloatArray, phi: FloatArray) -> float:
    """Minus the second derivative of the log-likelihood along a step, both in `flat` vectors of one side."""

    def part(first: int, last: int) -> tuple[float]:
        weight = _derivatives(of, coefficients[:, 0], phi, first, last)[2]
        return (float(weight @ linear_predictor(of.pattern, step[:, 0], first, last) ** 2),)

    return float(sums_of_rows(of.pattern, part)[0])


def root_weights(of: Likelihood, coefficients: FloatArray, phi: FloatArray) -> Callable[[int, int], FloatArray]:
    """What gives the roots of the weights of the rows ``first <= n < last``."""

    def roots(first: int, last: int) -> FloatArray:
        return np.sqrt(_derivatives(of, coefficients, phi, first, last)[2])

    return roots


def _derivatives(of: Likelihood, coefficients: FloatArray, phi: FloatArray, first: int, last: int) -> Derivatives:
    at = eta(of, coefficients, first, last)
    return of.family.derivatives(of.y[first:last], at, part(of.weights, first, last), phi)
