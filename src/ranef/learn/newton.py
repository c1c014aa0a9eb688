"""One step of the search: Newton's with average information for the Hessian, damped, with what it learned so far."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ranef.solve.elimination import Coefficients

FloatArray = npt.NDArray[np.float64]


class Point(Protocol):
    """What a step needs to know of a point; exact and stochastic evaluations both have it."""

    @property
    def theta(self) -> FloatArray: ...
    @property
    def gradient(self) -> FloatArray: ...
    @property
    def metric(self) -> FloatArray: ...
    @property
    def information(self) -> FloatArray: ...
    @property
    def slopes(self) -> tuple[FloatArray, ...]: ...
    @property
    def scores(self) -> tuple[FloatArray, ...]: ...
    @property
    def factors(self) -> tuple[FloatArray, ...]: ...
    @property
    def sigma2(self) -> float: ...
    @property
    def solution(self) -> Coefficients: ...
    def solve(self, right: Coefficients, fixed: bool = True) -> Coefficients:
        """``Q r`` in raw coordinates."""
        ...


def newton_step(at: Point, correction: FloatArray, damping: float) -> tuple[float, FloatArray]:
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


def corrected(before: Point, after: Point, correction: FloatArray, decrement: float) -> FloatArray:
    """What average information lacks of the Hessian, learned from the last step (symmetric rank-one update).

    Average and observed information differ by the data's departure from the model; without the correction the search
    converges linearly, with it superlinearly. Far from the optimum the metric changes too much for it.
    """
    # nor is there anything to learn of a parameter without information
    if decrement > 1.0 or np.min(np.diag(after.metric), initial=np.inf) < 1e-100:
        return np.zeros_like(correction)
    step = after.theta - before.theta
    lacking = after.gradient - before.gradient - (after.metric + correction) @ step
    along = float(lacking @ step)
    if abs(along) <= 1e-8 * np.linalg.norm(lacking) * np.linalg.norm(step):
        return correction
    updated = correction + np.outer(lacking, lacking) / along
    # an indefinite model has no minimum to step to
    return updated if is_positive(after.metric + updated, after.metric) else np.zeros_like(correction)


def is_positive(hessian: FloatArray, metric: FloatArray) -> bool:
    """Whether the Hessian is well away from indefinite, in the scale of the metric."""
    scale = np.sqrt(np.maximum(np.diag(metric), 1e-300))
    return bool(np.linalg.eigvalsh(hessian / np.outer(scale, scale))[0] > 1e-3)
