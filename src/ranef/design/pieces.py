"""Columns that are read some rows at a time, so that what is computed from the data need not be stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

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


def is_constant(columns: FloatColumns) -> bool:
    """Whether the columns are one row seen from all: their content takes no memory."""
    return isinstance(columns, np.ndarray) and columns.strides[0] == 0
