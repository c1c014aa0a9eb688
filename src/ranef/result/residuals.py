"""Fitted values and residuals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design, Group
from ranef.errors import DataError, counted
from ranef.result.options import check_whole, choice
from ranef.result.quantiles import quantiles
from ranef.score.latent import latent_part, latent_rows
from ranef.score.rows import Batch, GroupBatch
from ranef.score.sampled import kept_sample, linear_predictors, sampled_rows
from ranef.score.units import Units

FloatArray = npt.NDArray[np.float64]
ResidualKind = Literal["response", "pearson", "deviance", "quantile", "scaled"]

KINDS = ("response", "pearson", "deviance", "quantile", "scaled")
# an ordinal response is no number
KINDS_ORDERED = ("deviance", "quantile")
# what a uniform number cannot come closer to 1 than
ALMOST_ONE = 1.0 - 2.0**-53
ROWS = 1 << 14


def fixed_values(model: Model, design: Design) -> FloatArray:
    """Offset and fixed part of every row, shape (rows,)."""
    values = design.x[:, model.fixed_columns] @ model.beta
    return values if design.offset is None else values + design.offset


def random_values(model: Model, design: Design) -> FloatArray:
    """Conditional modes' part of every row, shape (rows,)."""
    values = np.zeros(len(design.y))
    for effect in _effects(model, design):
        values += effect
    return values


def linear_predictor(model: Model, design: Design) -> FloatArray:
    """Offset, fixed part and conditional modes of every row, shape (rows,); the same bits as their prediction."""
    values = np.empty(len(design.y))
    if model.latent and model.sample is not None:
        # a mean of products is not the product of means
        for rows, eta in _sampled(model, design):
            values[rows] = eta.mean(axis=1)
        return values
    for rows in design.storage.pieces(len(values)):
        part = design.piece(rows)
        values[rows] = fixed_values(model, part)
        for effect in _effects(model, part):
            values[rows] += effect
        if model.latent:
            terms = {t: latent_rows(one) for t, one in enumerate(part.latent)}
            values[rows] += latent_part(model, terms, np.arange(len(part.y)), interval=False, prior=False)[0]
    return values


def fitted_values(model: Model, design: Design, eta: FloatArray) -> FloatArray:
    """Mean of the response at the linear predictor, shape (rows,); of an ordinal one the probability of its category.

    Parameters
    ----------
    model : Model
    design : Design
        The rows.
    eta : float64 array, shape (rows,)
        See `linear_predictor`.
    """
    if model.spec.kind == "number":
        return eta
    family, values = model.family, np.empty(len(eta))
    for at in range(0, len(eta), ROWS):
        rows = slice(at, at + ROWS)
        if model.spec.kind == "ordered":
            values[rows] = np.exp(family.loglik(design.y[rows], eta[rows], None, model.phi))
        else:
            values[rows] = family.mean(eta[rows])
    return values


def sampled_fitted(model: Model, design: Design) -> FloatArray:
    """`fitted_values` of a Bayesian fit: means over the draws, shape (rows,)."""
    values, sample = np.empty(len(design.y)), kept_sample(model)
    for rows, eta in _sampled(model, design):
        if model.spec.kind == "number":
            values[rows] = eta.mean(axis=1)
            continue
        total = np.zeros(len(eta))
        for one, phi in zip(eta.T, sample.phi, strict=True):
            here = np.ascontiguousarray(one)
            ordered = model.spec.kind == "ordered"
            family = model.family
            total += np.exp(family.loglik(design.y[rows], here, None, phi)) if ordered else family.mean(here)
        values[rows] = total / len(sample.phi)
    return values


def _sampled(model: Model, design: Design) -> Iterator[tuple[slice, FloatArray]]:
    """Rows, and their linear predictor in each kept draw, shape (rows, draws)."""
    size = sampled_rows(model)
    for at in range(0, len(design.y), size):
        rows = slice(at, at + size)
        terms = {t: latent_rows(one) for t, one in enumerate(design.piece(rows).latent)}
        yield rows, linear_predictors(model, _batch(model, design, rows), terms)


def _batch(model: Model, design: Design, rows: slice) -> Batch:
    """Rows of the fit as `ranef.score` has those of new data."""
    part = design.piece(rows)
    return Batch(
        rows=np.arange(len(part.y)),
        x=part.x[:, model.fixed_columns],
        offset=part.offset,
        groups=tuple(
            GroupBatch(g, np.arange(group.covariates.shape[1]), group.codes, group.covariates, units_of_fit(group))
            for g, group in enumerate(part.groups)
        ),
    )


def units_of_fit(group: Group) -> Units | None:
    """The units of a bag or history in the rows of the fit."""
    one = group.membership
    return None if one is None else Units(one, np.zeros(one.units), np.zeros(one.units, np.bool_))


def scaled_residual_quantiles(model: Model, design: Design) -> FloatArray:
    """Smallest, quartiles and largest of the scaled residuals, shape (5,)."""

    def pieces() -> Iterator[FloatArray]:
        for rows in design.storage.pieces(len(design.y)):
            part = design.piece(rows)
            yield residuals(model, part, linear_predictor(model, part), "scaled")

    return quantiles(pieces, (0, 0.25, 0.5, 0.75, 1))


