"""Small data sets of every shape that the stochastic solver fits, with their truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

BETA = {"(Intercept)": 1.0, "x": 0.3}
# unit variance for a residual of weight one
SIGMA = 1.0
UNEVEN = 0.5


@dataclass(frozen=True, eq=False)
class Made:
    """One data set.

    Attributes
    ----------
    formula : str
    table : mapping of str to array, shape (rows,)
    weights : str or None
        The column of prior weights.
    truth : mapping of str to float
        True parameters by the names that `Fit.confint` gives them.
    """

    formula: str
    table: Mapping[str, npt.NDArray[Any]]
    weights: str | None
    truth: Mapping[str, float]


def crossed(rng: np.random.Generator) -> Made:
    """Two crossed factors."""
    codes = {"user": _uneven(rng, 250, 3000), "item": _uneven(rng, 120, 3000)}
    return _respond(rng, codes, {"user": _covariance(0.6), "item": _covariance(0.5)})


def weighted(rng: np.random.Generator) -> Made:
    """Two crossed factors; the residual variance differs between rows."""
    codes = {"user": _uneven(rng, 250, 3000), "item": _uneven(rng, 120, 3000)}
    covariances = {"user": _covariance(0.6), "item": _covariance(0.5)}
    return _respond(rng, codes, covariances, weights=rng.gamma(2.0, 0.5, 3000))


def partly_crossed(rng: np.random.Generator) -> Made:
    """Students meet the lecturers of their own school, and in one row of ten those of any school."""
    rows, students, schools, lecturers = 4000, 400, 15, 150
    student = _uneven(rng, students, rows)
    school = rng.integers(0, schools, students)[student]
    school = np.where(rng.random(rows) < 0.1, rng.integers(0, schools, rows), school)
    each = lecturers // schools
    codes = {"student": student, "lecturer": school * each + rng.integers(0, each, rows)}
    return _respond(rng, codes, {"student": _covariance(0.6), "lecturer": _covariance(0.5)})


def nested_and_crossed(rng: np.random.Generator) -> Made:
    """Pupils nested in classes, and crossed with items."""
    rows, pupils, classes = 5000, 600, 120
    pupil = _uneven(rng, pupils, rows)
    codes = {"pupil": pupil, "class": pupil % classes, "item": _uneven(rng, 120, rows)}
    return _respond(rng, codes, {"pupil": _covariance(0.6), "class": _covariance(0.5), "item": _covariance(0.5)})


def slopes(rng: np.random.Generator) -> Made:
    """Intercept and slope of both crossed factors, full covariances."""
    codes = {"user": _uneven(rng, 250, 6000), "item": _uneven(rng, 150, 6000)}
    return _respond(rng, codes, {"user": _covariance(0.6, 0.4, 0.4), "item": _covariance(0.5, 0.4, -0.3)})


DESIGNS: Mapping[str, Callable[[np.random.Generator], Made]] = {
    "crossed": crossed,
    "partly crossed": partly_crossed,
    "nested and crossed": nested_and_crossed,
    "slopes": slopes,
    "weighted": weighted,
}


def _covariance(sd: float, slope: float | None = None, correlation: float = 0.0) -> FloatArray:
    scale = np.array([sd] if slope is None else [sd, slope])
    matrix = np.full((len(scale), len(scale)), correlation)
    np.fill_diagonal(matrix, 1.0)
    return np.asarray(matrix * np.outer(scale, scale))


def _uneven(rng: np.random.Generator, levels: int, rows: int) -> Codes:
    weight = np.exp(UNEVEN * rng.standard_normal(levels))
    return rng.choice(levels, rows, p=weight / weight.sum())


def _respond(
    rng: np.random.Generator,
    codes: Mapping[str, Codes],
    covariances: Mapping[str, FloatArray],
    weights: FloatArray | None = None,
) -> Made:
    rows = len(next(iter(codes.values())))
    x = rng.standard_normal(rows)
    basis = np.column_stack([np.ones(rows), x])
    y = basis @ list(BETA.values())
    truth, terms = {**BETA, "sigma": SIGMA}, []
    for group, code in codes.items():
        covariance = covariances[group]
        size = len(covariance)
        effects = rng.standard_normal((code.max() + 1, size)) @ np.linalg.cholesky(covariance).T
        y += np.sum(basis[:, :size] * effects[code], axis=1)
        sd = np.sqrt(np.diag(covariance))
        truth |= {f"sd_{name}|{group}": float(value) for name, value in zip(BETA, sd, strict=False)}
        if size == 2:
            truth[f"cor_x.(Intercept)|{group}"] = float(covariance[0, 1] / sd.prod())
        terms.append(f"({'1' if size == 1 else '1 + x'} | {group})")
    noise = SIGMA * rng.standard_normal(rows)
    table = {"y": y + (noise if weights is None else noise / np.sqrt(weights)), "x": x, **codes}
    formula = " + ".join(["y ~ 1 + x", *terms])
    if weights is None:
        return Made(formula, table, None, truth)
    return Made(formula, {**table, "w": weights}, "w", truth)
