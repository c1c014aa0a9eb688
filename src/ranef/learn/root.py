"""Solve the stochastic estimating equations: the search without a criterion's value to go by.

The score in the metric of the average information is the measure of progress: a step that does not make it smaller is
shortened.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.learn.boundary import inside, snapped
from ranef.learn.minimise import Step
from ranef.learn.newton import corrected, newton_step
from ranef.learn.stochastic import Estimate, Estimating, estimate

FloatArray = npt.NDArray[np.float64]

MOST_REFUSALS = 8
MOST_SETTLEMENTS = 10


@dataclass(frozen=True, eq=False)
class Root:
    """Where the search ended."""

    at: Estimate
    converged: bool
    history: tuple[Step, ...]
    decrement: float


def find_root(
    problem: Estimating,
    start: FloatArray,
    *,
    tolerance: float,
    max_iterations: int,
    report: Callable[[Step, Estimate], None] | None = None,
) -> Root:
    """Solve the estimating equations from ``start``.

    Parameters
    ----------
    tolerance : float
        The search ends when a step is predicted to lower the deviance by less.
    """
    begun = time.perf_counter()
    layout = problem.criterion.layout
    history: list[Step] = []
    current = estimate(problem, start)
    correction = np.zeros_like(current.metric)
    damping = 0.0
    decrement, step = newton_step(current, correction, damping)

    def note(at: Estimate, decrement: float, accepted: bool) -> None:
        history.append(Step(len(history), float("nan"), decrement, accepted, time.perf_counter() - begun))
        if report is not None:
            report(history[-1], at)

    note(current, decrement, True)
    settled = refused = 0
    while True:
        if decrement <= tolerance:
            theta = _elsewhere(problem, current) if settled < MOST_SETTLEMENTS else None
            if theta is None:
                return Root(current, settled < MOST_SETTLEMENTS, tuple(history), decrement)
            settled += 1
            current, correction, damping = estimate(problem, theta, current.warm), np.zeros_like(correction), 0.0
            decrement, step = newton_step(current, correction, damping)
            note(current, decrement, True)
            continue
        if len(history) >= max_iterations or refused > MOST_REFUSALS:
            return Root(current, False, tuple(history), decrement)
        trial = estimate(problem, layout.canonical(current.theta + step), current.warm)
        measure, _ = newton_step(trial, np.zeros_like(correction), 0.0)
        if measure > max(decrement, tolerance):
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


def _elsewhere(problem: Estimating, at: Estimate) -> FloatArray | None:
    """A boundary to move to, or a point inside that the scores prefer beyond their Monte-Carlo error."""
    theta = snapped(problem.criterion.layout, at.theta)
    if theta is not None:
        return theta
    noise = max((float(np.max(np.diag(e))) for e in at.slope_errors), default=0.0)
    return next(inside(problem.criterion, at, 1e-6 + 3 * noise), None)
