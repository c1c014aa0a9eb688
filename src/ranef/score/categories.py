"""The categories of a response in the caller's own type."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ranef.artifact.model import Model
from ranef.design.columns import Categories, is_truth
from ranef.table import CodeArray, FloatArray, from_numpy


def has_categories(model: Model) -> bool:
    """Whether each response is one of a few outcomes: ordinal, or one trial; not a proportion of several trials."""
    spec = model.spec.response
    one_trial = spec.kind == "proportion" and spec.failures is None and model.spec.weights is None
    return spec.kind in ("ordered", "binary") or one_trial


def categories_of(model: Model) -> pa.Array:
    """The categories of a response that has some in the order of its codes, as the caller's column holds them.

    Returns
    -------
    pyarrow.Array
        Of a computed response truths or numbers.
    """
    spec = model.spec.response
    value = spec.value
    if isinstance(value, Categories):
        levels = model.column_levels[value.column]
        place = {label: i for i, label in enumerate(levels.labels)}
        return levels.values.take(from_numpy(np.array([place[label] for label in spec.levels])))
    if is_truth(value):  # type: ignore[arg-type]  # a response is an operation where it is no column of categories
        return from_numpy(np.arange(2)).cast(pa.bool_())
    if spec.kind != "ordered":
        return from_numpy(np.arange(2))
    numbers = np.array([float(label) for label in spec.levels])
    whole = numbers.astype(np.int64)
    return from_numpy(whole if np.array_equal(whole, numbers) else numbers)


def as_categories(codes: FloatArray, categories: pa.Array) -> pa.Array:
    """The category of each code, null where the code is NaN."""
    missing = np.isnan(codes)
    places: CodeArray = np.where(missing, 0, codes).astype(np.int32)
    return categories.take(from_numpy(places, ~missing if missing.any() else None))
