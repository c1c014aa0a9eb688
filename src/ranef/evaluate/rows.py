"""Metrics of predictions row by row as statistics of units: what each kind of response is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import xlogy

from ranef.evaluate.auc import areas_within, placements
from ranef.evaluate.curve import Calibration, bin_of, from_bins
from ranef.evaluate.metrics import category_loss, outcome_loss
from ranef.evaluate.statistics import Statistic, ratio, root_ratio
from ranef.evaluate.units import Units
from ranef.table import FloatArray

Kind = Literal["number", "binary", "proportion", "count", "positive", "ordered", "rating"]

BINS = 10


@dataclass(frozen=True, eq=False)
class Rows:
    """What happened in each row.

    Attributes
    ----------
    kind : str
    y : float64 array, shape (rows,)
        Numbers; 0 and 1; shares of successes; counts; codes of categories.
    weights : float64 array, shape (rows,)
        How often a row counts; trials of a share.
    units : Units
    values : float64 array, shape (categories,), or None
        What the categories of an ordered response count as.
    by : str
        What the units are; ``"rows"`` if they are the rows themselves.
    """

    kind: Kind
    y: FloatArray
    weights: FloatArray
    units: Units
    values: FloatArray | None = None
    by: str = "rows"


@dataclass(frozen=True, eq=False)
class Judged:
    """The metrics of one model.

    Attributes
    ----------
    statistics : mapping of str to Statistic
    fixed : mapping of str to float
        Metrics without an error.
    calibration : Calibration or None
    """

    statistics: Mapping[str, Statistic]
    fixed: Mapping[str, float]
    calibration: Calibration | None = None


def judge(rows: Rows, predicted: FloatArray, deviance: FloatArray | None = None) -> Judged:
    """Metrics of one model's predictions.

    Parameters
    ----------
    rows : Rows
    predicted : float64 array, shape (rows,) or (rows, categories)
        Means or probabilities of success; of an ordered response the probability of each category.
    deviance : float64 array, shape (rows,), optional
        Of a count or a positive number; default: that of the Poisson and of the gamma distribution.
    """
    match rows.kind:
        case "binary" | "proportion":
            return _binary(rows, predicted)
        case "ordered":
            return _ordered(rows, predicted)
        case "number" | "rating":
            return Judged(_errors(rows, rows.y - predicted), {})
        case _:
            loss = _deviance(rows, predicted) if deviance is None else deviance
            return Judged({"deviance": _mean(rows, loss), **_errors(rows, rows.y - predicted)}, {})


def _mean(rows: Rows, values: FloatArray, higher: bool = False) -> Statistic:
    return Statistic(rows.units.sums(rows.weights * values, rows.weights), ratio, higher)


def _errors(rows: Rows, errors: FloatArray) -> dict[str, Statistic]:
    squares = rows.units.sums(rows.weights * errors**2, rows.weights)
    return {"RMSE": Statistic(squares, root_ratio, higher=False), "MAE": _mean(rows, np.abs(errors))}


def _binary(rows: Rows, p: FloatArray) -> Judged:
    y, weights, units = rows.y, rows.weights, rows.units
    found = {
        "log loss": _mean(rows, outcome_loss(y, p)),
        "Brier score": _mean(rows, y * (1 - p) ** 2 + (1 - y) * p**2),
        "AUC": _area(rows, p),
    }
    if rows.by != "rows":
        areas = areas_within(p, weights * y, weights * (1 - y), units.codes, units.count)
        size = np.where(np.isnan(areas), 0.0, np.bincount(units.codes, weights, units.count))
        sums = units.sums_of_units(size * np.nan_to_num(areas), size)
        found[f"AUC within {rows.by}"] = Statistic(sums, ratio, higher=True)
    curve = from_bins(bin_of(p, BINS, "quantile", weights), y, p, weights)
    return Judged(found, {"calibration error": curve.expected_error}, curve)


def _area(rows: Rows, p: FloatArray) -> Statistic:
    """The area under the ROC curve, with its first-order change when units are drawn again (Obuchowski 1997)."""
    up, down = rows.weights * rows.y, rows.weights * (1 - rows.y)
    found = placements(p, up, down)
    sums = rows.units.sums(up * found.positive, up, down * found.negative, down)

    def value(totals: FloatArray) -> FloatArray:
        return np.asarray(totals[..., 0] / totals[..., 1] + totals[..., 2] / totals[..., 3] - found.area)

    return Statistic(sums, value, higher=True)


def _ordered(rows: Rows, p: FloatArray) -> Judged:
    values = np.arange(1.0, p.shape[1] + 1) if rows.values is None else rows.values
    codes = rows.y.astype(np.int64)
    hit = (np.argmax(p, axis=1) == codes).astype(np.float64)
    return Judged(
        {
            "log loss": _mean(rows, category_loss(rows.y, p)),
            **_errors(rows, values[codes] - p @ values),
            "accuracy": _mean(rows, hit, higher=True),
        },
        {},
    )


def _deviance(rows: Rows, mean: FloatArray) -> FloatArray:
    y = rows.y
    if rows.kind == "positive":
        return np.asarray(2 * ((y - mean) / mean - np.log(y / mean)))
    return np.asarray(2 * (xlogy(y, y) - xlogy(y, mean) - (y - mean)))
