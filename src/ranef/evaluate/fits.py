"""Fits on rows that they have not seen, by the metrics of their family, beside simpler models."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.artifact.model import Model
from ranef.design.columns import Column
from ranef.design.response import response_columns, response_values
from ranef.errors import DataError, OptionError, RanefWarning, UnknownLevelWarning, counted
from ranef.evaluate.checks import checked_clip
from ranef.evaluate.evaluation import Evaluation, Sampling
from ranef.evaluate.held import Held
from ranef.evaluate.predictions import evaluation_of
from ranef.evaluate.rows import Judged, Rows, judge
from ranef.evaluate.units import units_of
from ranef.formula import Name, label, parse
from ranef.formula.write import response_text
from ranef.result.fit import Fit
from ranef.table import CodeArray, FloatArray, Source, read_table

BASELINES = ("fixed", "mean", "biases")
BY_ROWS = "rows"


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The response of the test rows, missing values included.

    Attributes
    ----------
    y, weights : float64 arrays, shape (rows,)
        See `ranef.evaluate.rows.Rows`.
    """

    y: FloatArray
    weights: FloatArray


def evaluate_fit(
    fits: Fit | Mapping[str, Fit],
    data: Any,
    *,
    by: str | None = None,
    clip: tuple[float, float] | None = None,
    train: Any = None,
    baselines: str | Sequence[str] = BASELINES,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a fit, or several of one response, on test rows.

    Parameters
    ----------
    fits : Fit or mapping of str to Fit
        All are judged on the rows that all of them predict; the others are compared with the first.
    data : any data that `ranef.fit` takes
        The test rows, with the response. A level that was not there in fitting counts as the average one.
    by : str, optional
        The column whose levels, such as users, the bootstrap draws with all their rows; ``"rows"`` draws rows.
        Default: the grouping factor of the first fit with most levels in the data.
    clip : (low, high), optional
        Of a Gaussian response: predictions outside are moved to the nearer limit, such as 1 and 5 for ratings.
    train : any data that `ranef.fit` takes, optional
        The training rows, for the baselines; a fit that was not loaded has its own.
    baselines : sequence of {"fixed", "mean", "biases"}
        Simpler models to evaluate beside: the first fit's fixed part without its random effects; the mean, or the
        shares, of the training rows; and ``y ~ 1 + (1 | a) + (1 | b)`` over all grouping factors, fitted to the
        training rows with the family of the first fit. Those that are the fit itself, or need training rows where there
        are none, are left out. ``()`` for none.
    replicates, level, seed
        Bootstrap samples, coverage of the intervals, seed of the samples.

    Returns
    -------
    Evaluation
        Gaussian: RMSE and MAE. Bernoulli, binomial: log loss and Brier score of a trial, area under the ROC curve, over
        all rows and within the units that are drawn, calibration error (`Evaluation.calibration` has the curve).
        Ordinal: log loss; RMSE and MAE of the expected category (its value if categories are numbers, else its
        place); accuracy of the most probable one. Counts, gamma: mean deviance, RMSE, MAE.

    Raises
    ------
    OptionError, DataError, LevelError

    Notes
    -----
    Rows without a response or prediction are left out, and counted. A row counts as often as the fit's weights say, if
    these are numbers of trials or how often a row counts and the column is in the data; inverse variances, the weights
    of a Gaussian fit, do not matter here.

    Examples
    --------
    >>> import ranef
    >>> train, test = ranef.evaluate.split_random(ranef.data.insteval(), seed=1)
    >>> fit = ranef.fit("y ~ service + (1 | s) + (1 | d)", train)
    >>> found = ranef.evaluate.evaluate_fit(fit, test, clip=(1, 5))
    >>> found.models
    ('model', 'fixed', 'mean', 'biases')
    >>> round(found.estimate("RMSE").value, 3), round(found.difference("RMSE", "mean", "model").value, 3)
    (1.202, 0.133)
    """
    sampling = Sampling(replicates, level, seed)
    models = dict(fits) if isinstance(fits, Mapping) else {"model": fits}
    first = _checked_fits(models)
    spec = first.model.spec
    limits = checked_clip(clip)
    if limits is not None and spec.kind != "number":
        raise OptionError(f"clip={clip!r} is for a Gaussian response, not for family={first.family!r}")
    held = Held(data)
    outcomes = _outcomes(first.model, held.source)
    training = _training(first, train)
    simpler, notes = _simpler(models, held, training, _names(baselines))
    predicted: dict[str, FloatArray] = {}
    for name, fit in models.items():
        predicted[name], said = _predict(fit, held)
        notes += [f"{name}: {text}" for text in said]
    predicted |= simpler
    column = _unit_column(first.model, held) if by is None else by
    codes = None if column == BY_ROWS else read_table(held.source, numbers=[], factors=[column]).factors[column].codes
    kept = _complete(outcomes, predicted, codes)
    dropped = len(kept) - int(np.count_nonzero(kept))
    if dropped == len(kept):
        raise DataError("no test row has a response and a prediction of every model", count=dropped)
    units = None if codes is None else np.unique(codes[kept], return_inverse=True)[1]
    rows = Rows(
        spec.kind,
        outcomes.y[kept],
        outcomes.weights[kept],
        units_of(units, int(np.count_nonzero(kept)), seed),
        _values(spec.response_levels),
        BY_ROWS if column == BY_ROWS else column,
    )
    judged: dict[str, Judged] = {}
    for name, values in predicted.items():
        mean = values[kept] if limits is None else np.clip(values[kept], *limits)
        judged[name] = judge(rows, mean, _deviance(models.get(name, first).model, rows, mean))
    notes = [_header(rows, dropped, limits), *notes]
    return evaluation_of(judged, rows, sampling, notes, held.library, dropped)


def _checked_fits(models: Mapping[str, Fit]) -> Fit:
    if not models:
        raise OptionError("there is no fit to evaluate")
    for name, fit in models.items():
        if not isinstance(fit, Fit):
            raise OptionError(f"model {name!r} is no fit but {type(fit).__name__}; see evaluate_predictions for arrays")
    first = next(iter(models.values()))
    for name, fit in models.items():
        if fit.family == "implicit":
            raise OptionError(f"model {name!r} is of implicit feedback, which rankings judge: see evaluate_ranking")
        one, other = first.model.spec.response, fit.model.spec.response
        if (one.kind, one.label, one.levels) != (other.kind, other.label, other.levels):
            raise OptionError(
                f"model {name!r} has the response {other.label} ({fit.family}) and the first {one.label} "
                f"({first.family}): only models of one response can be compared"
            )
    return first


def _names(baselines: str | Sequence[str]) -> tuple[str, ...]:
    names = (baselines,) if isinstance(baselines, str) else tuple(baselines)
    for name in names:
        if name not in BASELINES:
            raise OptionError(f"baselines: {name!r} is not known: use {', '.join(map(repr, BASELINES))}")
    return names


def _outcomes(model: Model, source: Source) -> Outcomes:
    spec = model.spec
    roles = response_columns(spec.response)
    weight = spec.weights if spec.kind != "number" and spec.weights in source.columns else None
    numbers = {*roles.numbers, *([] if weight is None else [weight])}
    table = read_table(source, numbers=sorted(numbers), factors=sorted(roles.factors))
    y, weights = response_values(spec.response, table)
    if weights is None:
        weights = np.ones(table.rows) if weight is None else table.numbers[weight]
    return Outcomes(y, weights)


def _complete(
    outcomes: Outcomes, predicted: Mapping[str, FloatArray], codes: CodeArray | None
) -> npt.NDArray[np.bool_]:
    kept = ~np.isnan(outcomes.y) & (outcomes.weights > 0)
    for values in predicted.values():
        kept &= ~np.isnan(values if values.ndim == 1 else values[:, 0])
    return np.asarray(kept if codes is None else kept & (codes >= 0))


def _predict(fit: Fit, held: Held, include: str | None = None) -> tuple[FloatArray, list[str]]:
    """Predictions, shape (rows,) or (rows, categories), and what there is to say of new levels."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", RanefWarning)
        found = fit.predict(replace(held.source, library="dict"), include=include)
    new = [str(one.message) for one in said if issubclass(one.category, UnknownLevelWarning)]
    return np.column_stack(list(found.values())) if isinstance(found, dict) else np.asarray(found), new


