"""The mode of the random effects, by Newton's method on the penalised log-likelihood.

With ``g`` and ``W`` the rows' scores and weights a step solves ``C [dbeta; du] = [X'g; Lambda'Z'g - u]`` (Bates et al.
2015; DESIGN "the mixed-model system"). Spherical coefficients ``u`` are carried along, so that a singular ``Lambda`` is
an ordinary point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine
from ranef.errors import FitError
from ranef.learn.finite import OUT_OF_RANGE
from ranef.learn.likelihood import Likelihood, weigh
from ranef.solve.cross_products import CrossProducts
from ranef.solve.elimination import Coefficients, inner, multiply, raw_to_spherical, spherical_to_raw
from ranef.solve.iterative import Iterative, prepare_iterative, solve_iterative, spherical_solution
from ranef.solve.system import System, factorise, solve
from ranef.solve.weighted import flat, response_of

FloatArray = npt.NDArray[np.float64]

MOST_STEPS = 100
MOST_HALVINGS = 40


@dataclass(frozen=True)
class Exact:
    """By a dense Cholesky factorisation; see `ranef.solve.system`.

    Attributes
    ----------
    tolerance : float
        A mode is found when a step is predicted to raise the penalised log-likelihood by less, and is taken.
    settled : float
        As ``tolerance``, for a step after which the rows are not weighed again: log-likelihood and scores at the mode
        follow to second order from the system where the step began, which the mode is returned with; see `Mode.lag`.
    """

    tolerance: float = 1e-7
    settled: float = 0.0

    def prepare(self, cross: CrossProducts, factors: Sequence[FloatArray], engine: Engine, fixed: bool) -> System:
        del fixed  # one factor serves both
        return factorise(cross, factors, engine)

    def solve(self, system: Any, right: Coefficients, fixed: bool, noise: Coefficients | None = None) -> Coefficients:
        return solve(system, right, fixed, noise)

    def step(self, system: Any, right: Coefficients, fixed: bool, noise: Coefficients) -> Coefficients:
        """The solution in spherical coordinates."""
        x = solve(system, right, fixed, noise)
        x.rest[-1] = 0.0
        cross = system.cross
        gradient = to_spherical(cross, system.factors, right)
        add_random(gradient, noise, cross.random)
        moved = to_spherical(cross, system.factors, multiply(cross, x, system.engine))
        out = Coefficients(
            tuple(g - m for g, m in zip(gradient.stages, moved.stages, strict=True)), gradient.rest - moved.rest
        )
        out.rest[cross.random :] = x.rest[cross.random :]
        return out


@dataclass(frozen=True)
class ConjugateGradients:
    """By conjugate gradients; see `ranef.solve.iterative`.

    Attributes
    ----------
    tolerance : float
        As `Exact`'s.
    accuracy : float
        Of the solutions.
    settled : float
        As `Exact`'s.
    """

    tolerance: float
    accuracy: float
    settled: float = 0.0

    def prepare(self, cross: CrossProducts, factors: Sequence[FloatArray], engine: Engine, fixed: bool) -> Iterative:
        return prepare_iterative(cross, factors, engine, tolerance=self.accuracy, fixed=fixed)

    def solve(self, system: Any, right: Coefficients, fixed: bool, noise: Coefficients | None = None) -> Coefficients:
        return solve_iterative(system, right, fixed=fixed, noise=noise, tolerance=self.accuracy).x

    def step(self, system: Any, right: Coefficients, fixed: bool, noise: Coefficients) -> Coefficients:
        """The solution in spherical coordinates."""
        solved = solve_iterative(system, right, fixed=fixed, noise=noise, tolerance=self.accuracy)
        return spherical_solution(system, solved)


Solver = Exact | ConjugateGradients


@dataclass(frozen=True, eq=False)
class Mode:
    """The mode and the working system there.

    Attributes
    ----------
    u : Coefficients
        Spherical random effects, one side; ``u.rest`` holds the fixed effects too.
    x : Coefficients
        Raw ones.
    value : float
        Log-likelihood without its constant.
    penalty : float
        ``|u|^2``.
    sums : Coefficients
        ``[Z X]'score``.
    cross : CrossProducts
        Weighed at the mode.
    system : System or Iterative
    steps : int
    lag : Coefficients or None
        Raw coefficients less those that the system was weighed at; None is zero.
    """

    u: Coefficients
    x: Coefficients
    value: float
    penalty: float
    sums: Coefficients
    cross: CrossProducts
    system: System | Iterative
    steps: int
    lag: Coefficients | None = None


def find_mode(
    of: Likelihood, factors: Sequence[FloatArray], start: Coefficients, phi: FloatArray, joint: bool, solver: Solver
) -> Mode:
    """Maximise the penalised log-likelihood over the random effects, and with ``joint`` over the fixed effects.

    Parameters
    ----------
    factors : sequence of float64 arrays (k, k)
        ``Lambda`` of each block.
    start : Coefficients
        Spherical random effects, and the fixed effects.

    Raises
    ------
    FitError
        If the log-likelihood cannot be computed near the start, or has no maximum.
    """
    pattern = of.pattern
    engine = pattern.engine
    u, last = start, None
    best = -np.inf
    halvings = 0
    found = False
    # of the log-likelihood: no step can be told to be better than this
    rounding = 1e-13 * of.size
    for step in range(MOST_STEPS):
        x = to_raw(pattern.cross, factors, u)
        value, cross = weigh(of, flat(pattern.cross, x)[:, 0], phi)
        penalty = random_square(pattern.cross, u)
        objective = value - penalty / 2
        if not objective >= best - 1e-11 * (1 + abs(best)) - rounding:
            halvings += 1
            if last is None or halvings > MOST_HALVINGS:
                raise FitError(OUT_OF_RANGE)
            u, found = halfway(u, last), False
            continue
        halvings = 0
        sums = response_of(cross)
        system = solver.prepare(cross, factors, engine, joint)
        if found or not u.rest.size:
            return Mode(u, x, value, penalty, sums, cross, system, step + 1)
        noise = scaled(u, -1.0)
        du = solver.step(system, sums, joint, noise)
        gradient = to_spherical(cross, factors, sums)
        add_random(gradient, noise, cross.random)
        if not joint:
            gradient.rest[cross.random :] = 0.0
        decrement = float(inner(du, gradient)[0, 0]) / 2
        found = decrement <= max(solver.tolerance, rounding)
        if decrement <= solver.settled:
            return _settle(factors, engine, Mode(u, x, value, penalty, sums, cross, system, step + 1), du, decrement)
        last, best = u, objective
        u = Coefficients(tuple(a + b for a, b in zip(u.stages, du.stages, strict=True)), u.rest + du.rest)
    raise FitError(
        "the conditional modes of the random effects were not found: the likelihood has no maximum there. Does a "
        "covariate or a level separate the responses completely?"
    )


def _settle(factors: Sequence[FloatArray], engine: Engine, at: Mode, du: Coefficients, decrement: float) -> Mode:
    """The mode one step on, with the system that it was found with."""
    u = Coefficients(tuple(a + b for a, b in zip(at.u.stages, du.stages, strict=True)), at.u.rest + du.rest)
    x = to_raw(at.cross, factors, u)
    db = less(x, at.x)
    sums = less(at.sums, multiply(at.cross, db, engine))
    penalty = random_square(at.cross, u)
    value = at.value - at.penalty / 2 + decrement + penalty / 2
    return replace(at, u=u, x=x, value=value, penalty=penalty, sums=sums, lag=db)


def less(a: Coefficients, b: Coefficients) -> Coefficients:
    """``a - b``."""
    return Coefficients(tuple(p - q for p, q in zip(a.stages, b.stages, strict=True)), a.rest - b.rest)


def to_raw(cross: CrossProducts, factors: Sequence[FloatArray], u: Coefficients) -> Coefficients:
    """``b = Lambda u``; fixed effects as they are."""
    stages = tuple(factors[stage.block] @ values for stage, values in zip(cross.stages, u.stages, strict=True))
    return Coefficients(stages, spherical_to_raw(cross, factors, u.rest))


def to_spherical(cross: CrossProducts, factors: Sequence[FloatArray], x: Coefficients) -> Coefficients:
    stages = tuple(factors[stage.block].T @ values for stage, values in zip(cross.stages, x.stages, strict=True))
    out = raw_to_spherical(cross, factors, x.rest)
    out[-1] = 0.0
    return Coefficients(stages, out)


def random_square(cross: CrossProducts, u: Coefficients) -> float:
    """``|u|^2`` of the random effects."""
    return float(sum(np.sum(s**2) for s in u.stages) + np.sum(u.rest[: cross.random] ** 2))


def scaled(u: Coefficients, by: float) -> Coefficients:
    return Coefficients(tuple(by * s for s in u.stages), by * u.rest)


def halfway(a: Coefficients, b: Coefficients) -> Coefficients:
    return Coefficients(tuple((p + q) / 2 for p, q in zip(a.stages, b.stages, strict=True)), (a.rest + b.rest) / 2)


def add_random(to: Coefficients, other: Coefficients, random: int) -> None:
    for a, b in zip(to.stages, other.stages, strict=True):
        a += b
    to.rest[:random] += other.rest[:random]
