"""Metrics of predictions as plain functions of arrays; none takes missing values."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ranef.errors import DataError
from ranef.evaluate.auc import areas_within, placements
from ranef.evaluate.checks import checked, checked_clip, checked_outcomes, checked_pair, checked_probabilities
from ranef.result.options import choice
from ranef.table import FloatArray

# a probability of 0 for what happened counts as this one
SMALLEST = float(np.finfo(np.float64).eps)


def rmse(y: Any, predicted: Any, clip: tuple[float, float] | None = None) -> float:
    """Root mean squared error.

    Parameters
    ----------
    y, predicted : array_like, shape (rows,)
        Predictions are not rounded.
    clip : (low, high), optional
        Predictions outside are moved to the nearer limit first, as libraries for ratings do.

    Raises
    ------
    DataError, OptionError

    Examples
    --------
    >>> rmse([1, 5], [2, 7]), rmse([1, 5], [2, 7], clip=(1, 5))
    (1.5811388300841898, 0.7071067811865476)
    """
    return float(np.sqrt(np.mean(_errors(y, predicted, clip) ** 2)))


def mae(y: Any, predicted: Any, clip: tuple[float, float] | None = None) -> float:
    """Mean absolute error; parameters as for `rmse`."""
    return float(np.mean(np.abs(_errors(y, predicted, clip))))


def log_loss(y: Any, probability: Any) -> float:
    """Mean of ``-log`` of the probability of what happened, in nats.

    Parameters
    ----------
    y : array_like, shape (rows,)
        0 and 1; with several categories their codes 0, 1, ...
    probability : array_like, shape (rows,) or (rows, categories)
        Of 1, or of every category. A probability of 0 for what happened counts as 2.2e-16, as in scikit-learn.

    Raises
    ------
    DataError
    """
    if np.ndim(probability) == 2:
        p = checked("the prediction", probability, 2)
        codes = checked("y", y)
        checked_probabilities(p.ravel())
        return float(np.mean(category_loss(codes, p)))
    outcome, p = checked_pair(y, probability)
    checked_outcomes(outcome)
    checked_probabilities(p)
    return float(np.mean(outcome_loss(outcome, p)))


def auc(y: Any, score: Any) -> float:
    """Area under the ROC curve: the share of pairs of a 1 and a 0 in which the 1 has the higher score, ties half.

    Parameters
    ----------
    y : array_like, shape (rows,)
        0 and 1.
    score : array_like, shape (rows,)

    Returns
    -------
    float
        NaN if there is one outcome only.

    Raises
    ------
    DataError
    """
    outcome, value = checked_pair(y, score)
    checked_outcomes(outcome)
    return placements(value, outcome, 1 - outcome).area


def group_auc(y: Any, score: Any, groups: Any, weight: Literal["rows", "equal"] = "rows") -> float:
    """Mean over groups, such as users, of the area within each: how well one user's rows are ordered.

    Parameters
    ----------
    y : array_like, shape (rows,)
        0 and 1.
    score : array_like, shape (rows,)
    groups : array_like, shape (rows,)
        Any labels.
    weight : {"rows", "equal"}
        Groups count by their rows (Zhou et al. 2018, KDD), or all alike.

    Returns
    -------
    float
        Groups with one outcome do not count; NaN if there is no other.

    Raises
    ------
    DataError, OptionError
    """
    outcome, value = checked_pair(y, score)
    checked_outcomes(outcome)
    word = choice("weight", weight, ("rows", "equal"))
    labels, codes = np.unique(np.asarray(groups), return_inverse=True)
    if codes.shape != outcome.shape:
        raise DataError(f"there are {len(outcome):,} rows and groups of shape {codes.shape}: give one for each row")
    areas = areas_within(value, outcome, 1 - outcome, codes, len(labels))
    size = np.bincount(codes, minlength=len(labels)) if word == "rows" else np.ones(len(labels))
    both = ~np.isnan(areas)
    return float(np.average(areas[both], weights=size[both])) if both.any() else float("nan")


def outcome_loss(y: FloatArray, p: FloatArray) -> FloatArray:
    """Log loss of each row, shape (rows,); ``y`` may be a share of successes."""
    q = np.clip(p, SMALLEST, 1 - SMALLEST)
    return np.asarray(-(y * np.log(q) + (1 - y) * np.log1p(-q)))


def category_loss(codes: FloatArray, p: FloatArray) -> FloatArray:
    """Log loss of each row, shape (rows,), for categories.

    Raises
    ------
    DataError
        A code is none of the categories.
    """
    places = codes.astype(np.int64)
    bad = (places != codes) | (places < 0) | (places >= p.shape[1])
    if bad.any() or len(codes) != len(p):
        raise DataError(f"y must hold a code from 0 to {p.shape[1] - 1} for each row of probabilities")
    return np.asarray(-np.log(np.clip(p[np.arange(len(p)), places], SMALLEST, 1)))


def _errors(y: Any, predicted: Any, clip: tuple[float, float] | None) -> FloatArray:
    limits = checked_clip(clip)
    truth, guess = checked_pair(y, predicted)
    return truth - (guess if limits is None else np.clip(guess, *limits))
