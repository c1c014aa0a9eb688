"""The profiled ML or REML criterion of a Gaussian mixed model with its gradient and average information.

References
----------
Bates, Maechler, Bolker and Walker (2015), Fitting linear mixed-effects models using lme4, J. Stat. Software 67(1),
equations 34 (ML) and 41 (REML). Gilmour, Thompson and Cullis (1995), Average information REML, Biometrics 51.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine
from ranef.errors import FitError
from ranef.learn.boundary import inside, snapped
from ranef.learn.finite import check_finite
from ranef.learn.newton import Point
from ranef.prior import Layout
from ranef.solve.cross_products import CrossProducts
from ranef.solve.elimination import Coefficients, by_block, from_blocks, inner, multiply
from ranef.solve.inverse import Inverse, invert
from ranef.solve.system import System, factorise, solve

FloatArray = npt.NDArray[np.float64]

# A residual sum of squares below this share of the response's is rounding.
EXACT = 1e-10


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The criterion at one ``theta``, profiled over the fixed effects and the residual variance.

    Attributes
    ----------
    theta : float64 array, shape (parameters,)
    deviance : float
        -2 log-likelihood (ML) or the REML criterion.
    gradient : float64 array, shape (parameters,)
    metric : float64 array, shape (parameters, parameters)
        Average information of the deviance in ``theta``, plus the positive part of what the curvature of
        ``Sigma(Lambda)`` adds; positive semi-definite.
    information : float64 array, shape (parameters, parameters)
        The average information alone.
    slopes : tuple of float64 arrays (k, k)
        Derivative of the deviance by each block's relative covariance.
    scores : tuple of float64 arrays (levels, k)
        ``Z'W(y - X beta - Z b)`` of each block.
    sigma2 : float
        Profiled residual variance.
    """

    theta: FloatArray
    deviance: float
    gradient: FloatArray
    metric: FloatArray
    information: FloatArray
    slopes: tuple[FloatArray, ...]
    scores: tuple[FloatArray, ...]
    sigma2: float
    system: System
    inverse: Inverse

    @property
    def factors(self) -> tuple[FloatArray, ...]:
        return self.system.factors

    @property
    def solution(self) -> Coefficients:
        return self.system.solution

    def solve(self, right: Coefficients, fixed: bool = True) -> Coefficients:
        """``Q r``; see `ranef.solve.system.solve`."""
        return solve(self.system, right, fixed)


@dataclass(frozen=True, eq=False)
class Criterion:
    """What the criterion is a function of, besides ``theta``.

    Attributes
    ----------
    cross : CrossProducts
    layout : Layout
    reml : bool
    engine : Engine
    log_scale : float
        Added to the criterion: it undoes the scaling of response and fixed effects.
    """

    cross: CrossProducts
    layout: Layout
    reml: bool
    engine: Engine
    log_scale: float = 0.0

    @property
    def degrees(self) -> int:
        """What the residual sum of squares is divided by."""
        return self.cross.rows - (self.cross.fixed if self.reml else 0)

    @property
    def size(self) -> float:
        return float(self.cross.rows)

    def evaluate(self, theta: FloatArray, near: Evaluation | None = None, tolerance: float | None = None) -> Evaluation:
        """`evaluate`; it is exact, and nothing is taken over from a point nearby."""
        del near, tolerance
        return evaluate(self, theta)

    def canonical(self, theta: FloatArray) -> FloatArray:
        return self.layout.canonical(theta)

    def snapped(self, theta: FloatArray) -> FloatArray | None:
        return snapped(self.layout, theta)

    def inside(self, at: Point, least: float) -> Iterator[FloatArray]:
        """See `ranef.learn.boundary.inside`."""
        return inside(
            self.layout, at, least, lambda changes: information(self, at.scores, changes, at.sigma2, at.solve)
        )


def deviance(criterion: Criterion, theta: FloatArray) -> float:
    """The criterion alone: one factorisation."""
    return _deviance(criterion, factorise(criterion.cross, criterion.layout.factors(theta), criterion.engine))


def _deviance(criterion: Criterion, system: System) -> float:
    nu = criterion.degrees
    if not system.residual > EXACT * criterion.cross.square:
        raise FitError(
            "the model reproduces the response (almost) exactly: the residual variance goes to zero and the likelihood "
            "has no maximum. Is the response constant within the levels of a grouping factor, or computed from other "
            "columns?"
        )
    value = system.logdet_random + nu * (1 + np.log(2 * np.pi * system.residual / nu))
    if criterion.reml:
        value += system.logdet_fixed
    return float(value - criterion.cross.log_weights + criterion.log_scale)


