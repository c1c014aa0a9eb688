"""The area under the ROC curve: over all rows, and within groups; ties count half, rows may have weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.table import FloatArray


@dataclass(frozen=True, eq=False)
class Placements:
    """Where each row stands among the rows of the other outcome.

    Attributes
    ----------
    area : float
        NaN without both outcomes.
    positive : float64 array, shape (rows,)
        Share of the negative weight with a lower score, ties half: the mean over positives is the area.
    negative : float64 array, shape (rows,)
        Share of the positive weight with a higher score, ties half: the mean over negatives is the area.
    """

    area: float
    positive: FloatArray
    negative: FloatArray


def placements(score: FloatArray, positive: FloatArray, negative: FloatArray) -> Placements:
    """Compare every positive with every negative, by sorting.

    Parameters
    ----------
    score : float64 array, shape (rows,)
    positive, negative : float64 arrays, shape (rows,)
        How often a row is one or the other.
    """
    distinct, place = np.unique(score, return_inverse=True)
    count = len(distinct)
    up = np.bincount(place, positive, count)
    down = np.bincount(place, negative, count)
    total_up, total_down = up.sum(), down.sum()
    if not (total_up > 0 and total_down > 0):
        return Placements(np.nan, np.full(len(score), np.nan), np.full(len(score), np.nan))
    below = (np.cumsum(down) - down / 2) / total_down
    above = 1.0 - (np.cumsum(up) - up / 2) / total_up
    return Placements(float(up @ below / total_up), below[place], above[place])


def areas_within(
    score: FloatArray, positive: FloatArray, negative: FloatArray, groups: npt.NDArray[np.integer], count: int
) -> FloatArray:
    """The area within each group, shape (count,); NaN where a group has one outcome only.

    Parameters
    ----------
    score, positive, negative : float64 arrays, shape (rows,)
    groups : integer array, shape (rows,)
        From 0 to ``count - 1``.
    count : int
    """
    order = np.lexsort((score, groups))
    group, value = groups[order], score[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (group[1:] != group[:-1]) | (value[1:] != value[:-1])
    starts = np.flatnonzero(new)
    if not len(starts):
        return np.full(count, np.nan)
    up, down = np.add.reduceat(positive[order], starts), np.add.reduceat(negative[order], starts)
    of = group[starts]
    total_up, total_down = np.bincount(of, up, count), np.bincount(of, down, count)
    before = np.concatenate([[0.0], np.cumsum(total_down)])[:-1][of]
    pairs = np.bincount(of, up * (np.cumsum(down) - down / 2 - before), count)
    areas = np.full(count, np.nan)
    np.divide(pairs, total_up * total_down, out=areas, where=(total_up > 0) & (total_down > 0))
    return areas
