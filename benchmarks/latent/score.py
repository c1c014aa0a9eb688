"""Errors of predicted ratings, and of their difference on the same rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

STARS = (1.0, 5.0)


def rmse(y: FloatArray, predicted: FloatArray) -> float:
    """Of predictions clipped to the stars there are."""
    return float(np.sqrt(np.mean(_squares(y, predicted))))


@dataclass(frozen=True)
class Difference:
    """``rmse(a) - rmse(b)`` on the same rows and its paired standard error."""

    value: float
    se: float

    def __str__(self) -> str:
        return f"{self.value:+.4f} ({self.se:.4f})"


def difference(y: FloatArray, a: FloatArray, b: FloatArray) -> Difference:
    """The difference of two models' RMSE; its standard error is that of the mean difference of squared errors, by the
    delta method, rows independent.

    Parameters
    ----------
    y, a, b : float64 array, shape (rows,)
        Ratings and two predictions of them.
    """
    squares = _squares(y, a) - _squares(y, b)
    scale = rmse(y, a) + rmse(y, b)
    return Difference(float(squares.mean()) / scale, float(squares.std()) / np.sqrt(len(y)) / scale)


def _squares(y: FloatArray, predicted: FloatArray) -> FloatArray:
    squares: FloatArray = (np.clip(predicted, *STARS) - y) ** 2
    return squares
