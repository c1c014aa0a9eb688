"""What is computed once from the rows: which factors are eliminated in which order, and all cross products.

A *stage* is an eliminated factor. The first is the largest, or what is nested in it; each later one holds the levels
of the one before, as the codes show (not the formula's syntax). Its block of the system stays block-diagonal after
the earlier stages are eliminated. The *rest* are the other factors and the dense columns: fixed effects, then the
response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine, Range, ranges
from ranef.kernel import cross as kernel
from ranef.kernel.sort import counting_order, parents_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]

ROWS_A_PARTITION = 16_384
MOST_PARTITIONS = 64
MOST_LANES = 8
ROWS_A_CHUNK = 65_536


@dataclass(frozen=True, eq=False)
class Block:
    """All random terms on one grouping factor, as the solver sees them.

    Attributes
    ----------
    codes : int32 array, shape (rows,)
        Level of each row, ``0 <= code < levels``; every level occurs.
    levels : int
    covariates : float64 array, shape (rows, k)
        What multiplies the ``k`` coefficients of the row's level.
    """

    codes: CodeArray
    levels: int
    covariates: FloatArray

    @property
    def size(self) -> int:
        return int(self.covariates.shape[1])


@dataclass(frozen=True, eq=False)
class Rows:
    """The model's rows: ``y = X beta + sum_t Z_t b_t + error``, variance of a row ``sigma^2 / weight``.

    Attributes
    ----------
    y : float64 array, shape (rows,)
    x : float64 array, shape (rows, p)
    blocks : tuple of Block
    weights : float64 array, shape (rows,), or None
        Positive.
    """

    y: FloatArray
    x: FloatArray
    blocks: tuple[Block, ...]
    weights: FloatArray | None = None


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

    @property
    def lanes(self) -> list[Range]:
        """Runs of partitions that share one buffer where a pass adds into the rest's columns."""
        cuts = np.array_split(np.arange(len(self.partitions)), min(MOST_LANES, len(self.partitions)))
        return [(self.partitions[cut[0]][0], self.partitions[cut[-1]][1]) for cut in cuts]


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


