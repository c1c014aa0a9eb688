"""The rows of a model, in the coordinates it is solved in; nothing as long as the data is stored for them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ranef.design.membership import Membership
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
    membership : Membership or None
        If there is one, ``codes`` are those of its units, and every unit occurs.
    """

    codes: CodeArray
    levels: int
    covariates: FloatColumns
    membership: Membership | None = None

    @property
    def units(self) -> int:
        return self.levels if self.membership is None else self.membership.units

    @property
    def by_unit(self) -> Block:
        """The block as passes over the rows meet it: units are its levels."""
        return self if self.membership is None else Block(self.codes, self.units, self.covariates)

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
    def by_unit(self) -> Rows:
        """The rows with units for levels."""
        return replace(self, blocks=tuple(block.by_unit for block in self.blocks))

    @property
    def memberships(self) -> dict[int, Membership]:
        """Those of the blocks that have one, by the block's number."""
        return {b: block.membership for b, block in enumerate(self.blocks) if block.membership is not None}

    @property
    def root_weights(self) -> FloatColumns | None:
        """Roots of the weights, shape (rows, 1)."""
        weights = self.weights
        return None if weights is None else Derived((len(weights), 1), lambda rows: np.sqrt(weights[rows, None]))
