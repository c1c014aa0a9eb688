"""Folding in: coefficients of levels that a model does not have, by row updates against the model as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.prior import factor_of
from ranef.score.block_modes import Response
from ranef.score.fold_rows import FoldRows, read_fold_rows, values_of
from ranef.score.fold_sampled import folded_draws
from ranef.score.level_blocks import Target, solved, written_back
from ranef.score.merged import Merged, levels_of, merged_factor, prior_covariance
from ranef.score.new_levels import changed_counts, with_new_levels
from ranef.score.rows import Unknown
from ranef.table import Source

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Folded:
    """A model with new or changed levels.

    Attributes
    ----------
    model : Model
    new : mapping of str to int
        By factor: how many levels the model did not have.
    changed : mapping of str to int
        By factor: how many levels it had, and that are not what they were.
    rows : int
        Those that were used.
    left_out : int
        Rows with a missing value or of weight zero.
    idle : int
        Complete rows that say nothing of any level that may change.
    unknown : mapping of str to Unknown
        Levels of bags, histories and walks that the model does not have; they count as zero.
    """

    model: Model
    new: Mapping[str, int]
    changed: Mapping[str, int]
    rows: int
    left_out: int
    idle: int
    unknown: Mapping[str, Unknown]


def fold_in(model: Model, source: Source, tables: Mapping[str, Any] | None = None) -> Folded:
    """The model with the levels of new rows, everything else as it is.

    Parameters
    ----------
    model : Model
    source : Source
        All rows of these levels, with the response.
    tables : mapping of str to table, optional
        Attributes of levels by key, which the model then keeps.

    Raises
    ------
    OptionError
        A column is not in the data.
    LevelError
        A covariate has a level that was not there in fitting.
    DataError
        A column has another type than in the fit, or values that the formula cannot take.
    FitError
        A likelihood cannot be computed, or has no maximum.

    Notes
    -----
    The mode of a level's coefficients, of all terms on its factor together, maximises the likelihood of its rows times
    the prior that the fit has learned: the row update of a fit in which everything else is held. By variational Bayes
    a Gaussian row also counts the uncertainty of the vectors on the other sides, as the fit does. Where new levels of
    several factors meet, their updates take turns until nothing moves.
    """
    extended = with_new_levels(model, source, tables)
    model = extended.model
    rows = read_fold_rows(model, source)
    factors = [merged_factor(model, name) for name in extended.before]
    met = np.zeros(len(rows.y), np.bool_)
    for factor in factors:
        met |= rows.codes(factor) >= extended.before[factor.name]
    own = rows if met.all() else rows.take(met)
    if model.sample is not None:
        model = folded_draws(model, own, {factor: extended.before[factor.name] for factor in factors})
    else:
        targets = [new_levels_target(model, factor, extended.before[factor.name]) for factor in factors]
        found = solved(model, own, targets, values_of(model), response_of(model, own))
        model = written_back(model, found)
    model = with_counts(model, own, {one: extended.before[one.name] for one in factors})
    new = {one.name: _levels(model, one) - extended.before[one.name] for one in factors}
    return Folded(model, new, {}, len(own.y), rows.left_out, len(rows.y) - len(own.y), rows.unknown)


def new_levels_target(model: Model, factor: Merged, before: int) -> Target:
    """The levels behind those of the fit, at their prior."""
    levels = np.arange(before, _levels(model, factor))
    d = factor.size
    root = factor_of(prior_covariance(model, factor))
    return Target(factor, levels, np.zeros((len(levels), d)), root, np.eye(d))


def with_counts(model: Model, rows: FoldRows, first: Mapping[Merged, int]) -> Model:
    """The model with these rows behind the levels of some factors, from a code on."""
    if model.counts is None:
        return model
    counts = model.counts
    for factor, begin in first.items():
        codes = rows.codes(factor)
        more = np.bincount(codes[codes >= begin], minlength=_levels(model, factor)).astype(np.int64)
        counts = changed_counts(counts, factor, partial(np.add, more))
    return replace(model, counts=counts)


def response_of(model: Model, rows: FoldRows) -> Response:
    """The rows as the model's family sees them."""
    gaussian = model.spec.kind == "number"
    phi = np.array([2 * np.log(model.info.sigma)]) if gaussian else model.phi
    return Response(model.family, phi, rows.y, rows.weights)


def _levels(model: Model, factor: Merged) -> int:
    return len(levels_of(model, factor)[0])
