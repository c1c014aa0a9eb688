"""Columns that are read some rows at a time, so that what is computed from the data need not be stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ranef.errors import DataError
from ranef.storage import ROWS_A_PIECE, Storage
from ranef.table.table import FloatArray, Table

Scalar_co = TypeVar("Scalar_co", bound=np.generic, covariant=True)
Numbers: TypeAlias = slice | npt.NDArray[np.int64]


class Columns(Protocol[Scalar_co]):
    """One or more columns: an array, or `Derived`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows,) or (rows, columns)."""

    def __getitem__(self, rows: Numbers, /) -> npt.NDArray[Scalar_co]:
        """The columns on some rows: a slice, or their numbers."""

    def __len__(self) -> int:
        """Rows."""


FloatColumns: TypeAlias = Columns[np.float64]
CodeColumns: TypeAlias = Columns[np.int32]


@dataclass(frozen=True, eq=False)
class Derived(Generic[Scalar_co]):
    """Columns computed from others whenever they are read, each row by itself."""

    shape: tuple[int, ...]
    compute: Callable[[Numbers], npt.NDArray[Scalar_co]]

    def __getitem__(self, rows: Numbers) -> npt.NDArray[Scalar_co]:
        return self.compute(rows)

    def __len__(self) -> int:
        return self.shape[0]


def by_pieces(compute: Callable[[Table], FloatArray], table: Table, storage: Storage) -> FloatArray:
    """``compute(table)``, some rows at a time, so that what it computes on the way takes little memory.

    Parameters
    ----------
    compute : callable
        Gives one or more columns of numbers, each row by itself.
    table : Table
    storage : Storage

    Returns
    -------
    float64 array, shape (rows,) or (rows, columns)
        Of a column that is in the table already, that one; of one row seen from all, such a view.

    Raises
    ------
    DataError
        With the row's number in ``table``.
    """
    try:
        first = compute(table.piece(slice(0, min(table.rows, ROWS_A_PIECE))))
        if is_constant(first):
            return np.broadcast_to(first[0:1], (table.rows, *first.shape[1:]))
        there = next((column for column in table.numbers.values() if np.may_share_memory(column, first)), None)
        if len(first) == table.rows:
            return first if there is None else there
        out = storage.empty((table.rows, *first.shape[1:])) if there is None else there
        for piece in storage.pieces(table.rows):
            values = compute(table.piece(piece))
            if there is None:
                out[piece] = values
    except DataError:
        # the whole says which row, and how many
        return compute(table)
    return out


def is_constant(columns: FloatColumns) -> bool:
    """Whether the columns are one row seen from all: their content takes no memory."""
    return isinstance(columns, np.ndarray) and columns.strides[0] == 0
