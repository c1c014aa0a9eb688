"""A column that is filled batch by batch, without a second copy where the number of rows is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.storage import Storage
from ranef.table.source import BATCH_ROWS


class Filling:
    """A column to be.

    Parameters
    ----------
    dtype : dtype
    rows : int or None
        How many there will be, if that is known.
    storage : Storage
    """

    def __init__(self, dtype: npt.DTypeLike, rows: int | None, storage: Storage):
        self._dtype, self._storage = np.dtype(dtype), storage
        self._parts = [storage.empty(rows, self._dtype)] if rows else []
        self._used = 0

    def append(self, values: npt.NDArray[Any]) -> None:
        """Add the values of the next rows, shape (rows,)."""
        while len(values):
            if not self._parts or self._used == len(self._parts[-1]):
                self._parts.append(self._storage.empty(max(len(values), BATCH_ROWS), self._dtype))
                self._used = 0
            part = self._parts[-1][self._used : self._used + len(values)]
            part[:] = values[: len(part)]
            self._used += len(part)
            values = values[len(part) :]

    def column(self) -> npt.NDArray[Any]:
        """All values; the parts are given up."""
        if not self._parts:
            return np.empty(0, self._dtype)
        self._parts[-1] = self._parts[-1][: self._used]
        if len(self._parts) == 1:
            return self._parts.pop()
        column = self._storage.empty(sum(len(part) for part in self._parts), self._dtype)
        self._parts.reverse()
        start = 0
        while self._parts:
            part = self._parts.pop()
            column[start : start + len(part)] = part
            start += len(part)
            self._storage.trim()
        return column
