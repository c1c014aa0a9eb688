"""The tangents: how the coefficients of the linear predictor move with each parameter, by one batch of solves.

The same solutions make the metric of the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ranef.learn.criterion import tangents, working_variates
from ranef.learn.mode import Mode
from ranef.solve.elimination import Coefficients, beside, inner, multiply, zeros

if TYPE_CHECKING:
    from ranef.learn.laplace import Laplace

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tangents:
    """How coefficients move with the parameters, and what the same solutions say of the curvature.

    Attributes
    ----------
    moves : Coefficients
        One side a parameter: raw coefficients whose linear predictor is the derivative of ``eta``.
    metric : float64 array, shape (parameters, parameters)
        Information of the working model over ``theta`` (average) and over ``(beta, phi)``, as a Hessian of the
        deviance.
    """

    moves: Coefficients
    metric: FloatArray


def find_tangents(
    problem: Laplace,
    mode: Mode,
    factors: Sequence[FloatArray],
    scores: tuple[FloatArray, ...],
    score_phi: Coefficients,
    information_phi: FloatArray,
) -> Tangents:
    """One batch of solves: a side for each covariance parameter, fixed effect and parameter of the family."""
    sides = tangent_sides(problem, mode, scores, score_phi, tangents(problem.layout, factors))
    solved = problem.solver.solve(mode.system, sides.right, problem.joint)
    return tangents_from(problem, mode, sides, solved, information_phi)


@dataclass(frozen=True, eq=False)
class Sides:
    """What the tangents are made of, but for the solution.

    Attributes
    ----------
    known : Coefficients
        How the linear predictor moves by the covariances and the fixed effects at given random effects.
    right : Coefficients
        Right-hand sides: the products with ``known``, then ``score_phi``.
    directions : int
        Sides that belong to covariances.
    """

    known: Coefficients
    right: Coefficients
    directions: int


def tangent_sides(
    problem: Laplace,
    mode: Mode,
    scores: tuple[FloatArray, ...],
    score_phi: Coefficients,
    directions: tuple[FloatArray, ...],
) -> Sides:
    """Right-hand sides of the tangents for covariances that move in ``directions``, shape (any, k, k) by block."""
    cross, p = mode.cross, problem.fixed
    a = working_variates(cross, scores, directions)
    unit = zeros(cross, p)
    unit.rest[cross.random : cross.random + p] = np.eye(p)
    known = beside(a, unit)
    right = multiply(cross, known, problem.of.pattern.engine)
    right.rest[-1] = 0.0
    return Sides(known, beside(right, score_phi), a.rest.shape[1])


def tangents_from(
    problem: Laplace, mode: Mode, sides: Sides, solved: Coefficients, information_phi: FloatArray
) -> Tangents:
    """The tangents from the solutions of their right-hand sides; their covariances' sides are the directions'."""
    cross, p, m = mode.cross, problem.fixed, sides.directions
    q = sides.right.rest.shape[1] - m - p
    right, score_phi = _sides(sides.right, 0, m + p), _sides(sides.right, m + p, m + p + q)
    solved.rest[-1] = 0.0
    # the linear predictor's derivatives: Z a less its projection, likewise X; and Z Q Z' d score / d phi
    moves = _difference(beside(sides.known, zeros(cross, q)), solved, m + p)
    metric = np.zeros((m + p + q, m + p + q))
    theta = inner(_sides(right, 0, m), _sides(moves, 0, m))
    metric[:m, :m] = (theta + theta.T) / 2
    beta = inner(_sides(right, m, m + p), _sides(moves, m, m + p))
    metric[m : m + p, m : m + p] = beta + beta.T
    crossed = inner(score_phi, _sides(moves, m, m + p))
    metric[m + p :, m : m + p] = -2 * crossed
    metric[m : m + p, m + p :] = -2 * crossed.T
    own = information_phi - inner(score_phi, _sides(moves, m + p, m + p + q))
    metric[m + p :, m + p :] = own + own.T
    return Tangents(moves, metric)


def _sides(x: Coefficients, first: int, last: int) -> Coefficients:
    return Coefficients(tuple(s[:, :, first:last] for s in x.stages), x.rest[:, first:last])


def _difference(known: Coefficients, solved: Coefficients, count: int) -> Coefficients:
    """``known - solved`` for the first ``count`` sides, ``solved`` for the others."""
    sign = np.where(np.arange(solved.rest.shape[1]) < count, -1.0, 1.0)
    stages = tuple(k + sign * s for k, s in zip(known.stages, solved.stages, strict=True))
    return Coefficients(stages, known.rest + sign * solved.rest)
