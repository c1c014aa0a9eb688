"""Rows that have every value, and which columns lack some."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.table.table import MISSING, Table

MISSING_IN_CSV = "missing in CSV files are empty fields, NA, N/A, NaN and null"


@dataclass(frozen=True)
class Gap:
    """Missing values of one column: how many rows, and the first of them."""

    count: int
    row: int


def complete_rows(table: Table) -> tuple[npt.NDArray[np.bool_], dict[str, Gap]]:
    """The rows without NaN in any number and without MISSING in any factor; UNKNOWN is not missing.

    Returns
    -------
    complete : bool array, shape (rows,)
    gaps : dict of str to Gap
        The columns that lack values; a row counts for every column in which it does.
    """
    complete = np.ones(table.rows, np.bool_)
    gaps: dict[str, Gap] = {}
    for name in dict.fromkeys([*table.numbers, *table.factors]):
        missing = np.zeros(table.rows, np.bool_)
        if name in table.numbers:
            missing |= np.isnan(table.numbers[name])
        if name in table.factors:
            missing |= table.factors[name].codes == MISSING
        count = int(np.count_nonzero(missing))
        if count:
            gaps[name] = Gap(count, int(np.argmax(missing)))
            complete &= ~missing
    return complete, gaps
