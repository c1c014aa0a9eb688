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

from ranef.engine.threads import Engine
from ranef.errors import FitError, OptionError
from ranef.family import Family
from ranef.learn.finite import OUT_OF_RANGE
from ranef.learn.likelihood import Likelihood, curvature_along, score_sums, weigh
from ranef.learn.minimise import Step
from ranef.learn.mode import Exact, Mode, Solver, add_random, halfway, random_square, scaled, to_raw, to_spherical
from ranef.solve.cross_products import CrossProducts
from ranef.solve.elimination import Coefficients, inner
from ranef.solve.iterative import prepare_and_solve, spherical_solution
from ranef.solve.reweigh import reweigh_by
from ranef.solve.weighted import Weighing, flat, response_of

FloatArray = npt.NDArray[np.float64]

MOST_HALVINGS = 40
MOST_IDLE = 10
# of the log-likelihood
ROUNDING = 1e-13
# of a level's coefficients in one step, where covariates are of size one: where events are rare, Newton's step for a
# level that has many is far too long, and what is far out comes back slowly
LONGEST = 2.0


@dataclass(frozen=True, eq=False)
class Here:
    """A point of the search.

    Attributes
    ----------
    u, x : Coefficients
        Spherical and raw coefficients, with the fixed effects.
    value, penalty : float
        Log-likelihood without its constant, and ``|u|^2``.
    sums : Coefficients
        ``[Z X]'score``.
    cross : CrossProducts or None
        Weighed there, for Newton's method.
    """

    u: Coefficients
    x: Coefficients
    value: float
    penalty: float
    sums: Coefficients
    cross: CrossProducts | None

    @property
    def objective(self) -> float:
        return self.value - self.penalty / 2


@dataclass(frozen=True, eq=False)
class Penalised:
    """The penalised log-likelihood for given covariances.

    Attributes
    ----------
    of : Likelihood
    factors : sequence of float64 arrays (k, k)
        ``Lambda`` of each block.
    phi : float64 array
    bounded : bool
        The curvature is not needed at every point.
    """

    of: Likelihood
    factors: Sequence[FloatArray]
    phi: FloatArray
    bounded: bool

    @property
    def pattern(self) -> Weighing:
        return self.of.pattern

    def at(self, u: Coefficients) -> Here:
        """One pass over the rows."""
        cross = self.pattern.cross
        x = to_raw(cross, self.factors, u)
        penalty = random_square(cross, u)
        if self.bounded:
            value, sums = score_sums(self.of, flat(cross, x)[:, 0], self.phi)
            return Here(u, x, value, penalty, sums, None)
        value, weighed = weigh(self.of, flat(cross, x)[:, 0], self.phi)
        return Here(u, x, value, penalty, response_of(weighed), weighed)

    def gradient(self, here: Here) -> Coefficients:
        """Of the penalised log-likelihood, spherical coordinates."""
        gradient = to_spherical(self.pattern.cross, self.factors, here.sums)
        add_random(gradient, scaled(here.u, -1.0), self.pattern.cross.random)
        return gradient

    def curvature_along(self, here: Here, step: Coefficients) -> float:
        """Minus the second derivative along a step; one pass over the rows."""
        cross = self.pattern.cross
        moved = flat(cross, to_raw(cross, self.factors, step))
        return curvature_along(self.of, flat(cross, here.x), moved, self.phi) + random_square(cross, step)

    def uphill(self, here: Here, step: Coefficients, length: float) -> Here:
        """Where a step leads; a shorter one, if it does not go uphill as it is.

        Raises
        ------
        FitError
            No length goes uphill: the log-likelihood cannot be computed.
        """
        u = _moved(here.u, step, length)
        for _ in range(MOST_HALVINGS):
            there = self.at(u)
            # the last digits of the log-likelihood are rounding
            if there.objective >= here.objective - ROUNDING * (self.of.size + abs(here.objective)):
                return there
            u = halfway(u, here.u)
        raise FitError(OUT_OF_RANGE)


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
    engine = of.pattern.engine
    problem = Penalised(of, factors, phi, bound is not None)
    kept = None if bound is None else solver.prepare(_bounded(of, bound), factors, engine, True)
    here = problem.at(start)
    unit = None if start is origin else norm(problem.gradient(problem.at(origin)))
    iteration, warm = 0, None
    slope, least, idle = np.inf, np.inf, 0
    rounding = ROUNDING * (of.size + abs(here.value))
    while True:
        gradient = problem.gradient(here)
        unit = norm(gradient) if unit is None else unit
        relative = norm(gradient) / unit if unit > 0 else 0.0
        deviance = -2 * (here.value + of.constant) + here.penalty
        idle, least = (0, relative) if relative < 0.9 * least else (idle + 1, least)
        # steps within rounding that lead nowhere: there are no more digits
        spent = slope <= rounding and idle >= MOST_IDLE
        last = relative <= tolerance or spent or iteration + 1 == max_iterations
        step, slope = gradient, 0.0
        if not last:
            if here.cross is None:
                step = solver.step(kept, here.sums, True, scaled(here.u, -1.0))
            else:
                step, warm = _newton(solver, here.cross, factors, engine, here, warm)
                step = _limited(step, here.cross, factors)
            slope = float(inner(step, gradient)[0, 0])
        if report is not None:
            report(Step(iteration, deviance, slope, True, time.perf_counter() - begun, relative))
        if last:
            break
        length = 1.0 if bound is None else slope / problem.curvature_along(here, step)
        here = problem.uphill(here, step, length)
        iteration += 1
    cross = weigh(of, flat(of.pattern.cross, here.x)[:, 0], phi)[1] if here.cross is None else here.cross
    return Mode(
        u=here.u,
        x=here.x,
        value=here.value,
        penalty=here.penalty,
        sums=here.sums,
        cross=cross,
        system=solver.prepare(cross, factors, engine, True),
        steps=iteration + 1,
    ), relative <= tolerance


