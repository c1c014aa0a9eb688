"""Rows that have every value, and which columns lack some."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.storage import MEMORY, Storage
from ranef.table.table import MISSING, Table

MISSING_IN_CSV = "missing in CSV files are empty fields, NA, N/A, NaN and null"


@dataclass(frozen=True)
class Gap:
    """Missing values of one column: how many rows, and the first of them."""

    count: int
    row: int


def complete_rows(table: Table, storage: Storage = MEMORY) -> tuple[npt.NDArray[np.bool_] | None, dict[str, Gap]]:
    """The rows without NaN in any number and without MISSING in any factor; UNKNOWN is not missing.

    Returns
    -------
    complete : bool array, shape (rows,), or None
        None if all are.
    gaps : dict of str to Gap
        The columns that lack values; a row counts for every column in which it does.
    """
    complete: npt.NDArray[np.bool_] | None = None
    gaps: dict[str, Gap] = {}
    for name in dict.fromkeys([*table.numbers, *table.factors]):
        number, factor = table.numbers.get(name), table.factors.get(name)
        for piece in storage.pieces(table.rows):
            missing = np.zeros(piece.stop - piece.start, np.bool_)
            if number is not None:
                missing |= np.isnan(number[piece])
            if factor is not None:
                missing |= factor.codes[piece] == MISSING
            count = int(np.count_nonzero(missing))
            if count:
                earlier = gaps.get(name, Gap(0, piece.start + int(np.argmax(missing))))
                gaps[name] = Gap(earlier.count + count, earlier.row)
                if complete is None:
                    complete = np.ones(table.rows, np.bool_)
                complete[piece] &= ~missing
    return complete, gaps
