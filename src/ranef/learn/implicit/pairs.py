"""Observed pairs, in the order of either side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Range, ranges
from ranef.kernel import sort

CodeArray = npt.NDArray[np.int32]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]

PARTITIONS = 64
# what a level costs besides its pairs, in pairs
LEVEL = 16


@dataclass(frozen=True, eq=False)
class Ordered:
    """The pairs level by level of one side: a sparse matrix by rows.

    Attributes
    ----------
    start : int64 array, shape (levels + 1,)
    partner : int32 array, shape (pairs,)
        Ascending within a level.
    confidence : float32 array, shape (pairs,)
    total : float64 array, shape (levels,)
        Sum of the confidences of each level.
    pieces : tuple of (int, int)
        Ranges of levels of about equal work; they depend on the data alone.
    """

    start: IntArray
    partner: CodeArray
    confidence: Vectors
    total: FloatArray
    pieces: tuple[Range, ...]

    @property
    def levels(self) -> int:
        return len(self.start) - 1


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which users have which items, and with what confidence; every pair once.

    Attributes
    ----------
    by_user, by_item : Ordered
    """

    by_user: Ordered
    by_item: Ordered

    @property
    def count(self) -> int:
        return len(self.by_user.partner)


def ordered_pairs(users: CodeArray, items: CodeArray, confidence: FloatArray | None, shape: tuple[int, int]) -> Pairs:
    """Pairs from rows; rows of the same pair add their confidences.

    Parameters
    ----------
    users, items : int32 arrays, shape (rows,)
    confidence : float64 array, shape (rows,), or None
        Positive; None: every row adds 1.
    shape : (int, int)
        Users and items.
    """
    size = np.ones(len(users)) if confidence is None else np.asarray(confidence, np.float64)
    # by item, then stably by user: items ascend within users
    start, partner, size = _sorted(items, users, size, shape[1])
    start, partner, size = _sorted(partner, _expanded(start), size, shape[0])
    owner = _expanded(start)
    repeated = np.flatnonzero((np.diff(owner) == 0) & (np.diff(partner) == 0)) + 1
    if len(repeated):
        first = np.ones(len(partner), np.bool_)
        first[repeated] = False
        size = np.add.reduceat(size, np.flatnonzero(first))
        owner, partner = owner[first], partner[first]
        start = _pointers(owner, shape[0])
    by_user = _ordered(start, partner, size)
    return Pairs(by_user, _ordered(*_sorted(partner, owner, size, shape[1])))


def some_users(pairs: Pairs, chosen: npt.NDArray[np.integer]) -> Pairs:
    """The pairs of some users, numbered anew in the order given; all items stay."""
    by_user = pairs.by_user
    counts = np.diff(by_user.start)[chosen]
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    places = np.arange(start[-1]) + np.repeat(by_user.start[:-1][chosen] - start[:-1], counts)
    return from_users(start, by_user.partner[places], by_user.confidence[places], pairs.by_item.levels)


def from_users(start: IntArray, partner: CodeArray, confidence: Vectors, items: int) -> Pairs:
    """Pairs that are in the order of the users, every pair once."""
    size = confidence.astype(np.float64)
    by_item = _sorted(partner, _expanded(start), size, items)
    return Pairs(_ordered(start, partner, size), _ordered(*by_item))


def _ordered(start: IntArray, partner: CodeArray, size: FloatArray) -> Ordered:
    counts = np.diff(start)
    total = np.bincount(np.repeat(np.arange(len(counts)), counts), size, len(counts)).astype(np.float64)
    pieces = ranges(counts + LEVEL, PARTITIONS)
    return Ordered(start, partner, size.astype(np.float32), total, tuple(pieces))


def _sorted(
    codes: CodeArray, partner: CodeArray, size: FloatArray, levels: int
) -> tuple[IntArray, CodeArray, FloatArray]:
    order = np.argsort(codes, kind="stable")
    return _pointers(codes, levels), partner[order], size[order]


def _pointers(codes: CodeArray, levels: int) -> IntArray:
    counts = np.zeros(levels, np.int64)
    sort.count_codes(codes, counts)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _expanded(start: IntArray) -> CodeArray:
    return np.repeat(np.arange(len(start) - 1, dtype=np.int32), np.diff(start))
