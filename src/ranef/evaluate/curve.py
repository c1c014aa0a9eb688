"""Whether events happen as often as predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ranef.evaluate.checks import checked_pair, checked_probabilities
from ranef.result.options import check_whole, choice
from ranef.result.text import align, format_numbers
from ranef.table import FloatArray, preferred_library, to_library

Bins = Literal["quantile", "uniform"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Predicted and observed shares by bin of the predicted probability.

    Attributes
    ----------
    lower, upper : float64 arrays, shape (bins,)
        Smallest and largest probability of the bin's rows.
    rows : float64 array, shape (bins,)
        Rows, or their weights.
    predicted, observed : float64 arrays, shape (bins,)
        Mean probability, share of events.
    se : float64 array, shape (bins,)
        Standard error of ``observed`` if the probabilities are right.
    """

    lower: FloatArray
    upper: FloatArray
    rows: FloatArray
    predicted: FloatArray
    observed: FloatArray
    se: FloatArray

    @property
    def expected_error(self) -> float:
        """Mean distance of observed from predicted, bins weighted by their rows (ECE; Naeini et al. 2015, AAAI)."""
        return float(self.rows @ np.abs(self.observed - self.predicted) / self.rows.sum())

    @property
    def maximum_error(self) -> float:
        """The largest distance of any bin."""
        return float(np.abs(self.observed - self.predicted).max())

    @property
    def chance(self) -> float:
        """About what `expected_error` is if the probabilities are right: finitely many rows never give 0."""
        return float(self.rows @ (np.sqrt(2 / np.pi) * self.se) / self.rows.sum())

    def columns(self) -> dict[str, FloatArray]:
        """The bins as columns."""
        names = ("lower", "upper", "rows", "predicted", "observed", "se")
        return {name: getattr(self, name) for name in names}

    def table(self, library: str | None = None) -> Any:
        """The bins as a table: lower, upper, rows, predicted, observed, se."""
        return to_library(self.columns(), library or preferred_library())

    def __str__(self) -> str:
        columns = [format_numbers(values) for values in self.columns().values()]
        head = f"expected error {self.expected_error:.4f} (about {self.chance:.4f} by chance)"
        return "\n".join([head, "", *align(list(self.columns()), columns, left=0)])


def calibration(y: Any, probability: Any, bins: int = 10, kind: Bins = "quantile", weights: Any = None) -> Calibration:
    """Compare predicted probabilities with what happened.

    Parameters
    ----------
    y : array_like, shape (rows,)
        0 and 1, or shares of successes.
    probability : array_like, shape (rows,)
    bins : int
    kind : {"quantile", "uniform"}
        Bins of about equally many rows (equal probabilities are never parted, so that there may be fewer bins), or of
        equal width between 0 and 1 (empty ones are left out).
    weights : array_like, shape (rows,), optional
        How often a row counts; numbers of trials.

    Returns
    -------
    Calibration

    Raises
    ------
    OptionError, DataError

    Examples
    --------
    >>> import ranef
    >>> found = ranef.evaluate.calibration([0, 0, 1, 1, 1, 0], [0.1, 0.1, 0.1, 0.8, 0.8, 0.8], bins=2)
    >>> found.observed.round(2).tolist(), round(found.expected_error, 2)
    ([0.33, 0.67], 0.18)
    """
    check_whole("bins", bins, 1)
    word = choice("kind", kind, ("quantile", "uniform"))
    outcome, p = checked_pair(y, probability)
    checked_probabilities(p)
    weight = np.ones(len(p)) if weights is None else checked_pair(weights, p)[0]
    place = bin_of(p, bins, word, weight)
    return from_bins(place, outcome, p, weight)


def bin_of(p: FloatArray, bins: int, kind: str, weight: FloatArray) -> npt.NDArray[np.int64]:
    """The bin of each probability, shape (rows,), from 0; some may not occur."""
    if kind == "uniform":
        return np.asarray(np.minimum(np.floor(p * bins), bins - 1)).astype(np.int64)
    distinct, place = np.unique(p, return_inverse=True)
    each = np.bincount(place, weight, len(distinct))
    middle = (np.cumsum(each) - each / 2) / each.sum()
    return np.asarray(np.minimum(np.floor(middle * bins), bins - 1)[place]).astype(np.int64)


def from_bins(place: npt.NDArray[np.int64], y: FloatArray, p: FloatArray, weight: FloatArray) -> Calibration:
    """Sums by bin."""
    _, codes = np.unique(place, return_inverse=True)
    place_ = codes.astype(np.int64)
    count = int(place_.max(initial=-1)) + 1
    lower, upper = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(lower, place_, p)
    np.maximum.at(upper, place_, p)
    rows = np.bincount(place_, weight, count).astype(np.float64)
    variance = np.bincount(place_, weight * p * (1 - p), count)
    with np.errstate(invalid="ignore"):
        return Calibration(
            lower,
            upper,
            rows,
            np.bincount(place_, weight * p, count) / rows,
            np.bincount(place_, weight * y, count) / rows,
            np.sqrt(variance) / rows,
        )