def _factors(model: Model, held: Held) -> list[str]:
    """The columns of the data that are grouping factors, or sides of latent terms, by themselves."""
    columns = [one.columns[0] for one in model.spec.groups if len(one.columns) == 1]
    for term in parse(model.spec.formula).latent:
        parts = [one.expression for side in term.sides for one in side]
        columns += [part[0].name for part in parts if len(part) == 1 and isinstance(part[0], Name)]
    return [name for name in dict.fromkeys(columns) if name in held.columns]


def _unit_column(model: Model, held: Held) -> str:
    """The factor with most levels in the data; rows without any."""
    names = _factors(model, held)
    found = read_table(held.source, numbers=[], factors=names).factors
    return max(names, key=lambda name: len(found[name].levels), default=BY_ROWS)


def _values(levels: tuple[str, ...]) -> FloatArray | None:
    """Categories as numbers, if they all are."""
    try:
        values = np.array([float(level) for level in levels])
    except ValueError:
        return None
    return values if len(values) and np.isfinite(values).all() else None


def _deviance(model: Model, rows: Rows, mean: FloatArray) -> FloatArray | None:
    if rows.kind not in ("count", "positive"):
        return None
    # the log link is the only one of these families
    return np.asarray(model.family.deviance_residuals(rows.y, np.log(mean), None, model.phi) ** 2)


