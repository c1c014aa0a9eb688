"""Solve the stochastic estimating equations: the search without a criterion's value to go by.

The score in the metric of the average information is the measure of progress: a step that does not make it smaller is
shortened.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ranef.errors import FitError
from ranef.learn.boundary import Domain
from ranef.learn.minimise import Step
from ranef.learn.newton import Point, corrected, newton_step

FloatArray = npt.NDArray[np.float64]

MOST_REFUSALS = 8
MOST_SETTLEMENTS = 10
# a decrement within some standard errors of the root
NEAR = 10.0
# times what Newton's method promises
CAUTION = 3.0
# of the solutions: at the first point, and where the search ends
LOOSEST, TIGHTEST = 1e-3, 1e-6


class Estimated(Point, Protocol):
    """A point of estimating equations."""

    @property
    def tolerance(self) -> float:
        """Of its solutions."""
        ...

    @property
    def slope_errors(self) -> tuple[FloatArray, ...]:
        """Monte-Carlo standard errors of the slopes."""
        ...


At = TypeVar("At", bound=Estimated)


class Equations(Domain[At], Protocol[At]):
    """What `find_root` works on: `ranef.learn.stochastic.Estimating`, or a Laplace score."""

    def evaluate(self, theta: FloatArray, near: At | None, tolerance: float) -> At:
        """Score and metric at ``theta``, solved to ``tolerance``; ``near`` is a point to start from."""
        ...


@dataclass(frozen=True, eq=False)
class Root(Generic[At]):
    """Where the search ended."""

    at: At
    converged: bool
    history: tuple[Step, ...]
    decrement: float


def find_root(
    equations: Equations[At],
    start: FloatArray,
    *,
    tolerance: float,
    max_iterations: int,
    near: bool = False,
    warm: At | None = None,
    report: Callable[[Step, At], None] | None = None,
) -> Root[At]:
    """Solve the estimating equations from ``start``.

    Parameters
    ----------
    near : bool
        Whether the start is near the root already: its solutions are then computed to all digits.
    warm : Estimated, optional
        A point to start inner searches from.
    tolerance : float
        The search ends when a step is predicted to lower the deviance by less.
    """
    begun = time.perf_counter()
    history: list[Step] = []
    current = equations.evaluate(start, warm, TIGHTEST if near else LOOSEST)
    correction = np.zeros_like(current.metric)
    damping = 0.0
    decrement, step = newton_step(current, correction, damping)

    def note(at: At, decrement: float, accepted: bool) -> None:
        history.append(Step(len(history), float("nan"), decrement, accepted, time.perf_counter() - begun))
        if report is not None:
            report(history[-1], at)

    note(current, decrement, True)
    settled = refused = 0
    while True:
        spent = len(history) >= max_iterations
        precise = current.tolerance <= 2 * TIGHTEST
        if decrement <= tolerance and not precise and not spent:
            current = equations.evaluate(current.theta, current, TIGHTEST)
            decrement, step = newton_step(current, correction, damping)
            note(current, decrement, True)
            continue
        if decrement <= tolerance:
            theta = _elsewhere(equations, current) if settled < MOST_SETTLEMENTS else None
            if theta is None or spent:
                return Root(
                    current, theta is None and precise and settled < MOST_SETTLEMENTS, tuple(history), decrement
                )
            settled += 1
            current = equations.evaluate(theta, current, TIGHTEST)
            correction, damping = np.zeros_like(correction), 0.0
            decrement, step = newton_step(current, correction, damping)
            note(current, decrement, True)
            continue
        if spent or refused > MOST_REFUSALS:
            return Root(current, False, tuple(history), decrement)
        try:
            trial = equations.evaluate(equations.canonical(current.theta + step), current, _accuracy(decrement))
        except FitError:
            # too far out: a shorter step, unless there is no way on
            refused += 1
            if refused > MOST_REFUSALS:
                raise
            damping = max(10 * damping, 1.0)
            _, step = newton_step(current, correction, damping)
            continue
        # without the correction on both sides: one that was learned far away may be too large
        before, measure = (newton_step(at, np.zeros_like(correction), 0.0)[0] for at in (current, trial))
        if measure > max(before, decrement, tolerance):
            note(trial, measure, False)
            refused += 1
            damping = max(4 * damping, 0.5)
            _, step = newton_step(current, correction, damping)
            continue
        refused = 0
        turned = not np.array_equal(trial.theta, current.theta + step)
        correction = np.zeros_like(correction) if turned else corrected(current, trial, correction, decrement)
        damping = damping / 4 if damping > 1e-2 else 0.0
        current = trial
        decrement, step = newton_step(current, correction, damping)
        note(current, decrement, True)


def coarse_start(
    equations: Equations[At],
    start: FloatArray,
    max_iterations: int,
    report: Callable[[Step, At], None] | None = None,
    near: float = NEAR,
    left: float = np.inf,
) -> tuple[FloatArray, bool]:
    """A start for `find_root`: Newton steps with the few probes of ``equations``, at a fraction of the cost.

    Ends with the step from the first point whose predicted decrease is below ``near``, by default within a few standard
    errors, and says whether there was one; gives ``start`` back if not. What a step leaves to gain is to be below
    ``left``: about the square of the predicted decrease over the one before.
    """
    begun = time.perf_counter()
    theta = start
    at: At | None = None
    before, last = np.inf, 1.0
    for iteration in range(max_iterations):
        try:
            at = equations.evaluate(theta, at, LOOSEST)
        except FitError:
            return start, False
        decrement, step = newton_step(at, np.zeros_like(at.metric), 0.0)
        if report is not None:
            report(Step(iteration, float("nan"), decrement, True, time.perf_counter() - begun), at)
        if decrement > 0.5 * before:
            return (theta, True) if decrement < NEAR else (start, False)
        theta, before = equations.canonical(theta + step), decrement
        if decrement < near and CAUTION * decrement**2 / last < left:
            return theta, True
        last = decrement
    return start, False


def _accuracy(decrement: float) -> float:
    """Tolerance of the solutions at the next point: their error in the score must be small beside the score's size."""
    return float(np.clip(1e-5 * np.sqrt(decrement), TIGHTEST, LOOSEST))


def _elsewhere(equations: Equations[At], at: At) -> FloatArray | None:
    """A boundary to move to, or a point inside that the scores prefer beyond their Monte-Carlo error."""
    theta = equations.snapped(at.theta)
    if theta is not None:
        return theta
    noise = max((float(np.max(np.diag(e))) for e in at.slope_errors), default=0.0)
    return next(equations.inside(at, 1e-6 + 3 * noise), None)
