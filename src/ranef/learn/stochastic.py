"""ML and REML by estimating equations: the score with its traces from perfect samples, for any number of levels.

The trace part of the score is taken by the law of total variance: for each level the part given everything else is
exact, and only what the rest adds is averaged over the probes (`ranef.learn.probes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.errors import FitError
from ranef.learn.boundary import Within
from ranef.learn.criterion import EXACT, Criterion, chain_rule, curvature, information, tangents
from ranef.learn.finite import check_finite
from ranef.learn.newton import Point
from ranef.learn.probes import Probes
from ranef.learn.shifts import apart, shifts
from ranef.learn.traces import grams, traces
from ranef.solve.elimination import Coefficients, beside, by_block, multiply, zeros
from ranef.solve.iterative import TOLERANCE, Iterative, log_determinant, prepare_and_solve, solve_iterative

FloatArray = npt.NDArray[np.float64]

# of the solution where every parameter is given
GIVEN_TOLERANCE = 1e-8


@dataclass(frozen=True, eq=False)
class Estimating(Within[Point]):
    """What the estimating function is a function of, besides ``theta``.

    Attributes
    ----------
    criterion : Criterion
    probes : Probes
    response : Coefficients
        ``[Z'; X'] W y``.
    shifts : Coefficients
        Functionals of the coefficients whose part of the traces is computed exactly; see `ranef.learn.shifts`.
    """

    criterion: Criterion
    probes: Probes
    response: Coefficients
    shifts: Coefficients

    def evaluate(self, theta: FloatArray, near: Estimate | None = None, tolerance: float | None = None) -> Estimate:
        """`estimate`."""
        # one side each for the fixed effects, the response, the probes and the shifts; other probes are no start
        sides = self.criterion.cross.fixed + 1 + self.probes.count + self.shifts.rest.shape[1]
        warm = None if near is None or near.warm["solution"].shape[1] != sides else near.warm
        return estimate(self, theta, warm, TOLERANCE if tolerance is None else tolerance)

    @property
    def domain(self) -> Criterion:
        return self.criterion


@dataclass(frozen=True, eq=False)
class Estimate:
    """The estimating function at one ``theta``; the fields of `Evaluation`, but for the deviance.

    Attributes
    ----------
    gradient_covariance : float64 array, shape (parameters, parameters)
        Monte-Carlo covariance of ``gradient``.
    slope_errors : tuple of float64 arrays (k, k)
        Monte-Carlo standard errors of ``slopes``.
    profile : float64 array, shape (parameters,)
        ``y'P V_i P y / sigma^2``: minus ``degrees`` times the derivative of the log residual variance.
    warm : dict
        Solutions that the next evaluation starts from.
    iterations : tuple of int
        Conjugate-gradient iterations: fixed effects, response and probes; information.
    tolerance : float
        Of the solutions.
    """

    theta: FloatArray
    gradient: FloatArray
    metric: FloatArray
    information: FloatArray
    slopes: tuple[FloatArray, ...]
    scores: tuple[FloatArray, ...]
    sigma2: float
    factors: tuple[FloatArray, ...]
    solution: Coefficients
    system: Iterative
    gradient_covariance: FloatArray
    slope_errors: tuple[FloatArray, ...]
    profile: FloatArray
    residual: float
    warm: dict[str, FloatArray]
    iterations: tuple[int, int]
    tolerance: float

    def solve(self, right: Coefficients, fixed: bool = True) -> Coefficients:
        """``Q r`` in raw coordinates."""
        return solve_iterative(self.system, right, fixed=fixed).x


def estimating(criterion: Criterion, probes: Probes, exact_shifts: bool = True) -> Estimating:
    """Precompute the right-hand side of the response.

    Parameters
    ----------
    exact_shifts : bool
        Without, all of the traces is left to the probes: less work for a rough answer.
    """
    directions = shifts(criterion.cross) if exact_shifts else zeros(criterion.cross, 0)
    return Estimating(criterion, probes, response_side(criterion), directions)


def response_side(criterion: Criterion) -> Coefficients:
    """``[Z'; X'] W y``."""
    unit = zeros(criterion.cross, 1)
    unit.rest[-1] = 1.0
    return multiply(criterion.cross, unit, criterion.engine)


def estimate(
    problem: Estimating, theta: FloatArray, warm: dict[str, FloatArray] | None = None, tolerance: float = TOLERANCE
) -> Estimate:
    """Score, metric and Monte-Carlo errors: two batches of conjugate gradients.

    Parameters
    ----------
    warm : dict, optional
        ``Estimate.warm`` of a nearby point.
    tolerance : float
        Of the solutions; see `ranef.solve.iterative`.
    """
    criterion, probes = problem.criterion, problem.probes
    cross, layout, engine = criterion.cross, criterion.layout, criterion.engine
    warm = warm or {}
    factors = layout.factors(theta)
    known = problem.shifts.rest.shape[1]
    joint = np.full(1 + probes.count + known, criterion.reml)
    joint[0] = True
    system, solved, start = prepare_and_solve(
        cross,
        factors,
        engine,
        beside(problem.response, probes.data, problem.shifts),
        fixed=joint,
        noise=beside(zeros(cross, 1), probes.noise, zeros(cross, known)),
        start=warm.get("solution"),
        tolerance=tolerance,
    )
    # minus the response in the first column: the products are then minus the weighted residual's
    solved.x.rest[-1] = 0.0
    solved.x.rest[-1, 0] = -1.0
    solution = Coefficients(tuple(s[:, :, :1].copy() for s in solved.x.stages), solved.x.rest[:, :1].copy())
    parted = apart(solved.x, problem.shifts, probes.count)
    iterations = solved.iterations
    # as large as all probes together
    del solved
    products = multiply(cross, parted, engine)
    residual = -float(products.rest[-1, 0])
    if not residual > EXACT * cross.square:
        raise FitError(
            "the model reproduces the response (almost) exactly: the residual variance goes to zero and the likelihood "
            "has no maximum. Is the response constant within the levels of a grouping factor, or computed from other "
            "columns?"
        )
    sigma2 = residual / criterion.degrees
    scores = []
    slopes, errors = [], []
    for own, factor, product, x in zip(
        grams(cross), factors, by_block(cross, products), by_block(cross, parted), strict=True
    ):
        score = -product[:, :, 0]
        exact, each = traces(own, factor, product[:, :, 1:], x[:, :, 1:], probes.count)
        scores.append(score)
        slopes.append(exact - each - score.T @ score / sigma2)
        errors.append(each)
    gradients = np.array(
        [chain_rule(layout, factors, [slope[s] for slope in slopes]) for s in range(probes.count)]
    ).reshape(probes.count, -1)
    mean_slopes = tuple(slope.mean(axis=0) for slope in slopes)
    found: dict[str, FloatArray] = {}
    counts = [0]

    def solve(right: Coefficients) -> Coefficients:
        # for the metric alone: two digits are enough on the way, three at the end
        result = solve_iterative(
            system, right, start=warm.get("information"), tolerance=float(np.clip(10 * tolerance, 1e-3, 1e-2))
        )
        found["information"] = result.spherical
        counts[0] = result.iterations
        return result.x

    expected = information(criterion, tuple(scores), tangents(layout, factors), sigma2, solve)
    check_finite(gradients, expected)
    centred = gradients - gradients.mean(axis=0)
    return Estimate(
        theta=theta,
        gradient=gradients.mean(axis=0),
        metric=expected + curvature(layout, mean_slopes),
        information=expected,
        slopes=mean_slopes,
        scores=tuple(scores),
        sigma2=sigma2,
        factors=factors,
        solution=solution,
        system=system,
        gradient_covariance=centred.T @ centred / (probes.count * max(probes.count - 1, 1)),
        slope_errors=tuple(e.std(axis=0, ddof=1) / np.sqrt(probes.count) for e in errors),
        profile=chain_rule(layout, factors, [g.T @ g / sigma2 for g in scores]),
        residual=residual,
        warm={"solution": start, **found},
        iterations=(iterations, counts[0]),
        tolerance=tolerance,
    )


def estimate_given(criterion: Criterion, parameters: FloatArray) -> Estimate:
    """The solution where ``(theta, log sigma^2)`` are given: no parameter is left to have a score.

    Its ``tolerance`` is above ``GIVEN_TOLERANCE`` if conjugate gradients did not get there.
    """
    cross, engine, m = criterion.cross, criterion.engine, len(parameters)
    factors = criterion.layout.factors(parameters[:-1])
    right = response_side(criterion)
    system, solved, start = prepare_and_solve(
        cross, factors, engine, right, fixed=np.ones(1, np.bool_), noise=zeros(cross, 1), tolerance=GIVEN_TOLERANCE
    )
    solved.x.rest[-1] = -1.0
    products = multiply(cross, solved.x, engine)
    none = np.zeros((m, m))
    return Estimate(
        theta=parameters,
        gradient=none[0],
        metric=none,
        information=none,
        slopes=tuple(np.zeros_like(factor) for factor in factors),
        scores=tuple(-product[:, :, 0] for product in by_block(cross, products)),
        sigma2=float(np.exp(parameters[-1])),
        factors=factors,
        solution=solved.x,
        system=system,
        gradient_covariance=none,
        slope_errors=tuple(np.zeros_like(factor) for factor in factors),
        profile=none[0],
        residual=-float(products.rest[-1, 0]),
        warm={"solution": start},
        iterations=(solved.iterations, 0),
        tolerance=max(GIVEN_TOLERANCE, solved.residual),
    )


def stochastic_deviance(
    criterion: Criterion, at: Estimate, names: Sequence[str], probes: int, seed: int, skip: int = 0
) -> FloatArray:
    """The criterion at an estimate, one value for each probe of `ranef.solve.iterative.log_determinant`."""
    nu = criterion.degrees
    # profiled or given
    value = at.system.logdet_stages + nu * np.log(2 * np.pi * at.sigma2) + at.residual / at.sigma2
    if criterion.reml:
        value += np.linalg.slogdet(at.system.precision)[1]
    value += criterion.log_scale - criterion.cross.log_weights
    return np.asarray(value + log_determinant(at.system, names, probes, seed, skip))
