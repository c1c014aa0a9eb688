"""Rows brought together by partitions of a factor's levels, a share of the partitions at a time.

Partitions are ranges of levels, so that one thread can work on one without meeting another. The data are read in
their own order, once for each share: memory for a share of the rows is enough, and a disk is never searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.design.pieces import CodeColumns, Columns, FloatColumns
from ranef.engine.threads import Engine, Range
from ranef.kernel import sort as kernel
from ranef.solve.rows import CodeArray, FloatArray

IntArray = npt.NDArray[np.int64]

BYTES_A_SHARE = 1 << 27
MOST_SHARES = 16
ROWS_A_CHUNK = 65_536
MOST_TASKS = 512


@dataclass(frozen=True, eq=False)
class Share:
    """The rows of some neighbouring partitions, one partition after the other, in each those of the data in order.

    Attributes
    ----------
    partitions : sequence of (first, last)
        Ranges of levels.
    origin : int
        Number of rows in the shares before.
    own : int32 array, shape (rows,)
        Level of each row.
    codes : int32 array, shape (rows, any)
    reals : float64 array, shape (rows, any)
    """

    partitions: Sequence[Range]
    origin: int
    own: CodeArray
    codes: CodeArray
    reals: FloatArray


def shares(
    own: CodeColumns,
    pointers: IntArray,
    partitions: Sequence[Range],
    codes: Sequence[CodeColumns],
    reals: Sequence[FloatColumns],
    engine: Engine,
) -> Iterator[Share]:
    """All rows, share after share.

    Parameters
    ----------
    own : columns, shape (rows,)
        Level of each row in the factor whose levels are brought together.
    pointers : int64 array, shape (levels + 1,)
        Cumulated numbers of rows of the levels.
    partitions : sequence of (first, last)
        Ranges that cover the levels.
    codes, reals : sequences of columns
        What to bring along, side by side.
    engine : Engine
    """
    rows = len(own)
    partition = np.repeat(np.arange(len(partitions), dtype=np.int32), [last - first for first, last in partitions])
    size = max(ROWS_A_CHUNK, -(-rows // MOST_TASKS))
    tasks = [(start, min(start + size, rows)) for start in range(0, rows, size)]
    counts = np.zeros((len(tasks), len(partitions)), np.int64)

    def count(task: int) -> None:
        for piece in _chunks(*tasks[task]):
            kernel.count_partitions(own[piece], partition, counts[task])

    engine.map(count, [(task,) for task in range(len(tasks))])
    place = np.cumsum(counts, axis=0) - counts + pointers[[first for first, _ in partitions]]
    wide, far = sum(_width(one) for one in codes), sum(_width(one) for one in reals)
    parts = 1 + rows * (4 + 4 * wide + 8 * far) // BYTES_A_SHARE
    groups = np.array_split(np.arange(len(partitions)), min(len(partitions), parts, MOST_SHARES))
    for first, last in ((int(group[0]), int(group[-1]) + 1) for group in groups):
        lowest, highest = partitions[first][0], partitions[last - 1][1]
        origin, end = int(pointers[lowest]), int(pointers[highest])
        share = Share(
            partitions=partitions[first:last],
            origin=origin,
            own=engine.storage.scratch(end - origin, np.int32),
            codes=engine.storage.scratch((end - origin, wide), np.int32),
            reals=engine.storage.scratch((end - origin, far)),
        )
        place[:, first:last] -= origin

        def move(task: int, lowest: int = lowest, highest: int = highest, share: Share = share) -> None:
            chosen, to = np.empty(ROWS_A_CHUNK, np.int64), np.empty(ROWS_A_CHUNK, np.int64)
            for piece in _chunks(*tasks[task]):
                count = kernel.choose(own[piece], piece.start, partition, lowest, highest, place[task], chosen, to)
                numbers, places = chosen[:count], to[:count]
                kernel.put(own[numbers][:, None], places, share.own[:, None], 0)
                _bring(codes, numbers, places, share.codes)
                _bring(reals, numbers, places, share.reals)

        engine.map(move, [(task,) for task in range(len(tasks))])
        yield share
        # the next share takes its place
        del share, move


def _chunks(first: int, last: int) -> Iterator[slice]:
    return (slice(start, min(start + ROWS_A_CHUNK, last)) for start in range(first, last, ROWS_A_CHUNK))


def _bring(columns: Sequence[Columns[Any]], numbers: IntArray, places: IntArray, out: npt.NDArray[Any]) -> None:
    at = 0
    for one in columns:
        source = np.ascontiguousarray(one[numbers]).reshape(len(numbers), -1)
        kernel.put(source, places, out, at)
        at += source.shape[1]


def _width(columns: Columns[Any]) -> int:
    return 1 if len(columns.shape) == 1 else columns.shape[1]
