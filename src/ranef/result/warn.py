"""Warnings of fits and predictions; they point at the caller's line, however many of our own functions lie between."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.design.columns import Categories
from ranef.errors import (
    CategoryOrderWarning,
    ConvergenceWarning,
    DroppedColumnsWarning,
    DroppedRowsWarning,
    SingularFitWarning,
    UnknownLevelWarning,
    counted,
)
from ranef.result.parameters import parameters_of
from ranef.score.rows import Unknown

# categories that a message lists
MOST_SHOWN = 8


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the nearest line outside of ranef: `Fit.update` calls `fit`, and its caller is meant."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "ranef":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def warn_about_fit(model: Model, numbers: str | None = None) -> None:
    """The warnings that a fit deserves, each of its own class.

    Parameters
    ----------
    model : Model
    numbers : str, optional
        What in the data's numbers leaves the search no digits: said where it did not converge.
    """
    info = model.info
    if info.dropped:
        reasons = [f"{count:,} without {name}" for name, count in info.dropped_missing.items()]
        reasons += [f"{info.dropped_zero_weight:,} of weight zero"] if info.dropped_zero_weight else []
        message = f"{info.dropped:,} of {info.dropped + info.nobs:,} rows were dropped: {', '.join(reasons)}"
        warn(message, DroppedRowsWarning)
    if info.aliased:
        message = (
            f"the fixed part is rank-deficient: left out {', '.join(info.aliased)}, which the columns before determine"
        )
        warn(message, DroppedColumnsWarning)
    _warn_about_unbounded(model)
    if model.sample is not None and not info.converged:
        from ranef.result.bayes import not_together

        warn(not_together(model), ConvergenceWarning)
    elif info.stopped == "interrupt" and not info.converged:
        message = (
            f"interrupted: this is the fit after {counted(info.iterations, 'sweep')}, as far as it had come; fit again "
            "to go on to the end"
        )
        warn(message, ConvergenceWarning)
    elif not info.converged and not info.unbounded and info.stopped != "callback":
        message = (
            f"not converged after {counted(info.iterations, 'evaluation')}: the largest entry of the gradient is "
            f"{info.gradient:.2g} standard errors. Raise max_iterations, start from a simpler fit (start=), or drop a "
            "random effect"
        )
        if info.method == "vb":
            message = (
                f"not converged after {counted(info.iterations, 'sweep')}: the bound still rises, or the "
                "likelihood of the mixed model beside the vectors. Raise max_iterations; predictions are often as good "
                "already"
            )
        elif info.method == "map":
            message = (
                f"not converged after {counted(info.iterations, 'sweep')}: the penalised likelihood still rises. Raise "
                "max_iterations; predictions are often as good already"
            )
        elif info.mode_gradient is not None:
            message = (
                f"not converged after {counted(info.iterations, 'step')}: the gradient's norm is "
                f"{info.mode_gradient:.2g} of that without random effects, and not within the tolerance. Raise "
                "max_iterations"
            )
        warn(message if numbers is None else f"{message.partition('. Raise')[0]}: {numbers}", ConvergenceWarning)
    if info.dropped_terms:
        message = (
            f"variational Bayes dropped {', '.join(info.dropped_terms)}: its vectors are as good as zero, which "
            "is what becomes of them where levels have few rows each. method='gibbs' keeps what there is; validation= "
            "keeps the sweep that predicts best; attributes and histories in the sides tell more of each level"
        )
        warn(message, SingularFitWarning)
    if info.singular:
        message = (
            "boundary (singular) fit: a variance is estimated as zero or a correlation as one; the random effects may "
            "be more than the data can tell apart"
        )
        warn(message, SingularFitWarning)


def warn_about_order(design: Design) -> None:
    """Say in which order the categories of an ordinal response were taken if they are texts that nobody ordered.

    Texts that are ascending numbers are in order. A categorical column without an order whose levels stand as their
    texts are sorted is most often one that was made without thinking of it.
    """
    response = design.spec.response
    if response.kind != "ordered" or not isinstance(response.value, Categories):
        return
    column, labels = response.value.column, response.levels
    if design.column_levels[column].ordered or len(labels) < 3 or list(labels) != sorted(labels) or ascending(labels):
        return
    shown = [*map(repr, labels)] if len(labels) <= MOST_SHOWN else [*map(repr, labels[: MOST_SHOWN - 1]), "..."]
    message = (
        f"the categories of {response.label} have no declared order and were taken as their texts are sorted: "
        f"{' < '.join(shown)}. Declare the order, be it this one: by an ordered categorical "
        "(pandas.Categorical(..., categories=[...], ordered=True), polars.Enum([...])), or by numbers in its place"
    )
    warn(message, CategoryOrderWarning)


def ascending(labels: Sequence[str]) -> bool:
    """Whether all labels read as numbers, each above the one before."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return False
    return all(a < b for a, b in pairwise(numbers))


def _warn_about_unbounded(model: Model) -> None:
    if not model.info.unbounded:
        return
    # SciPy, which predictions do without
    from ranef.learn.unbounded import without_maximum

    sds = {one.name for one in parameters_of(model) if one.kind == "sd"} & set(model.info.unbounded)
    if sds:
        message = (
            f"the likelihood has no maximum: {', '.join(sorted(sds))} can grow without end, as every level of the "
            "factor has one outcome in all its rows, or can have all of its rows right. Is the response computed from "
            "it? Take a coarser factor"
        )
        warn(message, ConvergenceWarning)
    if "theta" in model.info.unbounded:
        message = (
            "boundary (singular) fit: the counts vary no more than Poisson counts, so that theta grows without end; "
            "family='poisson' is the simpler model"
        )
        warn(message, SingularFitWarning)
    others = [name for name in model.info.unbounded if name not in {*sds, "theta"}]
    if others:
        thresholds = [one.name for one in model.info.family_parameters]
        # SciPy, which predictions do without
        from ranef.learn.unbounded import without_maximum

        message = f"{without_maximum(others, thresholds)}. Their estimates are where the search ended"
        warn(message, ConvergenceWarning)


def warn_about_rows(missing: int, rows: int, unknown: Mapping[str, Unknown]) -> None:
    """What a prediction of ``rows`` rows could not do; see `ranef.score.Prediction`."""
    if missing:
        message = f"{missing:,} of {rows:,} rows have no prediction: a covariate or a grouping value is missing"
        warn(message, DroppedRowsWarning)
    for group, (count, row, example) in unknown.items():
        message = (
            f"{count:,} of {rows:,} rows have a level of {group!r} that was not seen in fitting (the first is "
            f"{example!r} in row {row}); they get the prediction for an average level"
        )
        warn(message, UnknownLevelWarning)
