"""Uncertainty of the covariance parameters and of the fixed effects' covariance.

Parameters are ``(theta, log sigma^2)`` in internal coordinates. Satterthwaite's degrees of freedom follow Kuznetsova,
Brockhoff and Christensen (2017), lmerTest, J. Stat. Software 82(13), section 2, with analytic derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.learn.criterion import Criterion, Evaluation, evaluate, information
from ranef.solve.system import Coefficients, by_block, multiply, solve, zeros

FloatArray = npt.NDArray[np.float64]

# The observed information costs two evaluations a parameter: below these sizes that is a fraction of a second.
MOST_COLUMNS = 500
MOST_PAIRS = 2e7


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
    """

    sensitivity: tuple[FloatArray, ...]
    vcov: FloatArray
    gradient: FloatArray


def fixed_effects(criterion: Criterion, at: Evaluation) -> FixedEffects:
    """One solve for each fixed effect; internal coordinates."""
    cross, engine = criterion.cross, criterion.engine
    p, r = cross.fixed, cross.random
    unit = zeros(cross, p)
    unit.rest[r : r + p] = np.eye(p)
    products = multiply(cross, unit, engine)
    shift = solve(at.system, products, fixed=False)
    rest = -shift.rest
    rest[r : r + p] = np.eye(p)
    rest[r + p] = 0.0
    left = multiply(cross, Coefficients(tuple(-s for s in shift.stages), rest), engine)
    # Z'V^-1 X and X'V^-1 X over sigma^2
    crossed = by_block(cross, left)
    precision = left.rest[r : r + p]
    inverse = np.linalg.inv((precision + precision.T) / 2) if p else np.zeros((0, 0))
    gradient = []
    for basis, factor, g in zip(criterion.layout.basis, at.system.factors, crossed, strict=True):
        for change in basis:
            half = change @ factor.T
            moved = np.einsum("gap,ab,gbq->pq", g, half + half.T, g, optimize=True)
            gradient.append(at.sigma2 * inverse @ moved @ inverse)
    vcov: FloatArray = np.asarray(at.sigma2 * inverse)
    return FixedEffects(by_block(cross, shift), vcov, np.array([*gradient, vcov]))


def is_small(criterion: Criterion) -> bool:
    """Whether the observed information is cheap."""
    cross = criterion.cross
    pairs = sum(float(s.size * np.sum(np.diff(s.offsets).astype(np.float64) ** 2)) for s in cross.stages)
    return len(cross.rest) <= MOST_COLUMNS and pairs <= MOST_PAIRS


def parameter_covariance(criterion: Criterion, at: Evaluation, observed: bool) -> FloatArray:
    """Covariance of ``(theta, log sigma^2)``; zero rows for parameters at the boundary.

    Observed: inverse Hessian of half the deviance, central differences of its analytic gradient. Otherwise the average
    information, which needs nothing more than the search's last metric did.
    """
    layout = criterion.layout
    first = _quadratic_slopes(criterion, at, at.sigma2)
    free = _free(criterion, at)
    m = layout.parameters
    hessian = np.zeros((m + 1, m + 1))
    if observed:
        for j in np.flatnonzero(free):
            h = 1e-4 * max(abs(at.theta[j]), 1e-2)
            change = np.zeros(m)
            change[j] = h
            ahead, behind = evaluate(criterion, at.theta + change), evaluate(criterion, at.theta - change)
            hessian[j, :m] = (_slope(criterion, ahead, at.sigma2) - _slope(criterion, behind, at.sigma2)) / (2 * h)
        hessian[:m, :m] = (hessian[:m, :m] + hessian[:m, :m].T) / 2
    else:
        directions = []
        for basis, factor in zip(layout.basis, at.system.factors, strict=True):
            half = np.einsum("pij,kj->pik", basis, factor)
            directions.append(half + half.transpose(0, 2, 1))
        profiled = information(criterion, at.system, at.scores, tuple(directions), at.sigma2)
        hessian[:m, :m] = profiled + np.outer(first, first) / criterion.degrees
    hessian[m, :m] = hessian[:m, m] = first
    hessian[m, m] = criterion.degrees
    inside = np.flatnonzero(np.append(free, True))
    out = np.zeros((m + 1, m + 1))
    out[np.ix_(inside, inside)] = 2 * np.linalg.pinv(hessian[np.ix_(inside, inside)], rcond=1e-12, hermitian=True)
    return out


def _slope(criterion: Criterion, at: Evaluation, sigma2: float) -> FloatArray:
    """Gradient by ``theta`` of the deviance that is not profiled: at a given residual variance."""
    trace = [slope + g.T @ g / at.sigma2 for slope, g in zip(at.slopes, at.scores, strict=True)]
    out = [
        2 * np.einsum("pij,ij->p", basis, t @ factor)
        for basis, t, factor in zip(criterion.layout.basis, trace, at.system.factors, strict=True)
    ]
    return np.concatenate([*out, np.zeros(0)]) - _quadratic_slopes(criterion, at, sigma2)


def _quadratic_slopes(criterion: Criterion, at: Evaluation, sigma2: float) -> FloatArray:
    """``y'P V_i P y / sigma^2`` for each ``theta_i``."""
    out = [
        2 * np.einsum("pij,ij->p", basis, (g.T @ g) @ factor) / sigma2
        for basis, g, factor in zip(criterion.layout.basis, at.scores, at.system.factors, strict=True)
    ]
    return np.concatenate([*out, np.zeros(0)])


def _free(criterion: Criterion, at: Evaluation) -> npt.NDArray[np.bool_]:
    """Parameters inside: not a column of ``Lambda`` that is zero, on which nothing depends to first order."""
    free = np.ones(criterion.layout.parameters, np.bool_)
    for part, basis, factor in zip(criterion.layout.slices, criterion.layout.basis, at.system.factors, strict=True):
        length = np.linalg.norm(factor, axis=0)
        free[part] = [bool(np.any(length[np.flatnonzero(change.any(axis=0))] > 0)) for change in basis]
    return free
