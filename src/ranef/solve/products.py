"""All cross products of a factor, or of a chain of nested factors, from one pass over the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.design.pieces import Derived, FloatColumns, is_constant
from ranef.engine.threads import Engine
from ranef.kernel import cross as kernel
from ranef.solve.order import Ordered
from ranef.solve.rows import Block, CodeArray, FloatArray, Rows
from ranef.solve.shares import Share, shares
from ranef.storage import Storage

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Products:
    """Raw cross products of one factor; as in `ranef.solve.cross_products.FactorProducts` and ``Stage``."""

    gram: FloatArray
    offsets: IntArray
    columns: CodeArray
    values: FloatArray
    up: FloatArray


@dataclass(frozen=True, eq=False)
class _SideBySide:
    """Columns side by side, their content on the rows of a share; what is constant is not brought along.

    Attributes
    ----------
    parts : tuple of columns
    at : tuple of int
        Where each begins among the reals of a share.
    starts : int64 array, shape (parts + 1,)
        Where each begins here.
    """

    parts: tuple[FloatColumns, ...]
    at: tuple[int, ...]
    starts: IntArray

    def of(self, reals: FloatArray, root: FloatArray | None) -> FloatArray:
        """Content, times ``root`` (rows, 1) if there is one; shape (rows, all columns)."""
        out = np.empty((len(reals), int(self.starts[-1])))
        for part, at, start in zip(self.parts, self.at, self.starts, strict=False):
            width = part.shape[1]
            out[:, start : start + width] = part[0:1] if is_constant(part) else reals[:, at : at + width]
        if root is not None:
            out *= root
        return out


@dataclass(frozen=True, eq=False)
class _Work:
    """What every task of a pass needs.

    Attributes
    ----------
    chain : tuple of Ordered
    rest : tuple of Block
    levels, width, start : int64 arrays, shape (factors of the rest,)
        Of the rest; see `ranef.kernel.cross`.
    random : int
        First dense column.
    z, x : _SideBySide
        Covariates of the chain and of the rest; fixed effects and response.
    weighted : bool
        The last of a share's reals is the root of the weight.
    """

    chain: tuple[Ordered, ...]
    rest: tuple[Block, ...]
    levels: IntArray
    width: IntArray
    start: IntArray
    random: int
    z: _SideBySide
    x: _SideBySide
    weighted: bool

    @property
    def dense(self) -> int:
        return int(self.x.starts[-1])


def factor_products(
    rows: Rows, chain: Sequence[Ordered], rest: Sequence[tuple[Block, int]], random: int, engine: Engine
) -> list[Products]:
    """Products of factors with themselves, their ancestors, the rest and the dense columns.

    Parameters
    ----------
    rows : Rows
    chain : sequence of Ordered
        Factors, each nested in those after it and with the same families in its partitions; one may stand alone.
    rest : sequence of (Block, first column)
    random : int
        Where the dense columns (fixed effects, then the response) begin.
    engine : Engine

    Returns
    -------
    list of Products
        One for each factor of the chain.
    """
    blocks = tuple(block for block, _ in rest)
    bring: list[FloatColumns] = []
    covariates = [*(rows.blocks[one.block].covariates for one in chain), *(block.covariates for block in blocks)]
    z, x = _side_by_side(covariates, bring), _side_by_side([rows.x, _as_column(rows.y)], bring)
    root = rows.root_weights
    if root is not None:
        bring.append(root)
    work = _Work(
        chain=tuple(chain),
        rest=blocks,
        levels=np.array([block.levels for block in blocks], np.int64),
        width=np.array([block.size for block in blocks], np.int64),
        start=np.array([start for _, start in rest], np.int64),
        random=random,
        z=z,
        x=x,
        weighted=root is not None,
    )
    out = [_room(work, s, engine.storage) for s in range(len(chain))]
    first, last = 0, 0
    codes = [block.codes for block in blocks]
    for share in shares(chain[0].codes, chain[0].pointers, chain[0].partitions, codes, bring, engine):
        first, last = last, last + len(share.partitions)
        places = [engine.storage.scratch(share.codes.shape, np.int32) for _ in chain]
        tasks = [(work, out, share, places, p) for p in range(first, last)]
        engine.map(_count, tasks)
        for one, found in zip(chain, out, strict=True):
            levels = slice(one.partitions[first][0], one.partitions[last - 1][1] + 1)
            found.offsets[levels] = np.cumsum(found.offsets[levels])
        engine.map(_fill, tasks)
        # the next share takes its place
        del share, places, tasks
    return [_fitting(found, engine.storage) for found in out]


def _count(work: _Work, out: list[Products], share: Share, places: list[CodeArray], p: int) -> None:
    """Place the columns that the rows of a partition meet, and write how many a level has behind its offset."""
    rows = _rows(work, share, p)
    for one, found, place in zip(work.chain, out, places, strict=True):
        own = one.family[share.own[rows]]
        kernel.place_columns(
            *one.partitions[p], own, share.codes[rows], work.levels, work.width, work.dense, place[rows],
            found.offsets[1:],
        )  # fmt: skip


def _fill(work: _Work, out: list[Products], share: Share, places: list[CodeArray], p: int) -> None:
    rows = _rows(work, share, p)
    reals = share.reals[rows]
    root = reals[:, -1:] if work.weighted else None
    z, x = work.z.of(reals, root), work.x.of(reals, root)
    starts, count = work.z.starts, len(work.chain)
    for s, (one, found) in enumerate(zip(work.chain, out, strict=True)):
        own = one.family[share.own[rows]]
        mine, above = np.arange(starts[s], starts[s + 1]), np.arange(starts[s + 1], starts[count])
        kernel.cross_rows(
            *one.partitions[p], own, share.codes[rows], places[s][rows], work.start, work.width, work.random, z, mine,
            above, starts[count:-1], x, found.offsets, found.columns, found.values, found.gram, found.up,
        )  # fmt: skip


def _rows(work: _Work, share: Share, p: int) -> slice:
    """Where the rows of a partition are in its share."""
    (first, last), pointers = work.chain[0].partitions[p], work.chain[0].pointers
    return slice(int(pointers[first]) - share.origin, int(pointers[last]) - share.origin)


def _room(work: _Work, s: int, storage: Storage) -> Products:
    """Arrays for the products of one factor: for as many columns as its levels can meet."""
    one, k = work.chain[s], int(work.z.starts[s + 1] - work.z.starts[s])
    above = int(work.z.starts[len(work.chain)] - work.z.starts[s + 1])
    met = np.full(len(one.old), work.dense)
    for block in work.rest:
        met += block.size * np.minimum(np.diff(one.pointers), block.levels)
    most = int(met.sum())
    return Products(
        gram=np.empty((len(one.old), k, k)),
        offsets=np.zeros(len(one.old) + 1, np.int64),
        columns=storage.empty(most, np.int32),
        values=storage.empty(k * most),
        up=np.empty((len(one.old), k, above)),
    )


def _fitting(found: Products, storage: Storage) -> Products:
    """Without the room that was not needed, where that is much; a little is never touched and costs nothing."""
    used, k = int(found.offsets[-1]), found.gram.shape[1]
    columns, values = found.columns[:used], found.values[: k * used]
    if 2 * used < len(found.columns):
        smaller = storage.empty(used, np.int32), storage.empty(k * used)
        smaller[0][:], smaller[1][:] = columns, values
        columns, values = smaller
    return Products(found.gram, found.offsets, columns, values, found.up)


def _side_by_side(parts: Sequence[FloatColumns], bring: list[FloatColumns]) -> _SideBySide:
    """Adds to ``bring`` what a share has to bring along for these columns."""
    at = []
    for part in parts:
        at.append(sum(one.shape[1] for one in bring))
        if not is_constant(part):
            bring.append(part)
    return _SideBySide(tuple(parts), tuple(at), _cumulated([part.shape[1] for part in parts]))


def _as_column(y: FloatColumns) -> FloatColumns:
    return Derived((len(y), 1), lambda rows: y[rows][:, None])


def _cumulated(counts: Sequence[int]) -> IntArray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
