"""A Gaussian criterion at a residual variance of its own: not profiled, so that this one or covariances can be given.

    deviance(theta, s) = log|C_b| (+ log|C| - log|C_b|) + degrees log(2 pi s) + residual / s

over ``(theta, log s)``; everything follows from the profiled criterion's evaluation at ``theta``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ranef.learn.criterion import Criterion, Evaluation, chain_rule, curvature
from ranef.learn.held import Objective
from ranef.learn.newton import Point

FloatArray = npt.NDArray[np.float64]

At = TypeVar("At", bound=Point)


@dataclass(frozen=True, eq=False)
class Unprofiled(Generic[At]):
    """A criterion, or estimating equations, over ``(theta, log sigma^2)``."""

    profiled: Objective[At]
    criterion: Criterion

    @property
    def size(self) -> float:
        return self.criterion.size

    def evaluate(self, parameters: FloatArray, near: At | None = None, tolerance: float | None = None) -> At:
        at = self.profiled.evaluate(parameters[:-1], near, tolerance)
        return at_variance(self.criterion, at, parameters)

    def canonical(self, parameters: FloatArray) -> FloatArray:
        return np.append(self.profiled.canonical(parameters[:-1]), parameters[-1])

    def snapped(self, parameters: FloatArray) -> FloatArray | None:
        theta = self.profiled.snapped(parameters[:-1])
        return None if theta is None else np.append(theta, parameters[-1])

    def inside(self, at: At, least: float) -> Iterator[FloatArray]:
        for theta in self.profiled.inside(at, least):
            yield np.append(theta, at.theta[-1])


def at_variance(criterion: Criterion, at: At, parameters: FloatArray) -> At:
    """A profiled point at ``exp(parameters[-1])`` for the residual variance, all its fields over ``parameters``."""
    layout, nu = criterion.layout, criterion.degrees
    sigma2 = float(np.exp(parameters[-1]))
    ratio = at.sigma2 / sigma2
    squares = [g.T @ g for g in at.scores]
    slopes = tuple(
        slope + (1 / at.sigma2 - 1 / sigma2) * square for slope, square in zip(at.slopes, squares, strict=True)
    )
    # y'P V_i P y / sigma^2
    first = chain_rule(layout, at.factors, squares) / sigma2
    information = np.empty((len(parameters), len(parameters)))
    information[:-1, :-1] = ratio * at.information + np.outer(first, first) / (nu * ratio)
    information[-1, :-1] = information[:-1, -1] = first
    information[-1, -1] = nu * ratio
    metric = information.copy()
    metric[:-1, :-1] += curvature(layout, slopes)
    changes: dict[str, Any] = {
        "theta": parameters,
        "gradient": np.append(chain_rule(layout, at.factors, slopes), nu * (1 - ratio)),
        "metric": metric,
        "information": information,
        "slopes": slopes,
        "sigma2": sigma2,
    }
    covariance = getattr(at, "gradient_covariance", None)
    if covariance is not None:
        # the score of the residual variance has no Monte-Carlo error of its own
        changes["gradient_covariance"] = np.pad(covariance, (0, 1))
    if isinstance(at, Evaluation):
        changes["deviance"] = float(at.deviance + nu * (ratio - 1 - np.log(ratio)))
    return cast(At, replace(cast(Any, at), **changes))
