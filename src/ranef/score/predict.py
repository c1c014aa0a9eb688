"""Predictions for new rows, with intervals: the linear predictor, then what is asked of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import FloatArray, Model, Posterior
from ranef.errors import LevelError, OptionError, counted
from ranef.score.latent import latent_part, latent_units
from ranef.score.ratings import check_ratings, clipped, nearest_rating
from ranef.score.rows import Batch, GroupBatch, Rows, Unknown, batches, read_rows, with_units_met
from ranef.score.sampled import kept_sample, linear_predictors, predicted, sampled_rows
from ranef.score.scale import Interval, Kind, Scaled, check_kind, normal_quantile, on_scale
from ranef.score.select import Selection, select
from ranef.score.units import with_units
from ranef.score.variance import apart_variance, coefficient_variance, prior_variance
from ranef.table import Source

NewLevels: TypeAlias = Literal["population", "raise"]

MOST_ROWS = 1 << 16
# units of bags and walks whose joint covariance is formed at once
MOST_UNITS = 1_024
NUMBERS_A_BATCH = 1 << 22


@dataclass(frozen=True, eq=False)
class Prediction:
    """One value a row, or one for each category of the response, in the order of the rows.

    Attributes
    ----------
    fit : float64 array, shape (rows,) or (rows, categories)
        On the scale that was asked for; codes of categories for ``"class"``. NaN where a covariate or the value of a
        grouping factor is missing.
    lower, upper : float64 array of the same shape, or None
        The interval that was asked for.
    missing : int
        Rows that are NaN.
    unknown : mapping of str to Unknown
        For each grouping factor with levels that the fit did not have: rows, first row, its level.
    """

    fit: FloatArray
    lower: FloatArray | None
    upper: FloatArray | None
    missing: int
    unknown: Mapping[str, Unknown]


def predict(
    model: Model,
    source: Source,
    *,
    kind: Kind = "response",
    new_levels: NewLevels = "population",
    interval: Interval | None = None,
    level: float = 0.95,
    include: str | Collection[str] | None = None,
    exclude: str | Collection[str] | None = None,
    tables: Mapping[str, Any] | None = None,
) -> Prediction:
    """Predict the response of new rows from offset, fixed effects and conditional modes.

    Parameters
    ----------
    model : Model
    source : Source
        The response need not be there; only the columns that take part are read.
    kind : {"response", "link", "class", "probabilities", "rating"}
        The mean of the response at the conditional modes (the inverse link of the linear predictor, as lme4's
        ``predict``); the linear predictor; the code of the most probable category; the probability of each category.
        The response of an ordinal model is its probabilities. Of ratings, the one nearest to the mean.
    new_levels : {"population", "raise"}
        What a level that the fit did not have gets: the population's value (its effects are zero), or an error.
    interval : {"confidence", "prediction"}, optional
        ``"confidence"``: for the row's expected response given its levels, with the uncertainty of fixed effects and
        modes at the estimated covariances; the effects of a new level count as zero. ``"prediction"``: for a new
        response, which adds the response's own variation, and for new levels the variance between levels. A Gaussian
        response has the variance ``sigma^2 / weight``, with the weight in the column that the fit's weights came from;
        1 if the fit had none, or the data lack the column. A row of weight 0 has infinite limits, one without a weight
        none. The limits of counts, proportions and positive numbers are quantiles of the predictive distribution; a
        proportion has its trials where the fit's came from.
    level : float
        Probability that the interval holds, between 0 and 1.
    include, exclude : str or collection of str, optional
        The parts to sum, or to leave out; see `ranef.score.select.select`. Parts that are left out are no source of
        uncertainty either.
    tables : mapping of str to table, optional
        Attributes of levels that the model does not have, or other ones, by key.

    Returns
    -------
    Prediction

    Raises
    ------
    OptionError
        An option is wrong, or a column is not in the data.
    LevelError
        A fixed effect has a level that was not there in fitting; a grouping factor, with ``new_levels="raise"``.
    DataError
        A column has another type than in the fit, or values that the formula cannot take.

    Notes
    -----
    Variances are those of Henderson's mixed-model equations, the covariance parameters taken as known (but not the
    thresholds of an ordinal model); intervals are normal on the scale of the linear predictor. See
    `ranef.score.scale` for the others. Predictions of a Bayesian fit are means over its draws, of the response and not
    of the linear predictor, and intervals are quantiles; see `ranef.score.sampled`.
    """
    _check_options(model, new_levels, interval, level)
    if kind == "rating":
        check_ratings(model, interval)
    check_kind(model, kind, interval)
    selection = select(model.spec, include, exclude)
    rows = read_rows(model, source, selection, weights=interval == "prediction", tables=tables)
    if new_levels == "raise":
        _refuse(rows.unknown)
    if model.sample is not None:
        return _predict_sampled(model, rows, selection, kind, interval, level)
    gaussian, ordered = model.spec.kind == "number", model.spec.kind == "ordered"
    fit = np.empty(rows.table.rows)
    sd = np.empty(rows.table.rows if interval else 0)
    shared = np.empty((len(sd), len(model.phi) if ordered else 0))
    few = sum(len(one.new) for one in rows.units.values()) <= MOST_UNITS
    size = _batch_rows(model) if few or not interval else min(_batch_rows(model), MOST_UNITS)
    joint = model.posterior
    vectors = latent_units(model, rows.latent)
    if interval and few and isinstance(joint, Posterior):
        joint = with_units(joint, model.groups, rows.units)
    for batch in batches(model, rows, selection, size, _order(model, rows) if interval else None):
        here = batch.rows
        fit[here] = _expected(model, batch)
        latent_variance: FloatArray | float = 0.0
        if rows.latent:
            new = interval == "prediction"
            products, found_variance = latent_part(
                model, rows.latent, here, interval=bool(interval), prior=new, units=vectors
            )
            fit[here] += products
            latent_variance = latent_variance if found_variance is None else found_variance
        if interval and joint is not None:
            held, variance = apart_variance(model.groups, batch)
            if few or not isinstance(joint, Posterior):
                variance += coefficient_variance(joint, held)
            else:
                met = with_units_met(held)
                own = {group.group: group.units for group in met.groups if group.units is not None}
                variance += coefficient_variance(with_units(joint, model.groups, own), met)
            variance = variance + latent_variance
            if ordered:
                from ranef.score.thresholds import threshold_part

                added, shared[here] = threshold_part(model, batch)
                variance = (variance + added).clip(0)
            if interval == "prediction":
                variance += prior_variance(model.groups, batch)
                if gaussian:
                    with np.errstate(divide="ignore"):
                        variance += model.info.sigma**2 / (1.0 if rows.weights is None else rows.weights[here])
            sd[here] = np.sqrt(variance)
    if gaussian or kind == "link":
        half = normal_quantile((1 + level) / 2) * sd if interval else sd
        found = Scaled(fit, fit - half, fit + half) if interval else Scaled(fit, None, None)
    else:
        wanted: Kind = "response" if kind == "rating" else kind
        found = on_scale(model, wanted, fit, sd if interval else None, interval, level, rows.weights, shared)
    found = _as_ratings(model, kind, found)
    return Prediction(found.fit, found.lower, found.upper, int(np.count_nonzero(np.isnan(fit))), rows.unknown)


def _predict_sampled(
    model: Model, rows: Rows, selection: Selection, kind: Kind, interval: Interval | None, level: float
) -> Prediction:
    count = len(kept_sample(model).kept)
    wanted: Kind = "response" if kind == "rating" else kind
    nothing = predicted(model, wanted, np.empty((0, count)), interval, level, None, np.random.default_rng(0))
    found: list[Scaled] = [nothing]
    for number, batch in enumerate(batches(model, rows, selection, sampled_rows(model))):
        random = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(6, number)))
        eta = linear_predictors(model, batch, rows.latent, random if interval == "prediction" else None)
        weights = None if rows.weights is None else rows.weights[batch.rows]
        found.append(predicted(model, wanted, eta, interval, level, weights, random))
    fit = np.concatenate([one.fit for one in found])
    lower = np.concatenate([one.lower for one in found if one.lower is not None]) if interval else None
    upper = np.concatenate([one.upper for one in found if one.upper is not None]) if interval else None
    missing = int(np.count_nonzero(np.isnan(fit if fit.ndim == 1 else fit[:, 0])))
    rated = _as_ratings(model, kind, Scaled(fit, lower, upper))
    return Prediction(rated.fit, rated.lower, rated.upper, missing, rows.unknown)


def _as_ratings(model: Model, kind: Kind, found: Scaled) -> Scaled:
    if kind == "rating":
        return nearest_rating(model, found)
    return clipped(model, found) if kind == "response" else found


def _check_options(model: Model, new_levels: str, interval: str | None, level: float) -> None:
    if new_levels not in ("population", "raise"):
        raise OptionError(f"new_levels={new_levels!r} is not known: use 'population' or 'raise'")
    if interval not in (None, "confidence", "prediction"):
        raise OptionError(f"interval={interval!r} is not known: use 'confidence' or 'prediction', or none")
    if not isinstance(level, int | float) or not 0 < level < 1:
        raise OptionError(f"level={level!r}: give a number between 0 and 1, such as 0.95")
    if interval and model.posterior is None and model.sample is None:
        raise OptionError(
            "this model was saved without its posterior covariance, which intervals of predictions need; "
            "save it with posterior=True, or predict without an interval"
        )


def _order(model: Model, rows: Rows) -> npt.NDArray[np.int64] | None:
    """Rows of the same eliminated levels together: a batch of these has few products of matrices to form."""
    if not isinstance(model.posterior, Posterior):
        return None
    met = [rows.codes[stage.group] for stage in model.posterior.stages if stage.group in rows.codes]
    return np.lexsort(met[::-1]) if met else None


def _refuse(unknown: Mapping[str, Unknown]) -> None:
    for name, found in unknown.items():
        raise LevelError(
            f"grouping factor {name!r} has levels that were not there in fitting, in {counted(found.rows, 'row')}: the "
            f"first is {found.label!r} in row {found.first}; leave these rows out, fit again with them, or take the "
            "population's value with new_levels='population'",
            column=name,
            row=found.first,
            count=found.rows,
        )


def _batch_rows(model: Model) -> int:
    width = len(model.spec.fixed.names) + sum(len(group.coefficients) for group in model.spec.groups)
    return max(1, min(MOST_ROWS, NUMBERS_A_BATCH // max(width, 1)))


def linear_predictor(model: Model, rows: Rows, selection: Selection) -> FloatArray:
    """The linear predictor of rows that were read, shape (rows,); NaN where a value is missing."""
    eta = np.empty(rows.table.rows)
    vectors = latent_units(model, rows.latent)
    for batch in batches(model, rows, selection, _batch_rows(model)):
        eta[batch.rows] = _expected(model, batch)
        if rows.latent:
            eta[batch.rows] += latent_part(model, rows.latent, batch.rows, interval=False, prior=False, units=vectors)[
                0
            ]
    return eta


def _expected(model: Model, batch: Batch) -> FloatArray:
    total = np.zeros(len(batch.rows)) if batch.offset is None else batch.offset.copy()
    if batch.x is not None:
        total += batch.x @ model.beta
    for group in batch.groups:
        total += _effect(model.groups[group.group].modes, group)
    return total


def _effect(modes: FloatArray, group: GroupBatch) -> FloatArray:
    k = len(group.coefficients)
    # the codes UNKNOWN (-2) and MISSING (-1) index the modes from their end
    whole = np.vstack([group.by_code(modes)[:, group.coefficients], np.zeros((1, k)), np.full((1, k), np.nan)])
    effect: FloatArray = np.einsum("nk,nk->n", group.covariates, whole[group.codes])
    return effect