@dataclass(frozen=True, eq=False, kw_only=True)
class Kept(FactorProducts):
    """A factor that is not eliminated; its columns are those of later kept factors and the dense ones.

    Attributes
    ----------
    start : int
        Its first column in the rest: level by level, coefficient by coefficient.
    """

    start: int

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
    """

    rows: int
    stages: tuple[Stage, ...]
    kept: tuple[Kept, ...]
    random: int
    dense: FloatArray
    log_weights: float
    sizes: tuple[int, ...]
    levels: tuple[int, ...]

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
    """All cross products; O(rows) passes, then the rows are needed no more."""
    blocks = rows.blocks
    chain = elimination_order(blocks)
    kept = sorted(set(range(len(blocks))) - set(chain), key=lambda b: -blocks[b].levels)
    old_levels, codes = _renumber(blocks, chain)
    root = None if rows.weights is None else np.sqrt(rows.weights)
    starts = np.concatenate([[0], np.cumsum([blocks[b].levels * blocks[b].size for b in kept])]).astype(np.int64)
    stages: list[Stage] = []
    order, pointers = np.empty(0, np.int64), np.empty(0, np.int64)
    for s, b in enumerate(chain):
        if s == 0:
            order, pointers = counting_order(codes[0], blocks[b].levels)
        else:
            pointers = _pointers(codes[s], blocks[b].levels)
        partitions = _partitions(codes, chain, blocks, s, len(rows.y))
        above = [blocks[a] for a in chain[s + 1 :]]
        rest = [(blocks[f], int(starts[i])) for i, f in enumerate(kept)]
        found = _cross(rows, root, blocks[b], above, rest, int(starts[-1]), order, pointers, partitions, engine)
        stages.append(
            Stage(
                block=b,
                old=old_levels[s],
                ancestors=_ancestors(chain, codes, blocks, s),
                partitions=partitions,
                **found,
            )
        )
    kept_rows = []
    for i, b in enumerate(kept):
        order, pointers = counting_order(blocks[b].codes, blocks[b].levels)
        partitions = tuple(partition(pointers))
        rest = [(blocks[f], int(starts[i + 1 + j])) for j, f in enumerate(kept[i + 1 :])]
        found = _cross(rows, root, blocks[b], [], rest, int(starts[-1]), order, pointers, partitions, engine)
        del found["up"]
        kept_rows.append(Kept(block=b, start=int(starts[i]), partitions=partitions, **found))
    return CrossProducts(
        rows=len(rows.y),
        stages=tuple(stages),
        kept=tuple(kept_rows),
        random=int(starts[-1]),
        dense=_dense_products(rows, root),
        log_weights=0.0 if rows.weights is None else float(np.log(rows.weights).sum()),
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


def bands(columns: int) -> list[Range]:
    """Ranges of rows of a lower triangle of about equal size, to share among threads."""
    return ranges(np.arange(1, columns + 1), min(MOST_PARTITIONS, max(1, columns // 256)))


def _cross(
    rows: Rows,
    root: FloatArray | None,
    own: Block,
    above: Sequence[Block],
    rest: Sequence[tuple[Block, int]],
    random: int,
    order: IntArray,
    pointers: IntArray,
    partitions: Sequence[Range],
    engine: Engine,
) -> dict[str, Any]:
    """Products of one factor's columns with its ancestors', the rest's (block, first column) and the dense columns."""
    k, dense = own.size, rows.x.shape[1] + 1
    arrange = [own, *above, *(block for block, _ in rest)]
    z_start = np.concatenate([[0], np.cumsum([block.size for block in arrange])]).astype(np.int64)
    width = np.array([block.size for block, _ in rest], np.int64)
    level_start = np.concatenate([[0], np.cumsum([block.levels for block, _ in rest])]).astype(np.int64)
    column_start = np.concatenate(
        [*(start + block.size * np.arange(block.levels) for block, start in rest), [random]]
    ).astype(np.int64)

    def gather(first: int, last: int) -> tuple[int, IntArray, CodeArray]:
        take = order[pointers[first] : pointers[last]]
        codes = np.empty((len(take), len(rest)), np.int32)
        for f, (block, _) in enumerate(rest):
            codes[:, f] = block.codes[take]
        return int(pointers[first]), take, codes

    def count(first: int, last: int) -> None:
        origin, _, codes = gather(first, last)
        kernel.count_columns(first, last, origin, pointers, codes, level_start, width, dense, counts)

    counts = np.full(own.levels, dense, np.int64)
    if rest:
        engine.each(partitions, count)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    out: dict[str, Any] = {
        "gram": np.empty((own.levels, k, k)),
        "offsets": offsets,
        "columns": np.empty(offsets[-1], np.int32),
        "values": np.empty(k * offsets[-1]),
        "up": np.empty((own.levels, k, int(z_start[1 + len(above)] - k))),
    }

    def fill(first: int, last: int) -> None:
        origin, take, codes = gather(first, last)
        z = np.empty((len(take), int(z_start[-1])))
        for start, block in zip(z_start, arrange, strict=False):
            z[:, start : start + block.size] = block.covariates[take]
        x = np.empty((len(take), dense))
        x[:, :-1] = rows.x[take]
        x[:, -1] = rows.y[take]
        if root is not None:
            z *= root[take, None]
            x *= root[take, None]
        mine, theirs = np.arange(k), np.arange(k, z_start[1 + len(above)])
        kernel.cross_levels(
            first, last, origin, pointers, z, mine, theirs, codes, level_start, column_start,
            z_start[1 + len(above) : -1], x, offsets, out["columns"], out["values"], out["gram"], out["up"],
        )  # fmt: skip

    engine.each(partitions, fill)
    return out


