"""The joint mode of all coefficients for given covariances, to a gradient tolerance.

Newton's method weighs the cross products anew in every step. Or the curvature is replaced by its bound (1/4 for a
logit), prepared once, and the length of each step is that of Newton's method along it. Steps of length one with a
bound always go uphill (Boehning and Lindsay 1988, Ann. Inst. Statist. Math. 40); with the length found along the step
it is the solver of Stitch Fix's Diamond, there for one factor at a time and here for all coefficients at once.

The measure of convergence is the norm of the penalised log-likelihood's gradient, in spherical coordinates and over its
norm without random effects.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.errors import FitError, OptionError
from ranef.family import Family
from ranef.learn.likelihood import Likelihood, linearise
from ranef.learn.minimise import Step
from ranef.learn.mode import Mode, Solver, add_random, halfway, random_square, scaled, to_raw, to_spherical
from ranef.solve.elimination import Coefficients, inner
from ranef.solve.weighted import flat, linear_predictor, response_of, reweigh, sums, sums_of_rows

FloatArray = npt.NDArray[np.float64]

MOST_HALVINGS = 40


@dataclass(frozen=True, eq=False)
class Here:
    """A point of the search.

    Attributes
    ----------
    u, x : Coefficients
        Spherical and raw coefficients, with the fixed effects.
    value, penalty : float
        Log-likelihood without its constant, and ``|u|^2``.
    score, weight : float64 arrays, shape (rows,)
    """

    u: Coefficients
    x: Coefficients
    value: float
    penalty: float
    score: FloatArray
    weight: FloatArray

    @property
    def objective(self) -> float:
        return self.value - self.penalty / 2


def bound_of(family: Family) -> float:
    """The bound of the family's curvature.

    Raises
    ------
    OptionError
        It has none.
    """
    bound = family.largest_curvature
    if bound is None:
        raise OptionError(
            f"solver='bound' needs a curvature with a bound, and that of family={family.name!r} with "
            f"link={family.link!r} has none; it goes with logit and probit links of 'bernoulli', 'binomial' and "
            "'ordinal', and with 'gaussian'. Use solver='auto'"
        )
    return bound


def find_joint_mode(
    of: Likelihood,
    factors: Sequence[FloatArray],
    start: Coefficients,
    origin: Coefficients,
    phi: FloatArray,
    solver: Solver,
    *,
    bound: float | None,
    tolerance: float,
    max_iterations: int,
    report: Callable[[Step], None] | None = None,
) -> tuple[Mode, bool]:
    """Maximise the penalised log-likelihood over random and fixed effects.

    Parameters
    ----------
    factors : sequence of float64 arrays (k, k)
        ``Lambda`` of each block.
    start : Coefficients
        Spherical random effects, and the fixed effects.
    origin : Coefficients
        No random effects; the gradient's norm there is the unit of ``tolerance``.
    bound : float, optional
        Of the curvature of a row of weight one: the solver that keeps it.
    tolerance : float
        The search ends when the gradient's relative norm is below.
    report : callable, optional
        Gets every step.

    Returns
    -------
    Mode
        With the working system there, whatever the solver.
    converged : bool

    Raises
    ------
    FitError
        If the log-likelihood cannot be computed near the start.
    """
    begun = time.perf_counter()
    pattern, engine = of.pattern, of.pattern.engine

    def note(iteration: int, deviance: float, decrement: float, relative: float) -> None:
        if report is not None:
            report(Step(iteration, deviance, decrement, True, time.perf_counter() - begun, relative))

    here, system = _point(of, factors, start, phi), None
    unit = None if start is origin else _norm(_gradient(of, factors, _point(of, factors, origin, phi)))
    if bound is not None:
        most = np.broadcast_to(bound, len(of.y)) if of.weights is None else bound * of.weights
        system = solver.prepare(reweigh(pattern, np.ascontiguousarray(most), here.score), factors, engine, True)
    for iteration in range(max_iterations):
        cross = None if bound is not None else reweigh(pattern, here.weight, here.score)
        totals = sums(pattern, here.score[:, None]) if cross is None else response_of(cross)
        gradient = _uphill(of, factors, totals, here)
        norm = _norm(gradient)
        unit = norm if unit is None else unit
        relative = norm / unit if unit > 0 else 0.0
        deviance = -2 * (here.value + of.constant) + here.penalty
        if relative <= tolerance or iteration == max_iterations - 1:
            note(iteration, deviance, 0.0, relative)
            break
        if cross is not None:
            system = solver.prepare(cross, factors, engine, True)
        step = solver.step(system, totals, True, scaled(here.u, -1.0))
        slope = float(inner(step, gradient)[0, 0])
        length = 1.0 if bound is None else slope / _curvature_along(of, factors, here, step)
        note(iteration, deviance, slope, relative)
        here = _uphill_point(of, factors, here, step, length, phi)
    cross = reweigh(pattern, here.weight, here.score) if cross is None else cross
    mode = Mode(
        u=here.u,
        x=here.x,
        value=here.value,
        penalty=here.penalty,
        score=here.score,
        weight=here.weight,
        sums=totals,
        cross=cross,
        system=solver.prepare(cross, factors, engine, True),
        steps=iteration + 1,
    )
    return mode, relative <= tolerance


def _point(of: Likelihood, factors: Sequence[FloatArray], u: Coefficients, phi: FloatArray) -> Here:
    x = to_raw(of.pattern.cross, factors, u)
    value, score, weight = linearise(of, flat(of.pattern.cross, x)[:, 0], phi)
    return Here(u, x, value, random_square(of.pattern.cross, u), score, weight)


def _gradient(of: Likelihood, factors: Sequence[FloatArray], here: Here) -> Coefficients:
    return _uphill(of, factors, sums(of.pattern, here.score[:, None]), here)


def _uphill(of: Likelihood, factors: Sequence[FloatArray], totals: Coefficients, here: Here) -> Coefficients:
    """Gradient of the penalised log-likelihood, spherical coordinates; ``totals`` is ``[Z X]'score``."""
    gradient = to_spherical(of.pattern.cross, factors, totals)
    add_random(gradient, scaled(here.u, -1.0), of.pattern.cross.random)
    return gradient


