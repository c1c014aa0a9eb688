"""Factors whose rows belong to several levels: cross products are taken by unit, then folded onto the levels.

A unit, a distinct list of levels, say, is what rows have in common. Passes over the rows meet units as if they were the
levels of an ordinary factor; what they sum is then multiplied by the membership, units by levels, at a cost that does
not depend on the rows. Such a factor is never eliminated. Its levels meet each other, which other factors' do not: the
products of a level with later ones of its own factor stand among those with later columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ranef.design.membership import Membership
from ranef.engine.threads import Engine, ranges
from ranef.kernel import fold as kernel

if TYPE_CHECKING:
    from ranef.solve.cross_products import CrossProducts, FactorProducts, Kept

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]
Factor = TypeVar("Factor", bound="FactorProducts")

PIECES = 16


@dataclass(frozen=True, eq=False)
class Folding:
    """From the columns of units to those of levels.

    Attributes
    ----------
    wide : CrossProducts
        The pattern by unit; its values are not kept.
    matrix : sparse array, shape (columns of units, columns of levels)
        Of the rest: kept factors, fixed effects and response.
    memberships : mapping of int to Membership
        By block.
    offsets, columns : tuples of arrays
        The columns of levels that each factor's levels meet, factors as in ``wide.factors``.
    """

    wide: CrossProducts
    matrix: sparse.csr_array
    memberships: Mapping[int, Membership]
    offsets: tuple[IntArray, ...]
    columns: tuple[CodeArray, ...]

    @cached_property
    def to(self) -> tuple[IntArray, CodeArray, FloatArray]:
        """``to_start``, ``to_column`` and ``to_weight`` of `ranef.kernel.fold`."""
        m = self.matrix
        return m.indptr.astype(np.int64), m.indices.astype(np.int32), np.asarray(m.data, np.float64)

    @cached_property
    def turned(self) -> Mapping[int, tuple[IntArray, CodeArray, FloatArray]]:
        """The units of each level and its weight there, by block."""
        out = {}
        for block, one in self.memberships.items():
            levels = self.levels(block)
            by_level = sparse.csc_array(_matrix(one, levels))
            out[block] = (
                by_level.indptr.astype(np.int64),
                by_level.indices.astype(np.int32),
                np.asarray(by_level.data, np.float64),
            )
        return out

    def levels(self, block: int) -> int:
        """Levels of a block's membership."""
        return len(self.offsets[next(i for i, f in enumerate(self.wide.factors) if f.block == block)]) - 1

    def rest(self, x: FloatArray) -> FloatArray:
        """Sums over units made those over levels, shape (columns of levels, sides)."""
        return np.asarray(self.matrix.T @ x)

    def unfolded_rest(self, x: FloatArray) -> FloatArray:
        """Coefficients of levels made those of units, shape (columns of units, sides)."""
        return np.asarray(self.matrix @ x)


def fold(
    wide: CrossProducts, memberships: Mapping[int, Membership], levels: Mapping[int, int], engine: Engine
) -> CrossProducts:
    """The cross products by level.

    Parameters
    ----------
    wide : CrossProducts
        By unit.
    memberships : mapping of int to Membership
        By block.
    levels : mapping of int to int
        How many levels each of these blocks has.
    """
    if not memberships:
        return wide
    return refold(_folding(wide, memberships, levels), wide, engine)


def refold(folding: Folding, wide: CrossProducts, engine: Engine) -> CrossProducts:
    """Cross products of the same pattern, by level."""
    stages = tuple(_folded(folding, f, stage, engine) for f, stage in enumerate(wide.stages))
    kept: list[Kept] = []
    start = 0
    for f, factor in enumerate(wide.kept, len(stages)):
        if factor.block in folding.memberships:
            kept.append(_folded_levels(folding, f, factor, start, engine))
        else:
            kept.append(replace(_folded(folding, f, factor, engine), start=start))
        start = kept[-1].place.stop
    counts = list(wide.levels)
    for one in kept:
        counts[one.block] = one.levels
    return replace(wide, stages=stages, kept=tuple(kept), random=start, levels=tuple(counts), folding=folding)


def unfolded(folding: Folding, f: int, values: FloatArray, engine: Engine) -> FloatArray:
    """What the levels of a stage have with units, in the pattern of ``folding.wide``, from what they have with
    levels."""
    factor = folding.wide.factors[f]
    wide = engine.storage.empty(len(factor.columns) * factor.size)

    def run(first: int, last: int) -> None:
        place = np.zeros(folding.matrix.shape[1], np.int64)
        kernel.unfold_values(
            first, last, factor.size, factor.offsets, factor.columns, *folding.to, folding.offsets[f],
            folding.columns[f], place, values, wide,
        )  # fmt: skip

    engine.each(factor.partitions, run)
    return wide


