"""Fitted values and residuals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.errors import DataError, OptionError, counted
from ranef.result.quantiles import quantiles

FloatArray = npt.NDArray[np.float64]
ResidualKind = Literal["response", "pearson", "scaled"]


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


def fitted_values(model: Model, design: Design) -> FloatArray:
    """Offset, fixed part and conditional modes of every row, shape (rows,); the same bits as their prediction."""
    values = np.empty(len(design.y))
    for rows in design.storage.pieces(len(values)):
        part = design.piece(rows)
        values[rows] = fixed_values(model, part)
        for effect in _effects(model, part):
            values[rows] += effect
    return values


def scaled_residual_quantiles(model: Model, design: Design) -> FloatArray:
    """Smallest, quartiles and largest of the scaled residuals, shape (5,)."""

    def pieces() -> Iterator[FloatArray]:
        for rows in design.storage.pieces(len(design.y)):
            part = design.piece(rows)
            yield residuals(model, part, fitted_values(model, part), "scaled")

    return quantiles(pieces, (0, 0.25, 0.5, 0.75, 1))


def _effects(model: Model, design: Design) -> Iterator[FloatArray]:
    for learned, group in zip(model.groups, design.groups, strict=True):
        yield np.einsum("nk,nk->n", group.covariates, learned.modes[group.codes])


def residuals(
    model: Model, design: Design, fitted: FloatArray | None = None, kind: ResidualKind = "response"
) -> FloatArray:
    """Residuals of the fit's rows.

    Parameters
    ----------
    model : Model
    design : Design
        The rows.
    fitted : float64 array, shape (rows,), optional
        Computed if not given.
    kind : {"response", "pearson", "scaled"}
        Response minus fitted; that times the root of the row's weight; that over sigma.

    Returns
    -------
    float64 array, shape (rows,)

    Raises
    ------
    OptionError
        The kind is unknown.
    DataError
        The rows are not those of the fit.
    """
    if kind not in ("response", "pearson", "scaled"):
        raise OptionError(f"residuals are 'response', 'pearson' or 'scaled', not {kind!r}")
    if fitted is None:
        check_rows(model, design)
        fitted = fitted_values(model, design)
    values = design.y - fitted
    if kind == "response":
        return values
    if design.weights is not None:
        values = values * np.sqrt(design.weights)
    return values if kind == "pearson" else values / model.info.sigma


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
    for spec, learned, group in zip(model.spec.groups, model.groups, design.groups, strict=True):
        if learned.levels.labels != group.levels.labels:
            raise DataError(
                f"these rows have other levels of {spec.name!r} ({len(group.levels):,}) than those of the fit "
                f"({len(learned.levels):,}); pass the data of the fit",
                column=spec.columns[0],
            )
