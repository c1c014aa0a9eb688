"""Uncertainty of the covariance parameters and of the fixed effects' covariance.

Parameters are ``(theta, log sigma^2)`` in internal coordinates. Satterthwaite's degrees of freedom follow Kuznetsova,
Brockhoff and Christensen (2017), lmerTest, J. Stat. Software 82(13), section 2, with analytic derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from ranef.learn.criterion import Criterion, Evaluation, evaluate
from ranef.learn.held import Held
from ranef.learn.newton import Point
from ranef.prior import Layout
from ranef.solve.cross_products import CrossProducts
from ranef.solve.elimination import Coefficients, by_block, multiply, zeros

FloatArray = npt.NDArray[np.float64]
At = TypeVar("At", bound=Point)

# The observed information costs two evaluations a parameter: below these sizes that is a fraction of a second.
MOST_COLUMNS = 500
MOST_PAIRS = 2e7
# information that a fixed effect is taken to have, of orthonormal columns
LEAST = 1e-10
# entry of a scaled Hessian: those of a positive definite one are at most 1
LARGEST = 1e10


@dataclass(frozen=True, eq=False)
class FixedEffects:
    """How the random effects' modes depend on the fixed effects, and what the covariance parameters do to them.

    Attributes
    ----------
    sensitivity : tuple of float64 arrays (levels, k, p)
        ``M`` of each block: modes fall by ``M`` as the fixed effects rise.
    vcov : float64 array, shape (p, p)
        ``sigma^2 (X'V^-1 X)^-1``.
    gradient : float64 array, shape (parameters + 1, p, p)
        Derivatives of ``vcov`` by ``(theta, log sigma^2)``.
    moves : float64 array, shape (p, parameters + 1)
        Derivatives of the fixed effects themselves, where they are the best ones given the parameters.
    """

    sensitivity: tuple[FloatArray, ...]
    vcov: FloatArray
    gradient: FloatArray
    moves: FloatArray


def fixed_effects(criterion: Criterion, at: Point, shift: Coefficients | None = None) -> FixedEffects:
    """Internal coordinates; one solve for each fixed effect, if `shift_of_modes` is not given."""
    cross, engine = criterion.cross, criterion.engine
    p, r = cross.fixed, cross.random
    if shift is None:
        unit = zeros(cross, p)
        unit.rest[r : r + p] = np.eye(p)
        shift = at.solve(multiply(cross, unit, engine), fixed=False)
    rest = -shift.rest
    rest[r : r + p] = np.eye(p)
    rest[r + p] = 0.0
    left = multiply(cross, Coefficients(tuple(-s for s in shift.stages), rest), engine)
    # Z'V^-1 X and X'V^-1 X over sigma^2
    crossed = by_block(cross, left)
    precision = left.rest[r : r + p]
    inverse = _inverse((precision + precision.T) / 2)
    gradient, moves = [], []
    for basis, factor, g, score in zip(criterion.layout.basis, at.factors, crossed, at.scores, strict=True):
        for change in basis:
            half = change @ factor.T
            moved = np.einsum("gap,ab,gbq->pq", g, half + half.T, g, optimize=True)
            gradient.append(at.sigma2 * inverse @ moved @ inverse)
            moves.append(-inverse @ np.einsum("gap,ab,gb->p", g, half + half.T, score, optimize=True))
    vcov: FloatArray = np.asarray(at.sigma2 * inverse)
    # the residual variance scales all of V
    along = np.array([*moves, np.zeros(p)]).T
    return FixedEffects(by_block(cross, shift), vcov, np.array([*gradient, vcov]), along)


def shift_of_modes(cross: CrossProducts, at: Point) -> Coefficients:
    """``M`` of `FixedEffects` from a joint system: a column of its inverse is ``(-MV, V)``, at little cost."""
    p, r = cross.fixed, cross.random
    unit = zeros(cross, p)
    unit.rest[r : r + p] = np.eye(p)
    column = at.solve(unit, fixed=True)
    turn = -np.linalg.inv(column.rest[r : r + p])
    return Coefficients(tuple(s @ turn for s in column.stages), column.rest @ turn)


def _inverse(precision: FloatArray) -> FloatArray:
    """Where fixed effects separate the responses there is no information on them, and the variance is huge."""
    try:
        return np.asarray(np.linalg.inv(precision), np.float64)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(precision)
        return np.asarray((vectors / np.maximum(values, LEAST)) @ vectors.T)


def _is_small(criterion: Criterion) -> bool:
    """Whether the observed information is cheap."""
    cross = criterion.cross
    pairs = sum(float(s.size * np.sum(np.diff(s.offsets).astype(np.float64) ** 2)) for s in cross.stages)
    return cross.columns <= MOST_COLUMNS and pairs <= MOST_PAIRS


@dataclass(frozen=True, eq=False)
class ParameterUncertainty:
    """Covariance of ``(theta, log sigma^2)``.

    Attributes
    ----------
    covariance : float64 array, shape (parameters + 1,) * 2
        Zero rows for parameters at the boundary.
    unknown : float64 array, shape (parameters + 1, directions)
        Orthonormal directions that the data do not determine (two factors with the same levels, say); the covariance
        leaves them out.
    information : {"observed", "average"}
    """

    covariance: FloatArray
    unknown: FloatArray
    information: Literal["observed", "average"]


def parameter_uncertainty(criterion: Criterion, at: Point) -> ParameterUncertainty:
    """Inverse of the observed information where that is cheap and positive definite, else of the average one.

    Observed: half the Hessian of the deviance, by central differences of its analytic gradient. Average: what the
    search's last metric is made of.
    """
    inside = np.flatnonzero(np.append(free_parameters(criterion.layout, at.factors), True))
    if isinstance(at, Evaluation) and _is_small(criterion):
        covariance, unknown = inverse_information(_observed_hessian(criterion, at), inside)
        if not unknown.shape[1]:
            return ParameterUncertainty(covariance, unknown, "observed")
    return ParameterUncertainty(*inverse_information(_average_hessian(criterion, at), inside), "average")


def held_uncertainty(criterion: Criterion, held: Held[At], at: At) -> ParameterUncertainty:
    """As `parameter_uncertainty`, where some parameters are held; ``at`` is where the search over the others ended.

    Held parameters have zero rows, but for those that follow the residual variance: the covariance that they stand for
    is certain nevertheless.
    """
    holding = held.holding
    free = np.append(free_parameters(criterion.layout, at.factors), True)[holding.free]
    j = holding.jacobian(holding.whole(at.theta))
    if isinstance(at, Evaluation) and _is_small(criterion):
        hessian = np.zeros((len(free), len(free)))
        for i in range(len(free)):
            change = np.zeros(len(free))
            change[i] = h = 1e-4 * max(abs(at.theta[i]), 1e-2)
            ahead, behind = held.evaluate(at.theta + change), held.evaluate(at.theta - change)
            hessian[i] = (ahead.gradient - behind.gradient) / (2 * h)
        covariance, unknown = inverse_information((hessian + hessian.T) / 2, np.flatnonzero(free))
        if not unknown.shape[1]:
            return ParameterUncertainty(j @ covariance @ j.T, j @ unknown, "observed")
    covariance, unknown = inverse_information(at.information, np.flatnonzero(free))
    return ParameterUncertainty(j @ covariance @ j.T, np.linalg.qr(j @ unknown)[0], "average")


def inverse_information(hessian: FloatArray, inside: npt.NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
    """Twice the inverse of a Hessian of the deviance, and the directions without positive curvature."""
    if not len(inside):
        return np.zeros_like(hessian), hessian[:, :0]
    own = hessian[np.ix_(inside, inside)]
    # differences may have made a diagonal negative: it has its size all the same
    scale = np.sqrt(np.maximum(np.abs(np.diag(own)), 1e-300))
    values, vectors = np.linalg.eigh(np.clip(own / np.outer(scale, scale), -LARGEST, LARGEST))
    positive = values > 1e-9 * values.max(initial=0.0)
    root = vectors[:, positive] / np.sqrt(values[positive]) / scale[:, None]
    covariance = np.zeros_like(hessian)
    covariance[np.ix_(inside, inside)] = 2 * root @ root.T
    unknown = np.zeros((len(hessian), int(np.sum(~positive))))
    unknown[inside] = np.linalg.qr(vectors[:, ~positive] / scale[:, None])[0]
    return covariance, unknown


def _bordered(criterion: Criterion, at: Point, inner: FloatArray) -> FloatArray:
    """Hessian over ``(theta, log sigma^2)`` from that over ``theta`` at a fixed residual variance."""
    m = criterion.layout.parameters
    out = np.empty((m + 1, m + 1))
    out[:m, :m] = (inner + inner.T) / 2
    out[m, :m] = out[:m, m] = _quadratic_slopes(criterion, at, at.sigma2)
    out[m, m] = criterion.degrees
    return out


def _observed_hessian(criterion: Criterion, at: Evaluation) -> FloatArray:
    m = criterion.layout.parameters
    inner = np.zeros((m, m))
    for j in range(m):
        change = np.zeros(m)
        change[j] = h = 1e-4 * max(abs(at.theta[j]), 1e-2)
        ahead, behind = evaluate(criterion, at.theta + change), evaluate(criterion, at.theta - change)
        inner[j] = (_slope(criterion, ahead, at.sigma2) - _slope(criterion, behind, at.sigma2)) / (2 * h)
    return _bordered(criterion, at, inner)


def _average_hessian(criterion: Criterion, at: Point) -> FloatArray:
    first = _quadratic_slopes(criterion, at, at.sigma2)
    return _bordered(criterion, at, at.information + np.outer(first, first) / criterion.degrees)


def _slope(criterion: Criterion, at: Evaluation, sigma2: float) -> FloatArray:
    """Gradient by ``theta`` of the deviance that is not profiled: at a given residual variance."""
    trace = [slope + g.T @ g / at.sigma2 for slope, g in zip(at.slopes, at.scores, strict=True)]
    out = [
        2 * np.einsum("pij,ij->p", basis, t @ factor)
        for basis, t, factor in zip(criterion.layout.basis, trace, at.factors, strict=True)
    ]
    return np.concatenate([*out, np.zeros(0)]) - _quadratic_slopes(criterion, at, sigma2)


def _quadratic_slopes(criterion: Criterion, at: Point, sigma2: float) -> FloatArray:
    """``y'P V_i P y / sigma^2`` for each ``theta_i``."""
    out = [
        2 * np.einsum("pij,ij->p", basis, (g.T @ g) @ factor) / sigma2
        for basis, g, factor in zip(criterion.layout.basis, at.scores, at.factors, strict=True)
    ]
    return np.concatenate([*out, np.zeros(0)])


def free_parameters(layout: Layout, factors: Sequence[FloatArray]) -> npt.NDArray[np.bool_]:
    """Parameters inside: not a column of ``Lambda`` that is zero, on which nothing depends to first order."""
    free = np.ones(layout.parameters, np.bool_)
    for part, basis, factor in zip(layout.slices, layout.basis, factors, strict=True):
        length = np.linalg.norm(factor, axis=0)
        free[part] = [bool(np.any(length[np.flatnonzero(change.any(axis=0))] > 0)) for change in basis]
    return free
