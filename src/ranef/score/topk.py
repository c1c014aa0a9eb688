"""The best targets of an entity: exact, by a scan in float32 whose errors are bounded, and scores in float64.

What an inner product in float32 can be off by is bounded by the lengths of the two vectors. So everything that could be
among the best is found by one threshold a row, block of targets by block, and only that is computed again in float64.
Targets come longest first: the threshold is high from the first block on, and where the length of a block's vectors
(Cauchy and Schwarz) keeps every row below its threshold the scan is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import engine

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]
# row pointers, shape (rows + 1,), and targets of each row
Lists: TypeAlias = tuple[IntArray, CodeArray]

# a block of scores stays in the cache
ROWS = 1024
TARGETS = 512
# rows that are scanned one by one, each against all targets at once
FEW = 4
# targets that share a maximum in such a scan
GROUP = 64
# the unit of rounding of float32
ROUNDING = 2.0**-24


@dataclass(frozen=True, eq=False)
class TargetIndex:
    """Targets in the order of a scan.

    Attributes
    ----------
    side : float64 array, shape (m, d)
        As given.
    centre : float64 array, shape (d,)
        What is taken from every target: it changes all scores of a row alike.
    place : int32 array, shape (listed,)
        Places in ``side``, longest first about the centre; without those that have no score.
    single : float32 array, shape (d, listed)
        Targets about the centre, in this order; a number of all of them lies together.
    length : float64 array, shape (listed,)
    """

    side: FloatArray
    centre: FloatArray
    place: CodeArray
    single: SingleArray
    length: FloatArray

    def only(self, allow: npt.NDArray[np.bool_]) -> TargetIndex:
        """The index without the targets, shape (m,), that are not allowed."""
        kept = allow[self.place]
        single = np.ascontiguousarray(self.single[:, kept])
        return replace(self, place=self.place[kept], single=single, length=self.length[kept])

    @cached_property
    def rank(self) -> CodeArray:
        """Where each target, shape (m,), stands in the scan; -1 where it does not."""
        rank = np.full(len(self.side), -1, np.int32)
        rank[self.place] = np.arange(len(self.place), dtype=np.int32)
        return rank


def index_targets(side: FloatArray) -> TargetIndex:
    """Prepare targets, shape (m, d), for `top_k`; those with a number that is not finite are never listed."""
    listed = np.flatnonzero(np.isfinite(side).all(axis=1))
    centre = side[listed].mean(axis=0) if len(listed) else np.zeros(side.shape[1])
    about = side[listed] - centre
    length = np.sqrt(np.einsum("md,md->m", about, about))
    order = np.argsort(-length, kind="stable")
    single = np.ascontiguousarray(about[order].astype(np.float32).T)
    return TargetIndex(side, centre, listed[order].astype(np.int32), single, length[order])


def top_k(
    rows: FloatArray, index: TargetIndex, k: int, seen: Lists | None = None, threads: int | None = 1
) -> tuple[CodeArray, FloatArray]:
    """The targets with the highest scores of each row, exactly; equal scores in the order of the targets.

    Parameters
    ----------
    rows : float64 array, shape (b, d)
    index : TargetIndex
    k : int
    seen : pair of int64 array, shape (b + 1,), and int32 array, optional
        Targets that are not listed for each row.
    threads : int, optional
        Batches of rows that are worked on at once; None for all cores.

    Returns
    -------
    target : int32 array, shape (b, k)
        -1 beyond the last that a row has.
    score : float64 array, shape (b, k)
        NaN there.
    """
    target = np.full((len(rows), k), -1, np.int32)
    score = np.full((len(rows), k), np.nan)
    if not len(index.place) or not len(rows):
        return target, score

    def work(first: int, last: int) -> None:
        own = None
        if seen is not None:
            start = seen[0][first : last + 1]
            place = index.rank[seen[1][start[0] : start[-1]]]
            at = np.repeat(np.arange(last - first), np.diff(start))
            own = at[place >= 0], place[place >= 0]
        scan = _few if last - first <= FEW else _batch
        target[first:last], score[first:last] = scan(rows[first:last], index, k, own)

    batches = [(first, min(first + ROWS, len(rows))) for first in range(0, len(rows), ROWS)]
    if len(batches) == 1:
        work(*batches[0])
        return target, score
    with engine(threads) as pool:
        pool.each(batches, work)
    return target, score


def _batch(
    rows: FloatArray, index: TargetIndex, k: int, seen: tuple[IntArray, CodeArray] | None
) -> tuple[CodeArray, FloatArray]:
    b = len(rows)
    single = rows.astype(np.float32)
    length, slack = _bounds(rows, index)
    best = np.full((b, k), -np.inf, np.float32)
    threshold = np.full(b, -np.inf, np.float32)
    found: list[tuple[IntArray, IntArray, SingleArray]] = []
    for columns, hidden in _blocks(len(index.place), seen):
        if columns.start and (length * index.length[columns.start] + slack < threshold).all():
            break
        scores = single @ index.single[:, columns]
        if hidden is not None:
            scores[hidden] = -np.inf
        open_rows = np.flatnonzero(np.isneginf(threshold))
        if len(open_rows):
            threshold[open_rows] = _below(_largest(scores[open_rows], k)[:, 0], slack[open_rows])
        row, column = _above(scores, threshold)
        if len(row):
            values = scores[row, column]
            found.append((row, column + columns.start, values))
            best = _merged(best, row, values, k)
            threshold = _below(best[:, 0], slack)
    return _rescored(rows, index, k, threshold, found)


def _few(
    rows: FloatArray, index: TargetIndex, k: int, seen: tuple[IntArray, CodeArray] | None
) -> tuple[CodeArray, FloatArray]:
    """As `_batch`, for the least time of one row: a product with all targets, and a threshold from maxima of groups."""
    slack = _bounds(rows, index)[1]
    threshold = np.full(len(rows), -np.inf, np.float32)
    found = []
    for r, row in enumerate(rows.astype(np.float32)):
        scores = row @ index.single
        if seen is not None:
            scores[seen[1][seen[0] == r]] = -np.inf
        whole = len(scores) // GROUP * GROUP
        # each maximum is a target of its own, so that the k-th of them is no higher than the k-th of all
        most = scores[:whole].reshape(GROUP, -1).max(axis=0) if whole >= k * GROUP else scores
        threshold[r : r + 1] = _below(_largest(most[None], k)[:, 0], slack[r : r + 1])
        column = np.flatnonzero(scores > threshold[r])
        found.append((np.full(len(column), r), column, scores[column]))
    return _rescored(rows, index, k, threshold, found)


def _bounds(rows: FloatArray, index: TargetIndex) -> tuple[FloatArray, FloatArray]:
    """Lengths of the rows, and by how much a product in float32 may be off for any target: rounding of both vectors and
    of the sum."""
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return length, (rows.shape[1] + 4) * ROUNDING * length * index.length[0]


def _blocks(
    targets: int, seen: tuple[IntArray, CodeArray] | None
) -> Iterator[tuple[slice, tuple[IntArray, CodeArray] | None]]:
    """Blocks of targets, and which of a block's scores are of targets that are not to be listed."""
    if seen is not None:
        row, place = seen
        order = np.argsort((place // TARGETS).astype(np.uint16), kind="stable")
        row, place = row[order], place[order]
        bounds = np.searchsorted(place // TARGETS, np.arange(-(-targets // TARGETS) + 1))
    for number, first in enumerate(range(0, targets, TARGETS)):
        columns = slice(first, min(first + TARGETS, targets))
        if seen is None:
            yield columns, None
            continue
        own = slice(bounds[number], bounds[number + 1])
        yield columns, (row[own], place[own] - first)


def _largest(scores: SingleArray, k: int) -> SingleArray:
    """The k largest of each row, the k-th first; -inf where there are fewer."""
    have = scores.shape[1]
    if have < k:
        return np.concatenate([np.full((len(scores), k - have), -np.inf, np.float32), np.sort(scores, axis=1)], axis=1)
    found: SingleArray = np.partition(scores, have - k, axis=1)[:, have - k :]
    return found


def _below(kth: SingleArray, slack: FloatArray) -> SingleArray:
    """What a score in float32 is above if it could be among the best: twice the error below the k-th, which may be
    rated too high where another is rated too low."""
    lowered = (kth.astype(np.float64) - 2 * slack).astype(np.float32)
    found: SingleArray = np.nextafter(lowered, np.float32(-np.inf))
    return found


def _above(scores: SingleArray, threshold: SingleArray) -> tuple[IntArray, IntArray]:
    """Rows and columns of the scores above their row's threshold, by rows."""
    above = (scores > threshold[:, None]).reshape(-1)
    if len(above) % 8:
        flat = np.flatnonzero(above)
    else:
        # few are: eight at a time
        words = np.flatnonzero(above.view(np.uint64))
        word, bit = np.nonzero(above.reshape(-1, 8)[words])
        flat = words[word] * 8 + bit
    row, column = np.divmod(flat, scores.shape[1])
    return row, column


def _merged(best: SingleArray, row: IntArray, values: SingleArray, k: int) -> SingleArray:
    """The k largest of each row with further values; ``row`` ascending."""
    met, first, count = np.unique(row, return_index=True, return_counts=True)
    place = np.repeat(np.arange(len(met)), count)
    padded = np.full((len(met), int(count.max())), -np.inf, np.float32)
    padded[place, np.arange(len(row)) - np.repeat(first, count)] = values
    out = best.copy()
    out[met] = _largest(np.concatenate([best[met], padded], axis=1), k)
    return out


def _rescored(
    rows: FloatArray,
    index: TargetIndex,
    k: int,
    threshold: SingleArray,
    found: list[tuple[IntArray, IntArray, SingleArray]],
) -> tuple[CodeArray, FloatArray]:
    """The best of what was found, by scores in float64."""
    if not found:
        return np.full((len(rows), k), -1, np.int32), np.full((len(rows), k), np.nan)
    row, column, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    kept = values > threshold[row]
    row, place = row[kept], index.place[column[kept]]
    return first_of_each(row, place, np.einsum("nd,nd->n", rows[row], index.side[place]), len(rows), k)


def first_of_each(
    row: npt.NDArray[np.integer], place: npt.NDArray[np.integer], score: FloatArray, rows: int, k: int
) -> tuple[CodeArray, FloatArray]:
    """The k best of each row's candidates, by score and then by place.

    Returns
    -------
    target : int32 array, shape (rows, k); score : float64 array, shape (rows, k)
        -1 and NaN beyond the last.
    """
    target, best = np.full((rows, k), -1, np.int32), np.full((rows, k), np.nan)
    order = np.lexsort((place, -score, row))
    row, place, score = row[order], place[order], score[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    listed = rank < k
    target[row[listed], rank[listed]] = place[listed]
    best[row[listed], rank[listed]] = score[listed]
    return target, best
