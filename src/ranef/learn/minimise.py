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

from ranef.errors import FitError
from ranef.learn.criterion import Criterion, Evaluation, evaluate, information

FloatArray = npt.NDArray[np.float64]

# A diagonal of Lambda below this is tried at zero: a standard deviation of 1e-4 sigma (lme4's bound for "singular").
NEARLY_ZERO = 1e-4
# Steps in a row that floating point cannot evaluate, each a tenth of the one before.
MOST_FAILURES = 8
# Times that a converged point may be left for a better one, or for a boundary.
MOST_SETTLEMENTS = 20


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
    correction = np.zeros_like(current.metric)
    damping = 0.0
    decrement, step = _newton_step(current, correction, damping)

    def note(at: Evaluation, decrement: float, accepted: bool) -> None:
        history.append(Step(len(history), at.deviance, decrement, accepted, time.perf_counter() - begun))
        if report is not None:
            report(history[-1], at)

    note(current, decrement, True)
    settled = failures = 0
    while True:
        if decrement <= tolerance:
            better = _settle(criterion, current)
            if better is None:
                return Minimum(current, True, tuple(history), decrement)
            settled += 1
            if settled > MOST_SETTLEMENTS:
                return Minimum(current, False, tuple(history), decrement)
            current, damping, correction = better, 0.0, np.zeros_like(correction)
            decrement, step = _newton_step(current, correction, damping)
            note(current, decrement, True)
            continue
        if len(history) > max_iterations:
            return Minimum(current, False, tuple(history), decrement)
        try:
            trial = evaluate(criterion, criterion.layout.canonical(current.theta + step))
        except FitError:
            # too far out for floating point: a shorter step, unless there is no way on
            failures += 1
            if failures > MOST_FAILURES:
                raise
            damping = max(10 * damping, 1.0)
            _, step = _newton_step(current, correction, damping)
            continue
        failures = 0
        predicted = -(current.gradient @ step + step @ (current.metric + correction) @ step / 2)
        gained = current.deviance - trial.deviance
        # the last digits of the deviance are rounding
        rounding = 1e-13 * (criterion.cross.rows + abs(current.deviance))
        ratio = 1.0 if abs(gained) <= rounding and predicted <= 10 * rounding else gained / predicted
        if ratio <= 1e-3:
            note(trial, decrement, False)
            damping = max(4 * damping, 0.3)
            _, step = _newton_step(current, correction, damping)
            continue
        if ratio < 0.25:
            damping = max(4 * damping, 0.1)
        elif ratio > 0.7:
            damping = damping / 10 if damping > 1e-5 else 0.0
        turned = not np.array_equal(trial.theta, current.theta + step)
        correction = np.zeros_like(correction) if turned else _corrected(current, trial, correction, decrement)
        stuck = gained <= rounding and decrement <= 100 * tolerance
        current = trial
        decrement, step = _newton_step(current, correction, damping)
        note(current, decrement, True)
        if stuck:
            # nothing left to gain in floating point
            tolerance = max(tolerance, decrement)


def _corrected(before: Evaluation, after: Evaluation, correction: FloatArray, decrement: float) -> FloatArray:
    """What average information lacks of the Hessian, learned from the last step (symmetric rank-one update).

    Average and observed information differ by the data's departure from the model; without the correction the search
    converges linearly, with it superlinearly. Far from the optimum the metric changes too much for it.
    """
    if decrement > 1.0:
        return np.zeros_like(correction)
    step = after.theta - before.theta
    lacking = after.gradient - before.gradient - (after.metric + correction) @ step
    along = float(lacking @ step)
    if abs(along) < 1e-8 * np.linalg.norm(lacking) * np.linalg.norm(step):
        return correction
    updated = correction + np.outer(lacking, lacking) / along
    scale = np.sqrt(np.maximum(np.diag(after.metric), 1e-300))
    lowest = np.linalg.eigvalsh((after.metric + updated) / np.outer(scale, scale))[0]
    # an indefinite model has no minimum to step to
    return updated if lowest > 1e-3 else np.zeros_like(correction)


def _newton_step(at: Evaluation, correction: FloatArray, damping: float) -> tuple[float, FloatArray]:
    """Undamped predicted decrease, and the (damped) step; parameters without curvature stay where they are."""
    if not len(at.theta):
        return 0.0, at.theta
    scale = np.sqrt(np.maximum(np.diag(at.metric), 1e-300))
    values, vectors = np.linalg.eigh((at.metric + correction) / np.outer(scale, scale))
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
    """A point inside with a lower criterion; None if there is none.

    At a singular ``Lambda`` the derivatives by ``Sigma`` in the null space decide; each term whose derivative is
    negative moves by its own Newton step in the variance.
    """
    if not len(at.theta):
        return None
    factors = criterion.layout.factors(at.theta)
    changes = [np.zeros((0, *factor.shape)) for factor in factors]
    for b, terms in enumerate(criterion.layout.blocks):
        first = 0
        for structure in terms:
            own = slice(first, first + structure.size)
            first += structure.size
            inside = _interior_direction(factors[b][own, own], at.slopes[b][own, own], structure.kind)
            if inside is not None:
                change = np.zeros((1, *factors[b].shape))
                change[0, own, own] = inside
                changes[b] = np.concatenate([changes[b], change])
    slopes = np.concatenate([np.einsum("pij,ij->p", c, s) for c, s in zip(changes, at.slopes, strict=True)])
    # a derivative of the deviance by a relative variance; smaller ones are rounding
    if not np.any(slopes < -1e-6):
        return None
    curvature = np.diag(information(criterion, at.system, at.scores, tuple(changes), at.sigma2))
    lengths = iter(np.clip(-slopes / np.maximum(curvature, 1e-300), 0.0, 1.0))
    moves = [np.tensordot([next(lengths) for _ in c], c, 1) if len(c) else np.zeros(c.shape[1:]) for c in changes]
    for shorter in 4.0 ** -np.arange(12):
        covariances = [f @ f.T + shorter * move for f, move in zip(factors, moves, strict=True)]
        trial = evaluate(criterion, criterion.layout.project(covariances))
        if trial.deviance < at.deviance - 1e-10 * abs(at.deviance):
            return trial
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
    directions = null @ inside[:, slopes < 0]
    return directions @ directions.T if directions.shape[1] else None