def _effects(model: Model, design: Design) -> Iterator[FloatArray]:
    for learned, group in zip(model.groups, design.groups, strict=True):
        yield np.einsum("nk,nk->n", group.covariates, group.by_unit(learned.modes)[group.codes])


def residuals(
    model: Model, design: Design, eta: FloatArray | None = None, kind: ResidualKind | None = None, seed: int = 0
) -> FloatArray:
    """Residuals of the fit's rows, given the conditional modes; of a Bayesian fit, at the posterior means.

    Parameters
    ----------
    model : Model
    design : Design
        The rows.
    eta : float64 array, shape (rows,), optional
        See `linear_predictor`; computed if not given.
    kind : {"response", "pearson", "deviance", "quantile", "scaled"}, optional
        Default: ``"response"``, or ``"quantile"`` of an ordinal response. Response minus fitted value; that times the
        root of the row's weight over that of the family's variance function (R's ``pearson``); the signed roots of the
        rows' deviance; normal scores of where in its distribution the response lies, at random between its two ends
        where the distribution has steps (Dunn and Smyth 1996, J. Computational and Graphical Statistics 5): standard
        normal if the model holds; and Pearson's over the root of the dispersion, ``sigma``.
    seed : int
        Of ``"quantile"``.

    Returns
    -------
    float64 array, shape (rows,)

    Raises
    ------
    OptionError
        The kind is unknown, or an ordinal response has no such residuals; the seed is no whole number.
    DataError
        The rows are not those of the fit.
    """
    ordered = model.spec.kind == "ordered"
    where = f" for family={model.info.family!r}"
    kind = ("quantile" if ordered else "response") if kind is None else kind
    kind_ = choice("type", kind, KINDS_ORDERED if ordered else KINDS, where if ordered else "")
    check_whole("seed", seed, 0)
    if eta is None:
        check_rows(model, design)
        eta = linear_predictor(model, design)
    if model.spec.kind == "number" and kind_ != "quantile":
        return _gaussian(model, design, eta, kind_)
    family, phi = model.family, model.phi
    if model.spec.kind == "number":
        phi = np.array([2 * np.log(model.info.sigma)])
    random = np.random.default_rng(seed)
    values = np.empty(len(eta))
    for at in range(0, len(eta), ROWS):
        rows = slice(at, at + ROWS)
        y, here = design.y[rows], eta[rows]
        weights = None if design.weights is None else design.weights[rows]
        match kind_:
            case "deviance":
                values[rows] = family.deviance_residuals(y, here, weights, phi)
            case "quantile":
                lower, upper = family.cdf(y, here, weights, phi)
                values[rows] = _normal_scores(lower, upper, random)
            case "response":
                values[rows] = y - family.mean(here)
            case _:
                mu = family.mean(here)
                square = family.variance(mu, phi)
                if kind_ == "pearson":
                    square = square / family.dispersion(phi)
                if weights is not None:
                    square = square / weights
                difference = y - mu
                # 0 / 0 where a probability is one to the last digit: nothing is left over
                with np.errstate(divide="ignore"):
                    values[rows] = np.divide(difference, np.sqrt(square), out=difference, where=difference != 0)
    return values


def _gaussian(model: Model, design: Design, eta: FloatArray, kind: str) -> FloatArray:
    values = design.y - eta
    if kind == "response":
        return values
    if design.weights is not None:
        values = values * np.sqrt(design.weights)
    return values / model.info.sigma if kind == "scaled" else values


def _normal_scores(lower: FloatArray, upper: FloatArray, random: np.random.Generator) -> FloatArray:
    from scipy.special import ndtri

    uniform = lower + random.random(len(lower)) * (upper - lower)
    return np.asarray(ndtri(np.clip(uniform, np.finfo(np.float64).tiny, ALMOST_ONE)))


def check_rows(model: Model, design: Design) -> None:
    """Refuse rows that cannot be those of the fit: another number of them, or other levels of a grouping factor.

    Raises
    ------
    DataError
    """
    if len(design.y) != model.info.nobs:
        raise DataError(
            f"these data give {counted(len(design.y), 'row')} and the fit used {model.info.nobs:,}; pass the data of "
            "the fit, or use predict() for other rows",
            count=len(design.y),
        )
    if design.spec.response_levels != model.spec.response_levels:
        raise DataError(
            f"the response {model.spec.response_label} has other categories in these rows "
            f"({', '.join(design.spec.response_levels)}) than in those of the fit "
            f"({', '.join(model.spec.response_levels)}); pass the data of the fit"
        )
    for spec, learned, group in zip(model.spec.groups, model.groups, design.groups, strict=True):
        if learned.levels.labels != group.levels.labels:
            raise DataError(
                f"these rows have other levels of {spec.name!r} ({len(group.levels):,}) than those of the fit "
                f"({len(learned.levels):,}); pass the data of the fit",
                column=spec.columns[0],
            )
