"""Recommendations of two towers: the best targets of some entities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.score.lists import joined_lists, take_lists
from ranef.score.topk import Lists, TargetIndex, first_of_each, top_k
from ranef.score.towers import Towers
from ranef.table import CodeArray, FloatArray

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Ranked:
    """The best targets of each entity.

    Attributes
    ----------
    target : int32 array, shape (entities, k)
        Places among the towers' targets; -1 beyond the last.
    score : float64 array, shape (entities, k)
        Linear predictors, descending; NaN beyond the last.
    """

    target: CodeArray
    score: FloatArray


def ranked(
    towers: Towers,
    index: TargetIndex,
    entities: npt.NDArray[np.integer],
    k: int,
    *,
    seen: Lists | None = None,
    threads: int | None = 1,
    rows: FloatArray | None = None,
) -> Ranked:
    """The best targets of some entities, exactly; ties in the order of the targets.

    Parameters
    ----------
    towers : Towers
    index : TargetIndex
        Of the towers' targets, or of those that are allowed.
    entities : integer array, shape (b,)
        Places; -1 of one that is not known.
    k : int
    seen : pair of int64 array, shape (b + 1,), and int32 array, optional
        Targets that are not to be listed, by row.
    threads : int, optional
        None for all cores.
    rows : float64 array, shape (b, d), optional
        The entities' vectors; default: those of the towers.
    """
    own = towers.entity_side[entities] if rows is None else rows
    if towers.pairs is None:
        return Ranked(*top_k(own, index, k, seen, threads))
    # targets with something of the pair are scored by themselves, all others by the scan
    special = take_lists((towers.pairs.start, towers.pairs.target), entities)
    value = take_lists((towers.pairs.start, np.arange(len(towers.pairs.value), dtype=np.int32)), entities)[1]
    target, score = top_k(own, index, k, special if seen is None else joined_lists(special, seen), threads)
    row = np.repeat(np.arange(len(own)), np.diff(special[0]))
    place = special[1]
    exact = np.einsum("nd,nd->n", own[row], towers.target_side[place]) + towers.pairs.value[value]
    listed = np.zeros(len(towers.targets), np.bool_)
    listed[index.place] = True
    kept = listed[place] & ~np.isnan(exact)
    if seen is not None:
        width = len(towers.targets)
        hidden = np.repeat(np.arange(len(own)), np.diff(seen[0])) * width + seen[1]
        kept &= ~np.isin(row * width + place, hidden)
    both = target >= 0
    at = np.concatenate([np.nonzero(both)[0], row[kept]])
    place, exact = np.concatenate([target[both], place[kept]]), np.concatenate([score[both], exact[kept]])
    return Ranked(*first_of_each(at, place, exact, len(own), k))
