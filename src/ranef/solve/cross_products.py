"""What is computed once from the rows: which factors are eliminated in which order, and all cross products.

A *stage* is an eliminated factor. The first is the largest, or what is nested in it; each later one holds the levels
of the one before, as the codes show (not the formula's syntax). Its block of the system stays block-diagonal after
the earlier stages are eliminated. The *rest* are the other factors and the dense columns: fixed effects, then the
response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine, Range, ranges
from ranef.kernel import cross as kernel
from ranef.solve.folding import Folding, fold
from ranef.solve.order import MOST_PARTITIONS, Nesting, Ordered, nesting, ordered_alone, ordered_stages, rows_of_levels
from ranef.solve.products import Products, factor_products
from ranef.solve.rows import Block, Rows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]

MOST_LANES = 8
COLUMNS_A_PIECE = 1 << 21
ROWS_A_CHUNK = 65_536


@dataclass(frozen=True, eq=False)
class Ancestor:
    """A later stage that an earlier one is nested in.

    Attributes
    ----------
    stage : int
    parent : int32 array, shape (levels of the earlier stage,)
    at : int
        Where its coefficients begin among those of all ancestors.
    size : int
    """

    stage: int
    parent: CodeArray
    at: int
    size: int


@dataclass(frozen=True, eq=False, kw_only=True)
class FactorProducts:
    """Raw cross products of one factor with itself and with the rest's later columns.

    Attributes
    ----------
    block : int
        Which of the model's blocks.
    gram : float64 array, shape (levels, k, k)
        Z'WZ of each level.
    offsets : int64 array, shape (levels + 1,); columns : int32 array; values : float64 array
        The rest's columns that meet each level and the products with them; see `ranef.kernel.cross`.
    partitions : tuple of (first, last)
        Ranges of levels of about equal numbers of rows.
    """

    block: int
    gram: FloatArray
    offsets: IntArray
    columns: CodeArray
    values: FloatArray
    partitions: tuple[Range, ...]

    @property
    def size(self) -> int:
        """Coefficients of a level."""
        return int(self.gram.shape[1])

    @property
    def levels(self) -> int:
        return int(self.gram.shape[0])

    @cached_property
    def lanes(self) -> list[list[Range]]:
        """Ranges of levels that share one buffer where a pass adds into the rest's columns."""
        return [
            [
                (self.partitions[cut[0]][0], self.partitions[cut[-1]][1])
                for cut in np.array_split(lane, self._pieces(lane))
            ]
            for lane in np.array_split(np.arange(len(self.partitions)), min(MOST_LANES, len(self.partitions)))
        ]

    def _pieces(self, lane: IntArray) -> int:
        """How many pieces of work a lane is, so that one takes little memory of the disk's."""
        first, last = self.partitions[lane[0]][0], self.partitions[lane[-1]][1]
        return int(np.clip((self.offsets[last] - self.offsets[first]) // COLUMNS_A_PIECE, 1, len(lane)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Stage(FactorProducts):
    """An eliminated factor, its levels in the order of elimination; its partitions hold whole families of levels.

    Attributes
    ----------
    old : int64 array, shape (levels,)
        The block's own code of each level here.
    up : float64 array, shape (levels, k, coefficients of the ancestors)
        Products with the ancestors' coefficients.
    ancestors : tuple of Ancestor
    """

    old: IntArray
    up: FloatArray
    ancestors: tuple[Ancestor, ...]

    @cached_property
    def in_order(self) -> bool:
        """Whether the levels stand in the block's own order."""
        return bool(np.array_equal(self.old, np.arange(len(self.old))))


@dataclass(frozen=True, eq=False, kw_only=True)
class Kept(FactorProducts):
    """A factor that is not eliminated; its columns are those of later kept factors and the dense ones.

    Attributes
    ----------
    start : int
        Its first column in the rest: level by level, coefficient by coefficient.
    coupled : bool
        Rows belong to several of its levels: among the columns are those of its own later levels.
    """

    start: int
    coupled: bool = False

    @property
    def place(self) -> slice:
        """Its columns in the rest."""
        return slice(self.start, self.start + self.levels * self.size)


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """All cross products of a model's rows.

    Attributes
    ----------
    rows : int
    stages : tuple of Stage
        In the order of elimination.
    kept : tuple of Kept
        The other factors; their columns come first in the rest.
    random : int
        Columns of all kept factors together.
    dense : float64 array, shape (p + 1, p + 1)
        Products among the fixed effects and the response, which are the last columns of the rest.
    log_weights : float
        Sum of the logarithms of the weights.
    sizes, levels : tuple of int
        Coefficients a level and levels of each block.
    folding : Folding or None
        From units to levels, where a factor has a membership.
    """

    rows: int
    stages: tuple[Stage, ...]
    kept: tuple[Kept, ...]
    random: int
    dense: FloatArray
    log_weights: float
    sizes: tuple[int, ...]
    levels: tuple[int, ...]
    folding: Folding | None = None

    @property
    def factors(self) -> tuple[FactorProducts, ...]:
        """All factors: the eliminated ones, then the others."""
        return (*self.stages, *self.kept)

    @property
    def fixed(self) -> int:
        """Fixed effects ``p``."""
        return len(self.dense) - 1

    @property
    def columns(self) -> int:
        """Columns of the rest: kept factors, fixed effects and the response."""
        return self.random + len(self.dense)

    @property
    def square(self) -> float:
        """Weighted sum of squares of the response."""
        return float(self.dense[-1, -1])


def cross_products(rows: Rows, engine: Engine) -> CrossProducts:
    """All cross products; a few passes over the rows, which are needed no more."""
    chain = nesting(rows.blocks, engine.storage)
    levels = {b: rows.blocks[b].levels for b in rows.memberships}
    return fold(_products_by_unit(rows.by_unit, chain, engine), rows.memberships, levels, engine)


def _products_by_unit(rows: Rows, chain: Nesting, engine: Engine) -> CrossProducts:
    blocks = rows.blocks
    kept = sorted(set(range(len(blocks))) - set(chain.order), key=lambda b: -blocks[b].levels)
    counts = rows_of_levels(blocks, engine)
    starts = np.concatenate([[0], np.cumsum([blocks[b].levels * blocks[b].size for b in kept])]).astype(np.int64)
    random = int(starts[-1])
    stages = []
    if chain.order:
        ordered = ordered_stages(blocks, chain, counts)
        rest = [(blocks[f], int(starts[i])) for i, f in enumerate(kept)]
        for s, found in enumerate(factor_products(rows, ordered, rest, random, engine)):
            stages.append(
                Stage(
                    block=ordered[s].block,
                    old=ordered[s].old,
                    up=found.up,
                    ancestors=_ancestors(ordered, s, blocks, chain),
                    partitions=ordered[s].partitions,
                    **_shared(found),
                )
            )
    others = []
    for i, b in enumerate(kept):
        alone = ordered_alone(blocks[b], b, counts[b])
        rest = [(blocks[f], int(starts[i + 1 + j])) for j, f in enumerate(kept[i + 1 :])]
        (found,) = factor_products(rows, [alone], rest, random, engine)
        others.append(Kept(block=b, start=int(starts[i]), partitions=alone.partitions, **_shared(found)))
    return CrossProducts(
        rows=len(rows.y),
        stages=tuple(stages),
        kept=tuple(others),
        random=random,
        dense=_dense_products(rows, engine),
        log_weights=_log_weights(rows, engine),
        sizes=tuple(b.size for b in blocks),
        levels=tuple(b.levels for b in blocks),
    )


def dense_rest(cross: CrossProducts, engine: Engine) -> FloatArray:
    """Cross products of the rest as one lower triangle, shape (columns, columns)."""
    out = np.zeros((cross.columns, cross.columns))
    for kept in cross.kept:
        engine.each(
            kept.partitions, kernel.densify, kept.start, kept.gram, kept.offsets, kept.columns, kept.values, out
        )
    out[cross.random :, cross.random :] = cross.dense
    return out


def last_products(factor: FactorProducts, count: int, engine: Engine) -> FloatArray:
    """Each level's products with the last dense columns, shape (levels, k, count); the very last is the response."""
    k, offsets = factor.size, factor.offsets
    out = np.empty((factor.levels, k, count))

    def copy(first: int, last: int) -> None:
        wide = np.diff(offsets[first : last + 1])[:, None, None]
        ends = k * offsets[first:last, None, None] + np.arange(1, k + 1)[:, None] * wide
        out[first:last] = factor.values[ends + np.arange(-count, 0)]

    engine.each(factor.partitions, copy)
    return out


def bands(columns: int) -> list[Range]:
    """Ranges of rows of a lower triangle of about equal size, to share among threads."""
    return ranges(np.arange(1, columns + 1), min(MOST_PARTITIONS, max(1, columns // 256)))


def _shared(found: Products) -> dict[str, Any]:
    return {"gram": found.gram, "offsets": found.offsets, "columns": found.columns, "values": found.values}


def _ancestors(ordered: Sequence[Ordered], s: int, blocks: Sequence[Block], chain: Nesting) -> tuple[Ancestor, ...]:
    out = []
    at = 0
    for t in range(s + 1, len(ordered)):
        parent = ordered[t].rank[chain.parents[ordered[s].block, ordered[t].block][ordered[s].old]]
        size = blocks[ordered[t].block].size
        out.append(Ancestor(t, parent, at, size))
        at += size
    return tuple(out)


def _dense_products(rows: Rows, engine: Engine) -> FloatArray:
    root = rows.root_weights

    def product(first: int, last: int) -> FloatArray:
        piece = slice(first, last)
        chunk = np.column_stack([rows.x[piece], rows.y[piece]])
        if root is not None:
            chunk *= root[piece]
        return np.asarray(chunk.T @ chunk)

    p = rows.x.shape[1]
    return sum(engine.each(_chunks(len(rows.y)), product), np.zeros((p + 1, p + 1)))


def _log_weights(rows: Rows, engine: Engine) -> float:
    weights = rows.weights
    if weights is None:
        return 0.0
    return sum(engine.each(_chunks(len(weights)), lambda first, last: float(np.log(weights[first:last]).sum())), 0.0)


def _chunks(rows: int) -> list[Range]:
    return [(start, min(start + ROWS_A_CHUNK, rows)) for start in range(0, rows, ROWS_A_CHUNK)]