def evaluate(criterion: Criterion, theta: FloatArray) -> Evaluation:
    """Criterion, gradient and metric: one factorisation, one selected inverse and two batches of solves."""
    cross, layout, engine = criterion.cross, criterion.layout, criterion.engine
    factors = layout.factors(theta)
    system = factorise(cross, factors, engine)
    value = _deviance(criterion, system)
    sigma2 = system.residual / criterion.degrees
    inverse = invert(system, fixed=criterion.reml)
    scores = tuple(-g[:, :, 0] for g in by_block(cross, multiply(cross, system.solution, engine)))
    slopes = tuple(trace - g.T @ g / sigma2 for trace, g in zip(inverse.trace, scores, strict=True))
    gradient = chain_rule(layout, factors, slopes)
    expected = information(criterion, scores, tangents(layout, factors), sigma2, lambda right: solve(system, right))
    check_finite(value, gradient, expected)
    metric = curvature(layout, slopes) + expected
    return Evaluation(theta, value, gradient, metric, expected, slopes, scores, sigma2, system, inverse)


def chain_rule(layout: Layout, factors: Sequence[FloatArray], slopes: Sequence[FloatArray]) -> FloatArray:
    """Gradient by ``theta`` from the derivatives by each relative covariance."""
    parts = [
        2 * np.einsum("pij,ij->p", basis, slope @ factor)
        for basis, slope, factor in zip(layout.basis, slopes, factors, strict=True)
    ]
    return np.concatenate([*parts, np.zeros(0)])


def curvature(layout: Layout, slopes: Sequence[FloatArray]) -> FloatArray:
    """What the curvature of ``Sigma(Lambda)`` adds to the Hessian, its positive part."""
    out = np.zeros((layout.parameters, layout.parameters))
    for basis, part, slope in zip(layout.basis, layout.slices, slopes, strict=True):
        # a product of matrices: in one einsum the work grows as the seventh power of a term's size
        flat = basis.reshape(len(basis), -1)
        out[part, part] = 2 * flat @ (_positive(slope) @ basis).reshape(flat.shape).T
    return out


def tangents(layout: Layout, factors: Sequence[FloatArray]) -> tuple[FloatArray, ...]:
    """``dSigma / dtheta`` of each block over its own parameters, shape (parameters, k, k)."""
    out = []
    for basis, factor in zip(layout.basis, factors, strict=True):
        half = np.einsum("pij,kj->pik", basis, factor)
        out.append(half + half.transpose(0, 2, 1))
    return tuple(out)


def _positive(symmetric: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
    return np.asarray((vectors * np.maximum(values, 0)) @ vectors.T)


def working_variates(
    cross: CrossProducts, scores: tuple[FloatArray, ...], directions: tuple[FloatArray, ...]
) -> Coefficients:
    """Coefficients ``a`` of the working variates ``Z a``: ``dSigma_i`` times each level's score, one side a direction.

    ``directions`` holds for each block its directions ``dSigma``, shape (directions of the block, k, k).
    """
    sides = sum(len(d) for d in directions)
    values = []
    at = 0
    for g, d in zip(scores, directions, strict=True):
        a = np.zeros((*g.shape, sides))
        a[:, :, at : at + len(d)] = np.einsum("pij,gj->gip", d, g)
        values.append(a)
        at += len(d)
    return from_blocks(cross, values, sides)


def information(
    criterion: Criterion,
    scores: tuple[FloatArray, ...],
    directions: tuple[FloatArray, ...],
    sigma2: float,
    solve: Callable[[Coefficients], Coefficients],
) -> FloatArray:
    """Average information of the deviance profiled over the residual variance, one row a direction ``dSigma``.

    ``y'P V_i P V_j P y / sigma^2 - a_i a_j / nu`` with ``a_i = y'P V_i P y / sigma^2``. ``solve`` is that of the joint
    system.
    """
    a = working_variates(criterion.cross, scores, directions)
    if a.rest.shape[1] == 0:
        return np.zeros((0, 0))
    right = multiply(criterion.cross, a, criterion.engine)
    right.rest[-1] = 0.0
    explained = inner(right, solve(right))
    squares = (inner(a, right) - explained) / sigma2
    first = (
        np.concatenate([np.einsum("pij,gi,gj->p", d, g, g) for d, g in zip(directions, scores, strict=True)]) / sigma2
    )
    squares -= np.outer(first, first) / criterion.degrees
    return np.asarray((squares + squares.T) / 2)