def _folding(wide: CrossProducts, memberships: Mapping[int, Membership], levels: Mapping[int, int]) -> Folding:
    parts = []
    for factor in wide.kept:
        one = memberships.get(factor.block)
        size = factor.size
        own = sparse.eye_array(factor.levels) if one is None else _matrix(one, levels[factor.block])
        parts.append(sparse.kron(own, sparse.eye_array(size), format="csr"))
    parts.append(sparse.eye_array(len(wide.dense), format="csr"))
    matrix = sparse.csr_array(sparse.block_diag(parts, format="csr"))
    matrix.sort_indices()
    met = _pattern(matrix)
    offsets, columns, start = [], [], 0
    for met_by in wide.factors:
        units = sparse.csr_array(
            (np.ones(len(met_by.columns)), met_by.columns, met_by.offsets), (met_by.levels, wide.columns)
        )
        by_level = units @ met
        one = memberships.get(met_by.block)
        if one is not None:
            own = _pattern(_matrix(one, levels[met_by.block]))
            both = sparse.triu(own.T @ own, 1, format="csr")
            with_own = sparse.kron(both, np.ones((1, met_by.size)), format="csr")
            here = sparse.csr_array((levels[met_by.block], start))
            after = sparse.csr_array((levels[met_by.block], matrix.shape[1] - start - with_own.shape[1]))
            by_level = own.T @ by_level + sparse.hstack([here, with_own, after], format="csr")
        by_level = sparse.csr_array(by_level)
        by_level.sort_indices()
        offsets.append(by_level.indptr.astype(np.int64))
        columns.append(by_level.indices.astype(np.int32))
        if any(met_by is kept for kept in wide.kept):
            start += (met_by.levels if one is None else levels[met_by.block]) * met_by.size
    return Folding(_without_values(wide), matrix, memberships, tuple(offsets), tuple(columns))


def _matrix(one: Membership, levels: int) -> sparse.csr_array:
    return sparse.csr_array((one.weight, one.level, one.start), (one.units, levels))


def _pattern(matrix: sparse.csr_array) -> sparse.csr_array:
    """The same places, all one: products of such have no entry that cancels."""
    out = sparse.csr_array(matrix, copy=True)
    out.data = np.ones(len(out.data))
    return out


def _folded(folding: Folding, f: int, factor: Factor, engine: Engine) -> Factor:
    """A factor of one level a row, its products with units made those with levels."""
    offsets, columns = folding.offsets[f], folding.columns[f]
    values = engine.storage.empty(len(columns) * factor.size)

    def run(first: int, last: int) -> None:
        place = np.zeros(folding.matrix.shape[1], np.int64)
        kernel.fold_values(
            first, last, factor.size, factor.offsets, factor.columns, factor.values, *folding.to, offsets, columns,
            place, values,
        )  # fmt: skip

    engine.each(factor.partitions, run)
    return replace(factor, offsets=offsets, columns=columns, values=values)


def _folded_levels(folding: Folding, f: int, factor: Kept, start: int, engine: Engine) -> Kept:
    """A factor with a membership, its units made levels."""
    offsets, columns, k = folding.offsets[f], folding.columns[f], factor.size
    one, turned = folding.memberships[factor.block], folding.turned[factor.block]
    levels = len(offsets) - 1
    values = engine.storage.empty(len(columns) * k)
    gram = np.empty((levels, k, k))
    partitions = tuple(ranges(np.diff(offsets) + 1, PIECES))

    def run(first: int, last: int) -> None:
        place = np.zeros(folding.matrix.shape[1], np.int64)
        kernel.fold_levels(
            first, last, *turned, one.start, one.level, one.weight, factor.gram, factor.offsets, factor.columns,
            factor.values, *folding.to, start, offsets, columns, place, gram, values,
        )  # fmt: skip

    engine.each(partitions, run)
    return replace(
        factor,
        start=start,
        gram=gram,
        offsets=offsets,
        columns=columns,
        values=values,
        partitions=partitions,
        coupled=True,
    )


def _without_values(cross: CrossProducts) -> CrossProducts:
    def without(factor: Factor) -> Factor:
        return replace(factor, values=np.broadcast_to(0.0, factor.values.shape))

    return replace(cross, stages=tuple(map(without, cross.stages)), kept=tuple(map(without, cross.kept)))
