"""Minimise the criterion over ``theta``: average-information steps in a trust region, and the boundary.

The criterion is even in every column of ``Lambda``, so its gradient vanishes at a zero variance whether or not a
positive one would be better. A singular point is therefore accepted only if no direction into the interior lowers
the criterion; otherwise the search restarts from a small positive variance in the best direction.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.learn.criterion import Criterion, Evaluation, evaluate

FloatArray = npt.NDArray[np.float64]

# A diagonal of Lambda below this is tried at zero: a standard deviation of 1e-4 sigma (lme4's bound for "singular").
NEARLY_ZERO = 1e-4


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
    """

    iteration: int
    deviance: float
    decrement: float
    accepted: bool
    seconds: float


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where the search ended.

    Attributes
    ----------
    at : Evaluation
    converged : bool
    history : tuple of Step
    decrement : float
        At the end; the largest entry of ``at.gradient`` says which parameter is not settled.
    """

    at: Evaluation
    converged: bool
    history: tuple[Step, ...]
    decrement: float


def minimise(
    criterion: Criterion,
    start: FloatArray,
    *,
    tolerance: float,
    max_iterations: int,
    report: Callable[[Step, Evaluation], None] | None = None,
) -> Minimum:
    """Minimise the criterion from ``start``.

    Parameters
    ----------
    tolerance : float
        The search ends when a step is predicted to lower the deviance by less: an error of ``sqrt(tolerance)``
        standard errors in the covariance parameters.
    """
    begun = time.perf_counter()
    history: list[Step] = []
    current = evaluate(criterion, start)
    damping = 0.0
    decrement, step = _newton_step(current, damping)

    def note(at: Evaluation, decrement: float, accepted: bool) -> None:
        history.append(Step(len(history), at.deviance, decrement, accepted, time.perf_counter() - begun))
        if report is not None:
            report(history[-1], at)

    note(current, decrement, True)
    restarts = 0
    while True:
        if decrement <= tolerance:
            settled = _settle(criterion, current)
            if settled is None:
                return Minimum(current, True, tuple(history), decrement)
            if restarts > 2 * criterion.layout.parameters:
                return Minimum(current, False, tuple(history), decrement)
            restarts += settled.deviance < current.deviance - tolerance
            snapped = settled.deviance >= current.deviance - tolerance
            current = settled
            damping = 0.0
            decrement, step = _newton_step(current, damping)
            note(current, decrement, True)
            if snapped and decrement <= tolerance and _escape(criterion, current) is None:
                return Minimum(current, True, tuple(history), decrement)
            continue
        if len(history) > max_iterations:
            return Minimum(current, False, tuple(history), decrement)
        trial = evaluate(criterion, current.theta + step)
        predicted = -(current.gradient @ step + step @ current.metric @ step / 2)
        gained = current.deviance - trial.deviance
        # the last digits of the deviance are rounding: there, a smaller gradient decides
        rounding = 1e-13 * criterion.cross.rows * max(1.0, abs(current.deviance) / criterion.cross.rows)
        ratio = 1.0 if abs(gained) <= rounding and predicted <= 10 * rounding else gained / predicted
        if ratio > 1e-3:
            previous = current
            current = trial
            damping = damping / 10 if ratio > 0.7 else damping
            if damping < 1e-6:
                damping = 0.0
            if ratio < 0.25:
                damping = max(4 * damping, 0.1)
            decrement, step = _newton_step(current, damping)
            note(current, decrement, True)
            if previous.deviance - current.deviance <= rounding and decrement <= 100 * tolerance:
                # nothing left to gain in floating point
                tolerance = max(tolerance, decrement)
        else:
            note(trial, decrement, False)
            damping = max(4 * damping, 0.3)
            _, step = _newton_step(current, damping)


def _newton_step(at: Evaluation, damping: float) -> tuple[float, FloatArray]:
    """Undamped predicted decrease, and the (damped) step; parameters without curvature stay where they are."""
    if not len(at.theta):
        return 0.0, at.theta
    scale = np.sqrt(np.maximum(np.diag(at.metric), 1e-300))
    values, vectors = np.linalg.eigh(at.metric / np.outer(scale, scale))
    gradient = vectors.T @ (at.gradient / scale)
    kept = values > 1e-10 * values[-1]
    decrement = float(0.5 * np.sum(gradient[kept] ** 2 / values[kept]))
    damped = np.where(kept, values + damping, np.inf)
    return decrement, -(vectors @ (gradient / damped)) / scale


def _settle(criterion: Criterion, at: Evaluation) -> Evaluation | None:
    """A better or cleaner point than a converged one: nearly zero diagonals at zero, or a step into the interior."""
    snapped = _snap(criterion, at)
    if snapped is not None:
        return snapped
    return _escape(criterion, at)


def _snap(criterion: Criterion, at: Evaluation) -> Evaluation | None:
    theta = at.theta.copy()
    for part, basis in zip(criterion.layout.slices, criterion.layout.basis, strict=True):
        diagonal = np.einsum("pii->p", basis) > 0
        small = diagonal & (np.abs(theta[part]) < NEARLY_ZERO) & (theta[part] != 0)
        theta[part] = np.where(small, 0.0, theta[part])
    if np.array_equal(theta, at.theta):
        return None
    trial = evaluate(criterion, theta)
    return trial if trial.deviance <= at.deviance + 1e-9 * max(1.0, abs(at.deviance) * 1e-3) else None


def _escape(criterion: Criterion, at: Evaluation) -> Evaluation | None:
    """The criterion a little inside, if that lowers it; else None.

    At a singular ``Lambda`` the derivative by ``Sigma`` in a direction ``vv'`` of its null space decides.
    """
    factors = criterion.layout.factors(at.theta)
    best: tuple[float, FloatArray] | None = None
    for b, terms in enumerate(criterion.layout.blocks):
        first = 0
        for structure in terms:
            own = slice(first, first + structure.size)
            first += structure.size
            factor, slope = factors[b][own, own], at.slopes[b][own, own]
            direction = _interior_direction(factor, slope, structure.kind)
            if direction is None:
                continue
            gain = float(np.sum(direction * slope))
            if best is None or gain < best[0]:
                covariances = [f @ f.T for f in factors]
                covariances[b][own, own] += 1e-2 * direction
                best = gain, criterion.layout.project(covariances)
    # a slope of the deviance by a relative variance; below this it is rounding
    if best is None or best[0] > -1e-6:
        return None
    theta = best[1]
    for _ in range(12):
        trial = evaluate(criterion, theta)
        if trial.deviance < at.deviance - 1e-10 * abs(at.deviance):
            return trial
        theta = at.theta + (theta - at.theta) / 4
    return None


def _interior_direction(factor: FloatArray, slope: FloatArray, kind: str) -> FloatArray | None:
    """A covariance to add that lowers the criterion fastest, within the null space of ``factor``; None if none does."""
    k = len(factor)
    if kind == "identity":
        return np.eye(k) if factor[0, 0] == 0 and np.trace(slope) < 0 else None
    if kind == "diagonal":
        open_ = (np.diag(factor) == 0) & (np.diag(slope) < 0)
        return np.diag(open_.astype(float)) if open_.any() else None
    values, vectors = np.linalg.eigh(factor @ factor.T)
    null = vectors[:, values <= 1e-12 * max(values[-1], 1e-300)] if values[-1] > 0 else np.eye(k)
    if not null.shape[1]:
        return None
    slopes, inside = np.linalg.eigh(null.T @ slope @ null)
    if slopes[0] >= 0:
        return None
    direction = null @ inside[:, 0]
    return np.outer(direction, direction)
