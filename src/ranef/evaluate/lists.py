"""The top of full rankings: who is listed where, and what that is worth when scores tie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ranef.table import FloatArray

# of many items, every fourth bounds the score of the last place
STRIDE = 4


@dataclass(frozen=True, eq=False)
class Lists:
    """The first ``depth`` places of each user's ranking.

    Items with equal scores are a group, in any order within it; places of a group are filled by chance.

    Attributes
    ----------
    items : int64 array, shape (users, depth)
        Equal scores in the order of the items; -1 where there is no candidate left.
    size, hits : float64 arrays, shape (users, depth)
        Items of the place's group, also beyond the last place, and how many of them are to be found.
    within : float64 array, shape (users, depth)
        The place within its group, from 1.
    above : float64 array, shape (users, depth)
        Items to be found in the groups above.
    wanted : int64 array, shape (users,)
        Items to be found.
    """

    items: npt.NDArray[np.int64]
    size: FloatArray
    hits: FloatArray
    within: FloatArray
    above: FloatArray
    wanted: npt.NDArray[np.int64]

    @cached_property
    def relevance(self) -> FloatArray:
        """Probability that the item at each place is to be found, shape (users, depth)."""
        return np.asarray(self.hits / self.size)

    def recall(self, k: int) -> FloatArray:
        """Expected hits of the first k places over ``min(k, wanted)``, shape (users,)."""
        return self._hits(k) / np.minimum(k, self.wanted)

    def precision(self, k: int) -> FloatArray:
        """Expected hits of the first k places over k."""
        return self._hits(k) / k

    def ndcg(self, k: int) -> FloatArray:
        """Expected sum of ``1 / log2(place + 1)`` over the hits, over what ``min(k, wanted)`` hits at the top have."""
        discount = 1 / np.log2(np.arange(k) + 2)
        ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(k, self.wanted)]
        return np.asarray(self.relevance[:, :k] @ discount[: self.relevance.shape[1]] / ideal)

    def map(self, k: int) -> FloatArray:
        """Expected sum over the hits of the precision at their places, over ``min(k, wanted)``."""
        others = np.maximum(self.size - 1, 1)
        # given that the item here is a hit, the other hits of the group are anywhere else in it
        sofar = self.above + 1 + (self.within - 1) * (self.hits - 1) / others
        places = np.arange(1, self.size.shape[1] + 1)
        found: FloatArray = (self.relevance * sofar / places)[:, :k].sum(axis=1) / np.minimum(k, self.wanted)
        return found

    def mrr(self, k: int) -> FloatArray:
        """Expected 1 / place of the first hit; 0 if it is not among the first k."""
        left = self.size - self.within + 1
        first = np.minimum(self.hits / left, 1.0)[:, :k]  # probability of a hit here if there was none before
        none = np.cumprod(1 - first, axis=1)
        before = np.concatenate([np.ones((len(first), 1)), none[:, :-1]], axis=1)
        found: FloatArray = (before * first / np.arange(1, first.shape[1] + 1)).sum(axis=1)
        return found

    def novelty(self, k: int, information: FloatArray) -> FloatArray:
        """Mean self-information of the items listed; ``information`` has shape (items,)."""
        listed = self.items[:, :k] >= 0
        total = np.where(listed, information[self.items[:, :k]], 0.0).sum(axis=1)
        return np.asarray(total / np.maximum(listed.sum(axis=1), 1))

    def listed(self, k: int) -> npt.NDArray[np.int64]:
        """The items in anybody's first k places, ascending."""
        found = np.unique(self.items[:, :k])
        return found[found >= 0]

    def _hits(self, k: int) -> FloatArray:
        total: FloatArray = self.relevance[:, :k].sum(axis=1)
        return total


def top_lists(scores: npt.NDArray[Any], seen: sparse.csr_array, test: sparse.csr_array, depth: int) -> Lists:
    """Rank every candidate: the items that a user has not seen and that have a score above minus infinity.

    Parameters
    ----------
    scores : float array, shape (users, items)
        Not NaN.
    seen, test : scipy.sparse.csr_array, shape (users, items)
        ``test`` holds no pair of ``seen``.
    depth : int
        Places wanted.
    """
    users, items = scores.shape
    cost = np.negative(scores)
    cost[_coordinates(seen)] = np.inf
    chosen = cost < np.inf
    if depth < items:
        # the last place among some of the items is no better than that among all: a bound, found in a part of the time
        some = cost[:, :: STRIDE if items > 4 * STRIDE * depth else 1]
        chosen &= cost <= np.partition(some, depth - 1, axis=1)[:, depth - 1 : depth]
    of, item = np.nonzero(chosen)  # more than depth of a user, all that tie with the last place among them
    value = cost[of, item]
    order = np.lexsort((item, value, of))
    of, item, value = of[order], item[order], value[order]
    wanted = np.diff(test.indptr).astype(np.int64)
    is_hit = _are_in(of, item, test)
    new = np.ones(len(of), np.bool_)
    new[1:] = (of[1:] != of[:-1]) | (value[1:] != value[:-1])
    starts = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    size = np.diff(np.append(starts, len(of)))
    hits = np.add.reduceat(is_hit.astype(np.float64), starts) if len(starts) else np.empty(0)
    begun = np.concatenate([[0.0], np.cumsum(hits)])[:-1]  # hits in all groups before, of earlier users too
    first_of_user = np.searchsorted(of, np.arange(users))
    place = np.arange(len(of)) - first_of_user[of]
    shown = place < depth
    at = of[shown], place[shown]
    here = group[shown]
    before_user = np.zeros(users)
    have = np.flatnonzero(np.bincount(of, minlength=users))
    before_user[have] = begun[group[first_of_user[have]]]

    def table(values: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        out = np.full((users, depth), fill, values.dtype)
        out[at] = values
        return out

    return Lists(
        items=table(item[shown], -1),
        size=table(size[here].astype(np.float64), 1),
        hits=table(hits[here], 0),
        within=table((np.arange(len(of)) - starts[group])[shown] + 1.0, 1),
        above=table(begun[here] - before_user[of[shown]], 0),
        wanted=wanted,
    )


def _coordinates(matrix: sparse.csr_array) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)), matrix.indices


def _are_in(
    rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], matrix: sparse.csr_array
) -> npt.NDArray[np.bool_]:
    """Which pairs are stored in the matrix."""
    there, items = _coordinates(matrix)
    keys = np.sort(there * matrix.shape[1] + items)
    if not len(keys):
        return np.zeros(len(rows), np.bool_)
    wanted = rows * matrix.shape[1] + columns
    return np.asarray(keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted)
