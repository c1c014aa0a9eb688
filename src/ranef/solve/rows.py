"""The rows of a model, in the coordinates it is solved in; nothing as long as the data is stored for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.design.pieces import Derived, FloatColumns

FloatArray = npt.NDArray[np.float64]
CodeArray = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Block:
    """All random terms on one grouping factor, as the solver sees them.

    Attributes
    ----------
    codes : int32 array, shape (rows,)
        Level of each row, ``0 <= code < levels``; every level occurs.
    levels : int
    covariates : columns, shape (rows, k)
        What multiplies the ``k`` coefficients of the row's level.
    """

    codes: CodeArray
    levels: int
    covariates: FloatColumns

    @property
    def size(self) -> int:
        return self.covariates.shape[1]


@dataclass(frozen=True, eq=False)
class Rows:
    """The model's rows: ``y = X beta + sum_t Z_t b_t + error``, variance of a row ``sigma^2 / weight``.

    Attributes
    ----------
    y : columns, shape (rows,)
    x : columns, shape (rows, p)
    blocks : tuple of Block
    weights : float64 array, shape (rows,), or None
        Positive.
    """

    y: FloatColumns
    x: FloatColumns
    blocks: tuple[Block, ...]
    weights: FloatArray | None = None

    @property
    def root_weights(self) -> FloatColumns | None:
        """Roots of the weights, shape (rows, 1)."""
        weights = self.weights
        return None if weights is None else Derived((len(weights), 1), lambda rows: np.sqrt(weights[rows, None]))