def _newton(
    solver: Solver,
    cross: CrossProducts,
    factors: Sequence[FloatArray],
    engine: Engine,
    here: Here,
    warm: FloatArray | None,
) -> tuple[Coefficients, FloatArray | None]:
    """Newton's step, and what the next one's solution may start from: how the modes depend on the fixed effects."""
    if isinstance(solver, Exact):
        return solver.step(solver.prepare(cross, factors, engine, True), here.sums, True, scaled(here.u, -1.0)), None
    if warm is not None:
        warm = np.column_stack([warm, np.zeros(cross.random)])
    system, solved, _ = prepare_and_solve(
        cross, factors, engine, here.sums,
        fixed=np.ones(1, np.bool_), noise=scaled(here.u, -1.0), start=warm, tolerance=solver.accuracy,
    )  # fmt: skip
    return spherical_solution(system, solved), system.pull


def _limited(step: Coefficients, cross: CrossProducts, factors: Sequence[FloatArray]) -> Coefficients:
    """The step with those of single levels shortened."""

    def limited(values: FloatArray, factor: FloatArray) -> FloatArray:
        length = np.linalg.norm(factor @ values, axis=1, keepdims=True)
        return np.asarray(values * (LONGEST / np.maximum(length, LONGEST)))

    stages = tuple(limited(v, factors[s.block]) for s, v in zip(cross.stages, step.stages, strict=True))
    rest = step.rest.copy()
    for kept in cross.kept:
        values = step.rest[kept.place].reshape(kept.levels, kept.size, 1)
        rest[kept.place] = limited(values, factors[kept.block]).reshape(-1, 1)
    return Coefficients(stages, rest)


def norm(gradient: Coefficients) -> float:
    return float(np.sqrt(inner(gradient, gradient)[0, 0]))


def _bounded(of: Likelihood, bound: float) -> CrossProducts:
    """Cross products with every row's curvature at its bound."""

    def most(first: int, last: int) -> tuple[float, FloatArray, FloatArray]:
        weight = np.full(last - first, bound)
        if of.weights is not None:
            weight *= of.weights[first:last]
        return 0.0, weight, np.zeros(last - first)

    return reweigh_by(of.pattern, most)[1]


def _moved(u: Coefficients, step: Coefficients, length: float) -> Coefficients:
    stages = tuple(a + length * b for a, b in zip(u.stages, step.stages, strict=True))
    return Coefficients(stages, u.rest + length * step.rest)
