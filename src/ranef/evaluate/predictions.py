"""Predictions of any model, given as arrays, on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ranef.errors import DataError, OptionError, counted
from ranef.evaluate.checks import checked, checked_clip, checked_outcomes, checked_pair, checked_probabilities
from ranef.evaluate.evaluation import Evaluation, Sampling, Subject
from ranef.evaluate.rows import Judged, Kind, Rows, judge
from ranef.evaluate.statistics import Statistic
from ranef.evaluate.units import units_of
from ranef.result.options import choice
from ranef.table import FloatArray, preferred_library


def evaluate_predictions(
    predictions: Any,
    y: Any,
    *,
    by: Any = None,
    kind: Literal["number", "binary", "count", "positive", "ordered"] = "number",
    clip: tuple[float, float] | None = None,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    library: str | None = None,
) -> Evaluation:
    """Evaluate predictions of the same rows, with errors, and compare them pair by pair.

    Parameters
    ----------
    predictions : array_like, or mapping of str to array_like
        One array a model, shape (rows,): means, or probabilities of 1. Of an ordered response probabilities of all
        categories, shape (rows, categories).
    y : array_like, shape (rows,)
        Numbers; 0 and 1; counts; positive numbers; codes of categories 0, 1, ...
    by : array_like, shape (rows,), optional
        The user of each row, any labels: users are drawn with all their rows. Default: rows are drawn.
    kind : {"number", "binary", "count", "positive", "ordered"}
        RMSE and MAE; log loss, Brier score, AUC and calibration; mean Poisson or gamma deviance, RMSE and MAE; log
        loss, accuracy, and RMSE and MAE of the expected category (its number, from 1).
    clip : (low, high), optional
        Of numbers: predictions outside are moved to the nearer limit.
    replicates, level, seed
        Bootstrap samples, coverage of the intervals, seed of the samples.
    library : {"pandas", "polars", "pyarrow", "dict"}, optional
        Of the tables; default: pandas if it is installed, else polars, else Arrow.

    Returns
    -------
    Evaluation

    Raises
    ------
    DataError, OptionError

    Examples
    --------
    >>> import ranef
    >>> found = ranef.evaluate.evaluate_predictions({"a": [1, 2, 4], "b": [2, 2, 2]}, [1, 2, 3], replicates=0)
    >>> round(found.estimate("RMSE", "a").value, 4), round(found.difference("RMSE", "b", "a").value, 4)
    (0.5774, 0.2391)
    """
    sampling = Sampling(replicates, level, seed)
    word = choice("kind", kind, ("number", "binary", "count", "positive", "ordered"))
    limits = checked_clip(clip)
    if limits is not None and word != "number":
        raise OptionError(f"clip={clip!r} is for kind='number', not {word!r}")
    truth = checked("y", y)
    models = dict(predictions) if isinstance(predictions, Mapping) else {"model": predictions}
    if not models:
        raise OptionError("there are no predictions to evaluate")
    codes = None
    if by is not None:
        labels = np.asarray(by)
        if labels.shape != truth.shape:
            raise DataError(f"there are {counted(len(truth), 'row')} and `by` has shape {labels.shape}")
        codes = np.unique(labels, return_inverse=True)[1]
    units, name = units_of(codes, len(truth), seed), "rows" if codes is None else "groups"
    rows = Rows(_kind(word), truth, np.ones(len(truth)), units, by=name)
    judged = {}
    for model, values in models.items():
        array = _checked(word, truth, values)
        judged[model] = judge(rows, array if limits is None else np.clip(array, *limits))
    notes = [counted(len(truth), "row") + ("" if codes is None else f" in {counted(units.count, 'group')}")]
    if limits is not None:
        notes[0] += f"; predictions clipped to {limits[0]:g} to {limits[1]:g}"
    return evaluation_of(judged, rows, sampling, notes, library or preferred_library())


def evaluation_of(
    judged: Mapping[str, Judged], rows: Rows, sampling: Sampling, notes: Sequence[str], library: str, dropped: int = 0
) -> Evaluation:
    """The models' metrics side by side."""
    statistics: dict[tuple[str, str], Statistic] = {}
    fixed: dict[tuple[str, str], float] = {}
    for model, one in judged.items():
        statistics |= {(model, metric): value for metric, value in one.statistics.items()}
        fixed |= {(model, metric): value for metric, value in one.fixed.items()}
    metrics = list(dict.fromkeys(metric for _, metric in [*statistics, *fixed]))
    curves = {model: one.calibration for model, one in judged.items() if one.calibration is not None}
    subject = Subject(rows.by, len(rows.y), rows.units.count, dropped, tuple(notes), library)
    return Evaluation(statistics, fixed, metrics, subject, sampling, curves)


def _kind(word: str) -> Kind:
    kinds: dict[str, Kind] = {
        "number": "number",
        "binary": "binary",
        "count": "count",
        "positive": "positive",
        "ordered": "ordered",
    }
    return kinds[word]


def _checked(kind: str, y: FloatArray, predicted: Any) -> FloatArray:
    if kind == "ordered":
        p = checked("the prediction", predicted, 2)
        checked_probabilities(p.ravel())
        return p
    array = checked_pair(y, predicted)[1]
    if kind == "binary":
        checked_outcomes(y)
        checked_probabilities(array)
    elif kind in ("count", "positive"):
        least = y > 0 if kind == "positive" else y >= 0
        if not (least.all() and (array > 0).all()):
            raise DataError(f"kind={kind!r}: predicted means must be above 0, and y too (counts at least 0)")
    return array
