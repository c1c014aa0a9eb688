"""The units that the bootstrap draws: rows, or users with all their rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.table import FloatArray

# more units than this are brought together at random
MOST_UNITS = 10_000


@dataclass(frozen=True, eq=False)
class Units:
    """Rows and the units that they belong to.

    Attributes
    ----------
    codes : integer array, shape (rows,)
        The unit of each row, from 0; users in the order of their levels.
    count : int
        Units there are.
    piles : integer array, shape (count,)
        More units than the bootstrap draws are brought together at random into piles of about one size.
    pile_count : int
    """

    codes: npt.NDArray[np.integer]
    count: int
    piles: npt.NDArray[np.integer]
    pile_count: int

    def sums(self, *columns: FloatArray) -> FloatArray:
        """Columns of rows, shape (rows,), summed by pile; shape (piles, columns)."""
        of_row = self.piles[self.codes]
        return np.column_stack([np.bincount(of_row, column, self.pile_count) for column in columns])

    def sums_of_units(self, *columns: FloatArray) -> FloatArray:
        """Columns of units, shape (units,), summed by pile; shape (piles, columns)."""
        return np.column_stack([np.bincount(self.piles, column, self.pile_count) for column in columns])


def units_of(codes: npt.NDArray[np.integer] | None, rows: int, seed: int) -> Units:
    """Units from codes from 0 without gaps, shape (rows,); without codes each row is one.

    Notes
    -----
    More than 10,000 units are brought together at random into 10,000 piles. The variance of their sums stays, with an
    error of less than a percent in the standard error (random groups; Wolter 2007, Introduction to variance estimation,
    chapter 2).
    """
    codes_ = np.arange(rows) if codes is None else codes
    count = int(codes_.max(initial=-1)) + 1
    if count <= MOST_UNITS:
        return Units(codes_, count, np.arange(count), count)
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    return Units(codes_, count, random.permutation(count) % MOST_UNITS, MOST_UNITS)
