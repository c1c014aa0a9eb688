"""Lists of targets by entity: what somebody has, and is not to be recommended."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranef.score.rows import match
from ranef.score.topk import Lists
from ranef.table import CodeArray, Factor, Levels


def pair_lists(entity: tuple[str, Factor], target: tuple[str, Factor], entities: Levels, targets: Levels) -> Lists:
    """The targets of each entity, by their places; pairs of others are left out.

    Parameters
    ----------
    entity, target : pair of str and Factor
        The columns of a table of pairs with their names.
    entities, targets : Levels
        Whose lists are wanted, and of what.

    Returns
    -------
    start : int64 array, shape (entities + 1,); target : int32 array
        Ascending within an entity; a pair that the table has twice is there once.
    """
    row, place = match(entity[0], entity[1], entities), match(target[0], target[1], targets)
    kept = (row >= 0) & (place >= 0)
    return lists_of(row[kept], place[kept], len(entities), len(targets))


def lists_of(row: CodeArray, place: CodeArray, rows: int, places: int) -> Lists:
    """Distinct pairs as lists by row."""
    keys = np.unique(row.astype(np.int64) * places + place)
    start = np.searchsorted(keys, np.arange(rows + 1, dtype=np.int64) * places).astype(np.int64)
    return start, (keys % max(places, 1)).astype(np.int32)


def take_lists(lists: Lists, rows: npt.NDArray[np.integer]) -> Lists:
    """The lists of some rows, in their order; rows beyond the last have none."""
    start, target = lists
    inside = (rows >= 0) & (rows < len(start) - 1)
    first = start[:-1][np.where(inside, rows, 0)] if len(start) > 1 else np.zeros(len(rows), np.int64)
    count = np.where(inside, np.diff(start)[np.where(inside, rows, 0)], 0) if len(start) > 1 else first
    ends = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    place = np.arange(ends[-1]) + np.repeat(first - ends[:-1], count)
    return ends, target[place]


def joined_lists(one: Lists, other: Lists) -> Lists:
    """The targets of both, row by row; a target may stand twice."""
    rows = len(one[0]) - 1
    row = np.concatenate([np.repeat(np.arange(rows), np.diff(start)) for start, _ in (one, other)])
    order = np.argsort(row, kind="stable")
    return (one[0] + other[0]).astype(np.int64), np.concatenate([one[1], other[1]])[order]
