"""The nouns of the data: a table of numbers and of codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.storage import MEMORY, Storage

Scalar = TypeVar("Scalar", bound=np.generic)

FloatArray = npt.NDArray[np.float64]
CodeArray = npt.NDArray[np.int32]

MISSING: int = -1
UNKNOWN: int = -2


@dataclass(frozen=True, eq=False)
class Levels:
    """The distinct values of a categorical column, in their order.

    Attributes
    ----------
    values : pyarrow.Array, shape (levels,)
        Distinct, without nulls, in the type of the caller's column.
    ordered : bool
        The column declares that its levels have an order (R's ``ordered``).
    declared : bool
        The order was declared by the column (a categorical, enum or dictionary type); otherwise the levels are sorted.
    """

    values: pa.Array
    ordered: bool = False
    declared: bool = False

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Levels as text, R's way: TRUE and FALSE for booleans, integers without a point, dates as ISO 8601."""
        from ranef.table.levels import labels_of

        return labels_of(self.values)


@dataclass(frozen=True, eq=False)
class Factor:
    """A categorical column: ``codes`` into ``levels``; MISSING (-1) and UNKNOWN (-2) are not levels."""

    codes: CodeArray
    levels: Levels


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of one length. A column may be there as number, as factor, or as both.

    Attributes
    ----------
    rows : int
    numbers : mapping of str to float64 array, shape (rows,)
        Missing values are NaN. Booleans are 0 and 1.
    factors : mapping of str to Factor
    """

    rows: int
    numbers: Mapping[str, FloatArray]
    factors: Mapping[str, Factor]

    def take(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.integer], storage: Storage = MEMORY) -> Table:
        """The rows where ``keep``, shape (rows,), is true, or those at the places ``keep``; levels stay as they are."""
        return Table(
            len(keep) if keep.dtype != np.bool_ else int(np.count_nonzero(keep)),
            {name: taken(column, keep, storage) for name, column in self.numbers.items()},
            {name: Factor(taken(factor.codes, keep, storage), factor.levels) for name, factor in self.factors.items()},
        )

    def piece(self, rows: slice) -> Table:
        """The rows from ``rows.start`` to ``rows.stop``, both inside the table; nothing is copied."""
        return Table(
            rows.stop - rows.start,
            {name: column[rows] for name, column in self.numbers.items()},
            {name: Factor(factor.codes[rows], factor.levels) for name, factor in self.factors.items()},
        )


def taken(
    column: npt.NDArray[Scalar], keep: npt.NDArray[np.bool_] | npt.NDArray[np.integer], storage: Storage
) -> npt.NDArray[Scalar]:
    """``column[keep]``, piece by piece into ``storage``."""
    chosen = len(keep) if keep.dtype != np.bool_ else int(np.count_nonzero(keep))
    out: npt.NDArray[Scalar] = storage.empty(chosen, column.dtype)
    start = 0
    for piece in storage.pieces(len(keep)):
        found = column[piece][keep[piece]] if keep.dtype == np.bool_ else column[keep[piece]]
        out[start : start + len(found)] = found
        start += len(found)
    return out