def _norm(gradient: Coefficients) -> float:
    return float(np.sqrt(inner(gradient, gradient)[0, 0]))


def _curvature_along(of: Likelihood, factors: Sequence[FloatArray], here: Here, step: Coefficients) -> float:
    """Minus the second derivative of the penalised log-likelihood along a step."""
    cross = of.pattern.cross
    moved = flat(cross, to_raw(cross, factors, step))[:, 0]

    def piece(first: int, last: int) -> tuple[float]:
        change = linear_predictor(of.pattern, moved, first, last)
        return (float(here.weight[first:last] @ change**2),)

    (value,) = sums_of_rows(of.pattern, piece)
    return float(value) + random_square(cross, step)


def _uphill_point(
    of: Likelihood,
    factors: Sequence[FloatArray],
    here: Here,
    step: Coefficients,
    length: float,
    phi: FloatArray,
) -> Here:
    """Where a step leads; shorter, if it does not go uphill as it is."""
    u = _moved(here.u, step, length)
    for _ in range(MOST_HALVINGS):
        there = _point(of, factors, u, phi)
        # the last digits of the log-likelihood are rounding
        if there.objective >= here.objective - 1e-13 * (of.size + abs(here.objective)):
            return there
        u = halfway(u, here.u)
    raise FitError(
        "the likelihood cannot be computed where the search stands: linear predictors or parameters are out of range. "
        "Are covariates or the offset very large? Scale them"
    )


def _moved(u: Coefficients, step: Coefficients, length: float) -> Coefficients:
    stages = tuple(a + length * b for a, b in zip(u.stages, step.stages, strict=True))
    return Coefficients(stages, u.rest + length * step.rest)
