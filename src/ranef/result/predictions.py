"""Predictions as the caller gets them: numbers, categories in the caller's own type, or a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.model import Model
from ranef.score import Prediction
from ranef.score.categories import as_categories, categories_of, has_categories
from ranef.table import labels_of, to_library


def prediction_result(model: Model, kind: str, found: Prediction, library: str) -> npt.NDArray[Any] | Any:
    """One value a row as an array, or a table in the caller's library where a row has several.

    Parameters
    ----------
    model : Model
    kind : {"response", "link", "class", "probabilities"}
    found : Prediction
    library : {"pandas", "polars", "pyarrow", "dict"}

    Returns
    -------
    array, shape (rows,), or table
        The columns fit, lwr and upr with an interval; for probabilities one column a category, and with an interval
        the columns ``lwr_...`` and ``upr_...`` of each.
    """
    if kind == "class":
        return as_categories(found.fit, categories_of(model)).to_numpy(zero_copy_only=False)
    parts = [values for values in (found.fit, found.lower, found.upper) if values is not None]
    if found.fit.ndim == 1 and len(parts) == 1:
        return found.fit
    names = prediction_columns(model, kind, len(parts) > 1)
    return to_library(dict(zip(names, np.column_stack(parts).T, strict=True)), library)


def prediction_columns(model: Model | ImplicitModel, kind: str, interval: bool) -> list[str]:
    """Names of the columns that a prediction has as a table; see `prediction_result`."""
    if isinstance(model, ImplicitModel):
        return ["fit"]
    if has_categories(model) and (kind == "probabilities" or (kind == "response" and model.spec.kind == "ordered")):
        names = labels_of(categories_of(model))
        return [f"{side}{name}" for side in (("", "lwr_", "upr_") if interval else ("",)) for name in names]
    return ["fit", "lwr", "upr"] if interval else ["fit"]
