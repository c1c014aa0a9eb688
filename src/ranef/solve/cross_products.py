"""What is computed once from the rows: which factors are eliminated in which order, and all cross products.

A *stage* is an eliminated factor. The first is the largest, or what is nested in it; each later one holds the levels
of the one before, as the codes show (not the formula's syntax). Its block of the system stays block-diagonal after
the earlier stages are eliminated. The *rest* are the other factors and the dense columns: fixed effects, then the
response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine, Range, ranges
from ranef.errors import FitError
from ranef.kernel import cross as kernel
from ranef.kernel.dense import mirror
from ranef.kernel.sort import counting_order, parents_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]

ROWS_A_PARTITION = 16_384
MOST_PARTITIONS = 64
MOST_DENSE_COLUMNS = 16_000


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


@dataclass(frozen=True, eq=False)
class Stage:
    """Raw cross products of one eliminated factor, its levels in the order of elimination.

    Attributes
    ----------
    block : int
        Which of the model's blocks.
    old : int64 array, shape (levels,)
        The block's own code of each level here.
    gram : float64 array, shape (levels, k, k)
        Z'WZ of each level.
    offsets : int64 array, shape (levels + 1,); columns : int32 array; values : float64 array
        The rest's columns that meet each level and the products with them; see `ranef.kernel.cross`.
    up : float64 array, shape (levels, k, coefficients of the ancestors)
    ancestors : tuple of Ancestor
    partitions : tuple of (first, last)
        Ranges of levels; those of a later stage hold whole families of the earlier ones.
    """

    block: int
    old: IntArray
    gram: FloatArray
    offsets: IntArray
    columns: CodeArray
    values: FloatArray
    up: FloatArray
    ancestors: tuple[Ancestor, ...]
    partitions: tuple[Range, ...]

    @property
    def size(self) -> int:
        return int(self.gram.shape[1])

    @property
    def levels(self) -> int:
        return int(self.gram.shape[0])


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """All cross products of a model's rows.

    Attributes
    ----------
    rows : int
    stages : tuple of Stage
        In the order of elimination.
    kept : tuple of int
        Blocks that are not eliminated; their columns come first in ``rest``.
    kept_columns : tuple of slice
        Columns of each kept block in ``rest``: level by level.
    random : int
        Columns of all kept blocks together.
    fixed : int
        Fixed effects ``p``; the response is the last column.
    rest : float64 array, shape (random + fixed + 1,) * 2
        Symmetric raw cross products of the rest.
    bands : tuple of (lowest, highest)
        Ranges of rows of ``rest`` of about equal work.
    log_weights : float
        Sum of the logarithms of the weights.
    sizes, levels : tuple of int
        Coefficients a level and levels of each block.
    """

    rows: int
    stages: tuple[Stage, ...]
    kept: tuple[int, ...]
    kept_columns: tuple[slice, ...]
    random: int
    fixed: int
    rest: FloatArray
    bands: tuple[Range, ...]
    log_weights: float
    sizes: tuple[int, ...]
    levels: tuple[int, ...]


def cross_products(rows: Rows, engine: Engine) -> CrossProducts:
    """All cross products that the exact path needs; O(rows) passes, then the rows are needed no more.

    Raises
    ------
    FitError
        If the factors that cannot be eliminated need a dense matrix that is too large.
    """
    blocks = rows.blocks
    chain = elimination_order(blocks)
    kept = tuple(b for b in range(len(blocks)) if b not in chain)
    _check_size(blocks, kept)
    old_levels, codes = _renumber(blocks, chain)
    order, pointers = (
        counting_order(codes[0], blocks[chain[0]].levels) if chain else (np.arange(len(rows.y)), np.zeros(1, np.int64))
    )
    root = None if rows.weights is None else np.sqrt(rows.weights)[order]
    arrange = [*chain, *kept]
    widths = np.array([blocks[b].size for b in arrange], dtype=np.int64)
    z_start = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
    z = np.empty((len(order), int(z_start[-1])))
    for at, b in zip(z_start, arrange, strict=False):
        np.take(blocks[b].covariates, order, axis=0, out=z[:, at : at + blocks[b].size])
    dense = np.concatenate([rows.x, rows.y[:, None]], axis=1)[order]
    if root is not None:
        z *= root[:, None]
        dense *= root[:, None]
    rest_codes = np.empty((len(order), len(kept)), np.int32)
    for f, b in enumerate(kept):
        np.take(blocks[b].codes, order, out=rest_codes[:, f])
    level_start = np.concatenate([[0], np.cumsum([blocks[b].levels for b in kept])]).astype(np.int64)
    column_start = np.concatenate(
        [[0], np.cumsum(np.repeat(widths[len(chain) :], [blocks[b].levels for b in kept]))]
    ).astype(np.int64)
    rest_z = z_start[len(chain) : -1]
    random = int(column_start[-1])

    stages = []
    for s, b in enumerate(chain):
        stage_pointers = pointers if s == 0 else _pointers(codes[s][order], blocks[b].levels)
        ancestors = _ancestors(chain, codes, blocks, s)
        partitions = _partitions(codes, order, chain, blocks, s, len(rows.y))
        args = (rest_codes, level_start)
        counts = np.zeros(blocks[b].levels, np.int64)
        engine.each(
            partitions, kernel.count_columns, stage_pointers, *args, widths[len(chain) :], dense.shape[1], counts
        )
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        k = blocks[b].size
        columns = np.empty(offsets[-1], np.int32)
        values = np.empty(k * offsets[-1])
        gram = np.empty((blocks[b].levels, k, k))
        own = np.arange(z_start[s], z_start[s + 1])
        above = np.arange(z_start[s + 1], z_start[len(chain)])
        up = np.empty((blocks[b].levels, k, len(above)))
        engine.each(
            partitions,
            kernel.cross_levels,
            stage_pointers,
            z,
            own,
            above,
            *args,
            column_start,
            rest_z,
            dense,
            offsets,
            columns,
            values,
            gram,
            up,
        )
        stages.append(Stage(b, old_levels[s], gram, offsets, columns, values, up, ancestors, partitions))

    rest = np.zeros((random + dense.shape[1],) * 2)
    rest[random:, random:] = dense.T @ dense
    bands = tuple(ranges(np.arange(1, len(rest) + 1), min(MOST_PARTITIONS, max(1, len(rest) // 64))))
    if kept:
        # each band reads all rows, so few bands
        few = ranges(np.arange(1, len(rest) + 1), 4)
        engine.each(few, kernel.cross_rest, z, rest_codes, level_start, column_start, rest_z, dense, rest)
        engine.each(bands, mirror, rest)
    kept_columns = tuple(slice(int(column_start[a]), int(column_start[b])) for a, b in pairwise(level_start))
    return CrossProducts(
        rows=len(rows.y),
        stages=tuple(stages),
        kept=kept,
        kept_columns=kept_columns,
        random=random,
        fixed=rows.x.shape[1],
        rest=rest,
        bands=bands,
        log_weights=0.0 if rows.weights is None else float(np.log(rows.weights).sum()),
        sizes=tuple(b.size for b in blocks),
        levels=tuple(b.levels for b in blocks),
    )


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


def _check_size(blocks: Sequence[Block], kept: Sequence[int]) -> None:
    columns = sum(blocks[b].levels * blocks[b].size for b in kept)
    if columns > MOST_DENSE_COLUMNS:
        raise FitError(
            f"the grouping factors besides the largest have {columns:,} random effects together; the exact solver "
            f"takes at most {MOST_DENSE_COLUMNS:,} (it factorises a dense matrix of that size). "
            "Fit a sample of their levels, or fewer crossed factors."
        )


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


def _partitions(
    codes: Sequence[CodeArray],
    order: IntArray,
    chain: Sequence[int],
    blocks: Sequence[Block],
    s: int,
    rows: int,
) -> tuple[Range, ...]:
    """Ranges of levels of stage ``s`` that hold the same families as those of the last stage."""
    top = np.bincount(codes[-1], minlength=blocks[chain[-1]].levels)
    pieces = int(np.clip(rows // ROWS_A_PARTITION, 1, MOST_PARTITIONS))
    cuts = ranges(top, pieces)
    if s == len(chain) - 1:
        return tuple(cuts)
    parent = parents_of(codes[s], codes[-1], blocks[chain[s]].levels)
    return tuple((int(np.searchsorted(parent, a)), int(np.searchsorted(parent, b))) for a, b in cuts)