def _header(rows: Rows, dropped: int, limits: tuple[float, float] | None) -> str:
    text = counted(len(rows.y), "test row")
    if rows.by != BY_ROWS:
        text += f", {counted(rows.units.count, 'level')} of {rows.by}"
    if dropped:
        text += f"; {counted(dropped, 'row')} without a response or prediction left out"
    if limits is not None:
        text += f"; predictions clipped to {limits[0]:g} to {limits[1]:g}"
    return text


# --- simpler models


def _training(fit: Fit, train: Any) -> Held | None:
    data = fit.data if train is None else train
    # what could be read once has been read in fitting
    if data is None or (train is None and isinstance(data, pa.RecordBatchReader)):
        return None
    return Held(data)


def _simpler(
    models: Mapping[str, Fit], test: Held, training: Held | None, names: Sequence[str]
) -> tuple[dict[str, FloatArray], list[str]]:
    first = next(iter(models.values()))
    found: dict[str, FloatArray] = {}
    notes: list[str] = []
    for name in names:
        if name in models:
            continue
        if name == "fixed" and _has_fixed_part(first.model, "mean" in names and training is not None):
            found[name] = _predict(first, test, "fixed")[0]
        elif name == "mean" and training is not None:
            found[name] = _mean(first.model, training, test.rows)
        elif name == "biases" and training is not None:
            fitted = _biases(first, training)
            if fitted is not None:
                found[name] = _predict(fitted, test)[0]
    if training is None and any(name != "fixed" for name in names):
        notes.append("no training rows at hand: give them for the baselines mean and biases (train=)")
    return found, notes


def _has_fixed_part(model: Model, beside_mean: bool) -> bool:
    """Whether the fixed part alone is another model; beside the mean an intercept alone has nothing to add."""
    return not beside_mean or len(model.fixed_columns) > (model.spec.kind != "ordered")


def _mean(model: Model, training: Held, rows: int) -> FloatArray:
    outcomes = _outcomes(model, training.source)
    known = ~np.isnan(outcomes.y) & (outcomes.weights > 0)
    y, weights = outcomes.y[known], outcomes.weights[known]
    if model.spec.kind == "ordered":
        shares = np.bincount(y.astype(np.int64), weights, len(model.spec.response_levels))
        return np.tile(shares / shares.sum(), (rows, 1))
    return np.full(rows, np.average(y, weights=weights))


def _biases(first: Fit, training: Held) -> Fit | None:
    """An intercept for every level of every factor; None if that is the fit itself, or there is no factor."""
    from ranef.result.front import fit

    spec = first.model.spec
    formula = parse(spec.formula)
    factors = _factors(first.model, training)
    same = not formula.latent and all(one.intercept_only and len(one.columns) == 1 for one in spec.groups)
    plain = len(spec.fixed.names) <= (spec.kind != "ordered")
    weights_known = spec.weights is None or spec.weights in training.columns
    if not factors or (same and plain) or not weights_known or formula.response is None:
        return None
    terms = ["1", *(f"(1 | {label(Name(name))})" for name in factors)]
    terms += [f"offset({label(one)})" for one in formula.offsets]
    extra = spec.offsets[-1] if len(spec.offsets) > len(formula.offsets) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RanefWarning)
        return fit(
            f"{response_text(formula.response)} ~ {' + '.join(terms)}",
            training.source,
            family=first.model.family,
            weights=spec.weights,
            offset=extra.name if isinstance(extra, Column) else None,
            progress=False,
        )
