"""Checks of the arrays that metrics take."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.errors import DataError, OptionError, counted
from ranef.table import FloatArray


def checked(name: str, values: Any, dimensions: int = 1) -> FloatArray:
    """Numbers as float64, none of them missing or infinite.

    Raises
    ------
    DataError
    """
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be numbers: {error}") from error
    if array.ndim != dimensions or not array.size:
        axes = "one dimension" if dimensions == 1 else f"{dimensions} dimensions"
        raise DataError(f"{name} must have {axes} and at least one row; its shape is {array.shape}")
    bad = ~np.isfinite(array)
    if bad.any():
        rows = bad if dimensions == 1 else bad.any(axis=1)
        count, row = int(np.count_nonzero(rows)), int(np.argmax(rows))
        raise DataError(
            f"{name} is missing or infinite in {counted(count, 'row')}, the first is row {row}: leave these out first",
            row=row,
            count=count,
        )
    return array


def checked_pair(y: Any, predicted: Any) -> tuple[FloatArray, FloatArray]:
    """Two arrays of numbers of one length.

    Raises
    ------
    DataError
    """
    one, other = checked("y", y), checked("the prediction", predicted)
    if len(one) != len(other):
        raise DataError(f"y has {counted(len(one), 'row')} and the prediction {len(other):,}: give the same rows")
    return one, other


def checked_outcomes(y: FloatArray) -> None:
    """Refuse what is not 0 or 1.

    Raises
    ------
    DataError
    """
    _refuse((y != 0) & (y != 1), y, "y must be 0 or 1")


def checked_probabilities(p: FloatArray) -> None:
    """Refuse what is not from 0 to 1.

    Raises
    ------
    DataError
    """
    _refuse((p < 0) | (p > 1), p, "a probability must be from 0 to 1")


def checked_clip(clip: Any) -> tuple[float, float] | None:
    """The limits of predictions, if there are any.

    Raises
    ------
    OptionError
    """
    if clip is None:
        return None
    try:
        low, high = (float(one) for one in clip)
    except (TypeError, ValueError) as error:
        raise OptionError(f"clip={clip!r}: give two numbers, the smallest and the largest rating, (1, 5)") from error
    if not low < high:
        raise OptionError(f"clip={clip!r}: the first number must be below the second")
    return low, high


def _refuse(bad: npt.NDArray[np.bool_], values: FloatArray, must: str) -> None:
    if bad.any():
        count, row = int(np.count_nonzero(bad)), int(np.argmax(bad))
        raise DataError(f"{must}; {counted(count, 'row')} differ, the first is row {row} with {values[row]:g}", row=row)