def _dense_products(rows: Rows, root: FloatArray | None) -> FloatArray:
    p = rows.x.shape[1]
    out = np.zeros((p + 1, p + 1))
    for start in range(0, len(rows.y), ROWS_A_CHUNK):
        piece = slice(start, start + ROWS_A_CHUNK)
        chunk = np.column_stack([rows.x[piece], rows.y[piece]])
        if root is not None:
            chunk *= root[piece, None]
        out += chunk.T @ chunk
    return out


def elimination_order(blocks: Sequence[Block]) -> list[int]:
    """Blocks to eliminate, first to last: the one with most coefficients, within the chain of what nests with it."""
    if not blocks:
        return []
    parent_of = {}

    def nested(inner: int, outer: int) -> bool:
        if (inner, outer) not in parent_of:
            a, b = blocks[inner], blocks[outer]
            parent_of[inner, outer] = a.levels >= b.levels and len(parents_of(a.codes, b.codes, a.levels)) > 0
        return parent_of[inner, outer]

    largest = max(range(len(blocks)), key=lambda b: (blocks[b].levels * blocks[b].size, blocks[b].levels))
    chain = [largest]
    for b in sorted(set(range(len(blocks))) - {largest}, key=lambda b: -blocks[b].levels):
        for place in range(len(chain) + 1):
            if all(nested(inner, b) for inner in chain[:place]) and all(nested(b, outer) for outer in chain[place:]):
                chain.insert(place, b)
                break
    return chain


def _renumber(blocks: Sequence[Block], chain: Sequence[int]) -> tuple[list[IntArray], list[CodeArray]]:
    """Number the levels of each stage so that those of one family are neighbours; old codes, new codes of the rows."""
    old: list[IntArray] = []
    new: list[CodeArray] = []
    outer: CodeArray | None = None
    for b in reversed(chain):
        block = blocks[b]
        if outer is None:
            order = np.arange(block.levels)
            codes = block.codes
        else:
            parent = parents_of(block.codes, outer, block.levels)
            order = np.argsort(parent, kind="stable")
            rank = np.empty(block.levels, np.int32)
            rank[order] = np.arange(block.levels, dtype=np.int32)
            codes = rank[block.codes]
        old.insert(0, order)
        new.insert(0, codes)
        outer = codes
    return old, new


def _pointers(codes: CodeArray, levels: int) -> IntArray:
    return np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=levels))]).astype(np.int64)


def _ancestors(
    chain: Sequence[int], codes: Sequence[CodeArray], blocks: Sequence[Block], s: int
) -> tuple[Ancestor, ...]:
    out = []
    at = 0
    for t in range(s + 1, len(chain)):
        parent = parents_of(codes[s], codes[t], blocks[chain[s]].levels)
        out.append(Ancestor(t, parent, at, blocks[chain[t]].size))
        at += blocks[chain[t]].size
    return tuple(out)


def partition(pointers: IntArray) -> list[Range]:
    """Cut the levels of a factor into ranges of about equal numbers of rows."""
    return ranges(np.diff(pointers), _pieces(int(pointers[-1])))


def _pieces(rows: int) -> int:
    return int(np.clip(rows // ROWS_A_PARTITION, 1, MOST_PARTITIONS))


def _partitions(
    codes: Sequence[CodeArray], chain: Sequence[int], blocks: Sequence[Block], s: int, rows: int
) -> tuple[Range, ...]:
    """Ranges of levels of stage ``s`` that hold the same families as those of the last stage."""
    cuts = ranges(np.bincount(codes[-1], minlength=blocks[chain[-1]].levels), _pieces(rows))
    if s == len(chain) - 1:
        return tuple(cuts)
    parent = parents_of(codes[s], codes[-1], blocks[chain[s]].levels)
    return tuple((int(np.searchsorted(parent, a)), int(np.searchsorted(parent, b))) for a, b in cuts)
