"""Minimise the criterion over ``theta``: average-information steps in a trust region, and the boundary.

The criterion is even in every column of ``Lambda``, so its gradient vanishes at a zero variance whether or not a
positive one would be better. A singular point is therefore accepted only if no direction into the interior lowers
the criterion; otherwise the search restarts from a small positive variance in the best direction.
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
from ranef.learn.newton import Point, corrected, is_positive, newton_step

FloatArray = npt.NDArray[np.float64]

# Steps in a row that floating point cannot evaluate, each a tenth of the one before.
MOST_FAILURES = 8
# Times that a converged point may be left for a better one, or for a boundary.
MOST_SETTLEMENTS = 20
# predicted decrease at a tenth of a standard error from the end
CLOSE = 1e-2
# of the Hessian's change from one point to another that may be neglected
SLIGHT = 5e-3


class Valued(Point, Protocol):
    """A point where the criterion itself is known."""

    @property
    def deviance(self) -> float: ...


At = TypeVar("At", bound=Valued)


class Objective(Domain[At], Protocol[At]):
    """What `minimise` works on: `ranef.learn.criterion.Criterion`, or a Laplace deviance."""

    @property
    def size(self) -> float:
        """How many terms of order one the criterion sums up: its rounding errors grow with it."""
        ...

    def evaluate(self, theta: FloatArray, near: At | None = None) -> At:
        """The criterion at ``theta``; ``near`` is a point to start inner searches from."""
        ...


@dataclass(frozen=True)
class Step:
    """One evaluation of the search.

    Attributes
    ----------
    iteration : int
    deviance : float
    decrement : float
        What a full step from here is predicted to lower the deviance by; the stopping criterion.
    accepted : bool
    seconds : float
        Since the search began.
    gradient : float
        Norm of the gradient over its norm without random effects; NaN where a search does not go by it.
    """

    iteration: int
    deviance: float
    decrement: float
    accepted: bool
    seconds: float
    gradient: float = float("nan")


@dataclass(frozen=True, eq=False)
class Minimum(Generic[At]):
    """Where the search ended.

    Attributes
    ----------
    at : Valued
    converged : bool
    history : tuple of Step
    decrement : float
        At the end; the largest entry of ``at.gradient`` says which parameter is not settled.
    hessian : float64 array, shape (parameters, parameters), or None
        What ``observed`` gave, if the search's end has been found to have about the same.
    """

    at: At
    converged: bool
    history: tuple[Step, ...]
    decrement: float
    hessian: FloatArray | None = None


def minimise(
    objective: Objective[At],
    start: FloatArray,
    *,
    tolerance: float,
    max_iterations: int,
    report: Callable[[Step, At], None] | None = None,
    near: At | None = None,
    observed: Callable[[At], FloatArray] | None = None,
    begin: tuple[At, FloatArray | None] | None = None,
) -> Minimum[At]:
    """Minimise the criterion from ``start``.

    Parameters
    ----------
    tolerance : float
        The search ends when a step is predicted to lower the deviance by less: an error of ``sqrt(tolerance)``
        standard errors in the covariance parameters.
    near : Valued, optional
        A point to start inner searches from.
    observed : callable, optional
        The Hessian of the criterion at a point. Close to the end it takes the place of the metric, for once: it saves
        evaluations where it is needed anyway.
    begin : tuple of Valued and (float64 array or None), optional
        The start evaluated, and what is known of the Hessian there.
    """
    begun = time.perf_counter()
    history: list[Step] = []
    current, known = (objective.evaluate(start, near), None) if begin is None else begin
    correction = np.zeros_like(current.metric)
    damping = 0.0
    decrement, step = newton_step(current, correction, damping)

    def note(at: At, decrement: float, accepted: bool) -> None:
        history.append(Step(len(history), at.deviance, decrement, accepted, time.perf_counter() - begun))
        if report is not None:
            report(history[-1], at)

    note(current, decrement, True)
    settled = failures = 0
    hessian: FloatArray | None = None
    first = current
    while True:
        if observed is not None and tolerance < decrement <= CLOSE:
            hessian, first = observed(current) if known is None else known, current
            observed = None
            if is_positive(hessian, current.metric):
                correction, damping = hessian - current.metric, 0.0
                decrement, step = newton_step(current, correction, damping)
        if decrement <= tolerance:
            better = _settle(objective, current)
            if better is None:
                if hessian is not None and not _is_about_the_same(hessian, first, current):
                    hessian = None
                return Minimum(current, True, tuple(history), decrement, hessian)
            hessian = None
            settled += 1
            if settled > MOST_SETTLEMENTS:
                return Minimum(current, False, tuple(history), decrement)
            current, damping, correction = better, 0.0, np.zeros_like(correction)
            decrement, step = newton_step(current, correction, damping)
            note(current, decrement, True)
            continue
        if len(history) >= max_iterations:
            return Minimum(current, False, tuple(history), decrement)
        try:
            trial = objective.evaluate(objective.canonical(current.theta + step), current)
        except FitError:
            # too far out for floating point: a shorter step, unless there is no way on
            failures += 1
            if failures > MOST_FAILURES:
                raise
            damping = max(10 * damping, 1.0)
            _, step = newton_step(current, correction, damping)
            continue
        failures, known = 0, None
        predicted = -(current.gradient @ step + step @ (current.metric + correction) @ step / 2)
        gained = current.deviance - trial.deviance
        # the last digits of the deviance are rounding
        rounding = 1e-13 * (objective.size + abs(current.deviance))
        ratio = 1.0 if abs(gained) <= rounding and predicted <= 10 * rounding else gained / predicted
        if ratio <= 1e-3:
            note(trial, decrement, False)
            damping = max(4 * damping, 0.3)
            _, step = newton_step(current, correction, damping)
            continue
        if ratio < 0.25:
            damping = max(4 * damping, 0.1)
        elif ratio > 0.7:
            damping = damping / 10 if damping > 1e-5 else 0.0
        turned = not np.array_equal(trial.theta, current.theta + step)
        correction = np.zeros_like(correction) if turned else corrected(current, trial, correction, decrement)
        stuck = gained <= rounding and decrement <= 100 * tolerance
        current = trial
        decrement, step = newton_step(current, correction, damping)
        note(current, decrement, True)
        if stuck:
            # nothing left to gain in floating point
            tolerance = max(tolerance, decrement)


def _is_about_the_same(hessian: FloatArray, first: Point, last: Point) -> bool:
    """Whether what the gradient changed by tells of another Hessian where the search ended than where it was made."""
    step = last.theta - first.theta
    # on the way between them half of the change is seen
    lacking = 2 * (last.gradient - first.gradient - hessian @ step)
    scale = np.sqrt(np.maximum(np.diag(first.metric), 1e-300))
    return float(np.linalg.norm(lacking / scale)) <= SLIGHT * float(np.linalg.norm(scale * step))


def _settle(objective: Objective[At], at: At) -> At | None:
    """A better or cleaner point than a converged one: nearly zero diagonals at zero, or a step into the interior."""
    theta = objective.snapped(at.theta)
    if theta is not None:
        trial = objective.evaluate(theta, at)
        if trial.deviance <= at.deviance + 1e-9 * max(1.0, abs(at.deviance) * 1e-3):
            return trial
    # a derivative of the deviance by a relative variance; smaller ones are rounding
    for theta in objective.inside(at, 1e-6):
        trial = objective.evaluate(theta, at)
        if trial.deviance < at.deviance - 1e-10 * abs(at.deviance):
            return trial
    return None
