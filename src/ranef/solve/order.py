"""Which factors are eliminated in which order, and how their levels are numbered and cut into partitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.design.pieces import CodeColumns, Derived
from ranef.engine.threads import Engine, Range, ranges
from ranef.kernel import sort as kernel
from ranef.solve.rows import Block, CodeArray
from ranef.storage import MEMORY, Storage

IntArray = npt.NDArray[np.int64]

ROWS_A_PARTITION = 16_384
# up to this many partitions there are more of them rather than larger ones; beyond, both grow
MOST_PARTITIONS = 64
MOST_ROWS_A_PARTITION = 1 << 18


@dataclass(frozen=True, eq=False)
class Nesting:
    """Blocks to eliminate, first to last, and the parents of their levels.

    Attributes
    ----------
    order : tuple of int
        Each block is nested in those after it.
    parents : mapping of (inner, outer) to int32 array, shape (levels of the inner block,)
        The level of the outer block that each level of the inner one lies in, both by their own codes.
    """

    order: tuple[int, ...]
    parents: Mapping[tuple[int, int], CodeArray]


@dataclass(frozen=True, eq=False)
class Ordered:
    """A factor with its levels numbered as they are worked on.

    Attributes
    ----------
    block : int
    old : int64 array, shape (levels,)
        The block's own code of each level here.
    rank : int32 array, shape (levels,)
        The level here of each of the block's own codes.
    family : int32 array, shape (levels of the chain's first factor,)
        The level here that each of those lies in.
    codes : columns, shape (rows,)
    pointers : int64 array, shape (levels + 1,)
        Cumulated numbers of rows.
    partitions : tuple of (first, last)
        Ranges of levels of about equal numbers of rows.
    """

    block: int
    old: IntArray
    rank: CodeArray
    family: CodeArray
    codes: CodeColumns
    pointers: IntArray
    partitions: tuple[Range, ...]


def nesting(blocks: Sequence[Block], storage: Storage = MEMORY) -> Nesting:
    """The block with most coefficients, within the chain of what nests with it; the codes say what is nested.

    Blocks with a membership, whose levels meet each other, are left out.
    """
    alone = [b for b, block in enumerate(blocks) if block.membership is None]
    if not alone:
        return Nesting((), {})
    parents: dict[tuple[int, int], CodeArray | None] = {}

    def nested(inner: int, outer: int) -> bool:
        if (inner, outer) not in parents:
            parents[inner, outer] = _parents(blocks[inner], blocks[outer], storage)
        return parents[inner, outer] is not None

    largest = max(alone, key=lambda b: (blocks[b].levels * blocks[b].size, blocks[b].levels))
    chain = [largest]
    for b in sorted(set(alone) - {largest}, key=lambda b: -blocks[b].levels):
        for place in range(len(chain) + 1):
            if all(nested(inner, b) for inner in chain[:place]) and all(nested(b, outer) for outer in chain[place:]):
                chain.insert(place, b)
                break
    return Nesting(tuple(chain), {pair: found for pair, found in parents.items() if found is not None})


def rows_of_levels(blocks: Sequence[Block], engine: Engine) -> list[IntArray]:
    """Number of rows of each level of each block."""

    def count(block: Block) -> IntArray:
        counts = np.zeros(block.levels, np.int64)
        for piece in engine.storage.pieces(len(block.codes)):
            kernel.count_codes(block.codes[piece], counts)
        return counts

    return engine.map(count, [(block,) for block in blocks])


def ordered_stages(blocks: Sequence[Block], chain: Nesting, counts: Sequence[IntArray]) -> list[Ordered]:
    """The eliminated blocks with the levels of one family as neighbours; their partitions hold the same families."""
    numbered: list[tuple[IntArray, CodeArray, IntArray]] = []
    for s, b in reversed(list(enumerate(chain.order))):
        if s == len(chain.order) - 1:
            old = np.arange(blocks[b].levels)
        else:
            old = np.argsort(numbered[0][1][chain.parents[b, chain.order[s + 1]]], kind="stable")
        rank = np.empty(len(old), np.int32)
        rank[old] = np.arange(len(old), dtype=np.int32)
        numbered.insert(0, (old, rank, _cumulated(counts[b][old])))
    out = []
    first, last = chain.order[0], chain.order[-1]
    cuts = partition(numbered[-1][2])
    for b, (old, rank, pointers) in zip(chain.order, numbered, strict=True):
        partitions = cuts
        if b != last:
            parent = numbered[-1][1][chain.parents[b, last][old]]
            partitions = [(int(np.searchsorted(parent, i)), int(np.searchsorted(parent, j))) for i, j in cuts]
        family = np.arange(len(old), dtype=np.int32) if b == first else rank[chain.parents[first, b][numbered[0][0]]]
        out.append(Ordered(b, old, rank, family, _renumbered(blocks[b], rank), pointers, tuple(partitions)))
    return out


def ordered_alone(block: Block, number: int, counts: IntArray) -> Ordered:
    """A block in its own order."""
    pointers = _cumulated(counts)
    same = np.arange(block.levels, dtype=np.int32)
    return Ordered(number, same.astype(np.int64), same, same, block.codes, pointers, tuple(partition(pointers)))


def partition(pointers: IntArray) -> list[Range]:
    """Cut the levels of a factor into ranges of about equal numbers of rows, from the data alone."""
    rows = int(pointers[-1])
    pieces = min(rows // ROWS_A_PARTITION, max(MOST_PARTITIONS, rows // MOST_ROWS_A_PARTITION))
    return ranges(np.diff(pointers), max(1, pieces))


def _parents(inner: Block, outer: Block, storage: Storage) -> CodeArray | None:
    if inner.levels < outer.levels:
        return None
    parent = np.full(inner.levels, -1, np.int32)
    for piece in storage.pieces(len(inner.codes)):
        if not kernel.find_parents(inner.codes[piece], outer.codes[piece], parent):
            return None
    return parent


def _renumbered(block: Block, rank: CodeArray) -> CodeColumns:
    if np.array_equal(rank, np.arange(len(rank))):
        return block.codes
    return Derived((len(block.codes),), lambda rows: rank[block.codes[rows]])


def _cumulated(counts: IntArray) -> IntArray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
