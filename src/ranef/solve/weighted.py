"""The rows of a generalized model, kept for many passes: each Newton step weighs their cross products anew.

What meets what (levels, columns, order of elimination) is found once, by `ranef.solve.cross_products`; here only the
numbers change, so that everything that solves a Gaussian system solves the working one too.

Rows are sorted by the first stage, so that those of a level of any stage are neighbours. A pass takes one partition
after the other, and computes what it needs of some rows (weights, scores) just before it is summed: such numbers
are never stored for all of them. Stages are summed in place, and the other factors in one buffer a lane.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ranef.design.pieces import FloatColumns, is_constant
from ranef.engine.threads import Engine, Range
from ranef.errors import FitError
from ranef.kernel import weighted
from ranef.kernel.sort import counting_order
from ranef.solve.cross_products import CrossProducts, FactorProducts, cross_products
from ranef.solve.elimination import Coefficients
from ranef.solve.folding import unfolded
from ranef.solve.inverse import Inverse
from ranef.solve.rows import Rows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]

ROWS_A_RANGE = 16_384
MOST_LANES = 8
BYTES_A_PASS = 1 << 28
# columns of units whose joint covariance is formed
MOST_UNIT_COLUMNS = 8_000


@dataclass(frozen=True, eq=False)
class FactorRows:
    """Where the rows of one factor are, and where they add.

    Attributes
    ----------
    pointers : int64 array, shape (levels + 1,)
        Of a stage, and of another factor that meets later ones; empty for others.
    order : int32 array, shape (rows,)
        Rows by level; empty for a stage, whose rows are in order.
    slots : int32 array, shape (rows, factors of the rest)
        In that order: where the row's columns are among those of its level.
    """

    pointers: IntArray
    order: CodeArray
    slots: CodeArray


@dataclass(frozen=True, eq=False)
class Partition:
    """A partition: rows of whole levels of all stages.

    Attributes
    ----------
    rows : (first, last)
    levels : tuple of (first, last)
        Of each stage.
    """

    rows: Range
    levels: tuple[Range, ...]


@dataclass(frozen=True, eq=False)
class Weighing:
    """Rows sorted by the first stage, and the pattern of their cross products.

    Attributes
    ----------
    cross : CrossProducts
        The pattern; its values are not kept.
    wide : CrossProducts
        The pattern by unit, where rows belong to several levels (see `ranef.solve.folding`): what passes over the rows
        meet. Else the same.
    sorted : int32 array, shape (rows,)
        Which of the caller's rows each row is.
    codes : int32 array, shape (rows, factors)
        Level or unit of each factor, in the order of ``wide.factors`` and in its numbering.
    z : float64 array, shape (rows, coefficients of a row)
        Covariates of all factors side by side.
    z_start : int64 array, shape (factors + 1,)
    base : int64 array, shape (factors + 1,)
        Where each factor's coefficients, and then the fixed effects, begin in a flat vector.
    x : float64 array, shape (rows, p)
    factors : tuple of FactorRows
    partitions : tuple of Partition
    pieces : tuple of (first, last)
        Ranges of rows of about equal length.
    """

    cross: CrossProducts
    wide: CrossProducts
    engine: Engine
    sorted: CodeArray
    codes: CodeArray
    z: FloatArray
    z_start: IntArray
    base: IntArray
    x: FloatArray
    factors: tuple[FactorRows, ...]
    partitions: tuple[Partition, ...]
    pieces: tuple[Range, ...]

    @cached_property
    def only_intercepts(self) -> bool:
        """Whether every covariate is one, and all rows have the same fixed part: most passes are then much shorter."""
        constant = is_constant(self.z) and (is_constant(self.x) or self.cross.fixed == 0) and len(self.sorted) > 0
        return constant and bool(np.all(self.z[:1] == 1.0)) and all(size == 1 for size in self.cross.sizes)

    def lanes(self, numbers: int) -> list[tuple[Partition, ...]]:
        """Neighbouring partitions that share a buffer of so many numbers."""
        most = max(2, min(MOST_LANES, BYTES_A_PASS // (8 * max(numbers, 1))))
        cuts = np.array_split(np.arange(len(self.partitions)), min(most, len(self.partitions)))
        return [tuple(self.partitions[i] for i in cut) for cut in cuts]


def weighing(rows: Rows, engine: Engine) -> Weighing:
    """Sort the rows and find where each one adds to the cross products.

    Parameters
    ----------
    rows : Rows
        Their response is not read, and their weights are not.
    """
    cross = cross_products(replace(rows, y=np.broadcast_to(0.0, len(rows.y)), weights=None), engine)
    wide = cross if cross.folding is None else cross.folding.wide
    blocks = [rows.blocks[f.block].by_unit for f in wide.factors]
    numbered = [block.codes for block in blocks]
    for s, stage in enumerate(cross.stages):
        number = np.empty(stage.levels, np.int32)
        number[stage.old] = np.arange(stage.levels, dtype=np.int32)
        numbered[s] = number[blocks[s].codes]
    n = len(rows.y)
    order = counting_order(numbered[0], blocks[0].levels)[0] if blocks else np.arange(n, dtype=np.int32)
    codes = engine.storage.empty((n, len(blocks)), np.int32)
    sizes = np.array([block.size for block in blocks], np.int64)
    z_start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def place(f: int, own: CodeArray) -> None:
        for first in range(0, n, ROWS_A_RANGE):
            codes[first : first + ROWS_A_RANGE, f] = own[order[first : first + ROWS_A_RANGE]]

    engine.map(place, list(enumerate(numbered)))
    del numbered
    z = _side_by_side([block.covariates for block in blocks], order, engine)
    levels = np.array([block.levels for block in blocks], np.int64)
    pieces = tuple((first, min(first + ROWS_A_RANGE, n)) for first in range(0, n, ROWS_A_RANGE))
    draft = Weighing(
        cross=_without_values(cross),
        wide=wide,
        engine=engine,
        sorted=order,
        codes=codes,
        z=z,
        z_start=z_start,
        base=np.concatenate([[0], np.cumsum(sizes * levels)]).astype(np.int64),
        x=_side_by_side([rows.x], order, engine),
        factors=(),
        partitions=(),
        pieces=pieces,
    )
    factors = tuple(_factor_rows(draft, f, product) for f, product in enumerate(wide.factors))
    partitions = tuple(Partition(piece, ()) for piece in pieces)
    if cross.stages:
        levels_of = zip(*(stage.partitions for stage in cross.stages), strict=True)
        pointers = factors[0].pointers
        partitions = tuple(Partition((int(pointers[own[0][0]]), int(pointers[own[0][1]])), own) for own in levels_of)
    return replace(draft, wide=_without_values(wide), factors=factors, partitions=partitions)


def _without_values(cross: CrossProducts) -> CrossProducts:
    def without(factor: FactorProducts) -> FactorProducts:
        return replace(factor, values=np.broadcast_to(0.0, factor.values.shape))

    stages, kept = (tuple(without(f) for f in factors) for factors in (cross.stages, cross.kept))
    return replace(cross, stages=stages, kept=kept)  # type: ignore[arg-type]


def _side_by_side(parts: list[FloatColumns], order: CodeArray, engine: Engine) -> FloatArray:
    """Columns of all parts in the given order of rows; one row seen from all, if each part is."""
    n, width = len(order), sum(part.shape[1] for part in parts)
    if n and all(part.shape[1] == 0 or is_constant(part) for part in parts):
        return np.broadcast_to(np.concatenate([np.zeros(0), *(part[:1].reshape(-1) for part in parts)]), (n, width))
    out = engine.storage.empty((n, width))
    at = 0
    for part in parts:
        for first in range(0, n, ROWS_A_RANGE):
            piece = order[first : first + ROWS_A_RANGE].astype(np.int64)
            out[first : first + ROWS_A_RANGE, at : at + part.shape[1]] = part[piece]
        at += part.shape[1]
    return out


def rest_of(cross: CrossProducts, f: int) -> int:
    """Index of the first factor whose columns factor ``f`` meets."""
    return max(len(cross.stages), f + 1)


def _factor_rows(pattern: Weighing, f: int, product: FactorProducts) -> FactorRows:
    cross, storage = pattern.wide, pattern.engine.storage
    first = rest_of(cross, f)
    rest = cross.kept[first - len(cross.stages) :]
    n = len(pattern.sorted)
    if f >= len(cross.stages) and not rest:
        return FactorRows(np.empty(0, np.int64), np.empty(0, np.int32), np.empty((n, 0), np.int32))
    order, pointers = counting_order(np.ascontiguousarray(pattern.codes[:, f]), product.levels)
    column = np.array([k.start for k in rest], np.int64)
    width = np.array([k.size for k in rest], np.int64)
    slots = storage.empty((n, len(rest)), np.int32)
    pattern.engine.each(
        product.partitions, weighted.place_slots, pointers, order, pattern.codes, first,
        product.offsets, product.columns, column, width, slots,
    )  # fmt: skip
    return FactorRows(pointers, np.empty(0, np.int32) if f < len(cross.stages) else order, slots)


def cut(rows: Range) -> list[Range]:
    return [(first, min(first + ROWS_A_RANGE, rows[1])) for first in range(rows[0], rows[1], ROWS_A_RANGE)]


def sums_of_rows(
    pattern: Weighing, part: Callable[[int, int], tuple[FloatArray | float, ...]]
) -> tuple[FloatArray, ...]:
    """Sums over all pieces, in their order, of what ``part(first, last)`` returns."""
    parts = pattern.engine.each(pattern.pieces, part)
    return tuple(np.asarray(sum(column)) for column in zip(*parts, strict=True))


def flat(cross: CrossProducts, x: Coefficients) -> FloatArray:
    """All coefficients in one array, shape (coefficients, sides): the stages, the kept factors, the fixed effects.

    As passes over the rows meet them: units have the sums of their levels.
    """
    rest = x.rest if cross.folding is None else cross.folding.unfolded_rest(x.rest)
    return np.concatenate([*(s.reshape(-1, s.shape[2]) for s in x.stages), rest[:-1]])


def linear_predictor(pattern: Weighing, coefficients: FloatArray, first: int, last: int) -> FloatArray:
    """``X beta + Z b`` of the rows ``first <= n < last``, from coefficients in one `flat` vector."""
    out = np.empty(last - first)
    if pattern.only_intercepts:
        constant = float(pattern.x[0] @ coefficients[int(pattern.base[-1]) :])
        weighted.intercept_predictor(first, last, pattern.codes, pattern.base, constant, coefficients, out)
        return out
    weighted.linear_predictor(
        first, last, pattern.codes, pattern.z, pattern.z_start, pattern.base, pattern.x, coefficients, out
    )
    return out


def row_values(pattern: Weighing, coefficients: FloatArray, first: int, last: int) -> FloatArray:
    """`linear_predictor` of several coefficient vectors side by side, shape (last - first, sides)."""
    out = np.empty((last - first, coefficients.shape[1]))
    if pattern.only_intercepts:
        constant = pattern.x[0] @ coefficients[int(pattern.base[-1]) :]
        weighted.intercept_values(first, last, pattern.codes, pattern.base, constant, coefficients, out)
        return out
    weighted.row_values(
        first, last, pattern.codes, pattern.z, pattern.z_start, pattern.base, pattern.x, coefficients, out
    )
    return out


def row_variances(pattern: Weighing, inverse: Inverse, first: int, last: int) -> FloatArray:
    """Variance of ``Z b`` of each row from the selected inverse of ``C_b``, with its stages' entries; by unit."""
    cross = pattern.wide
    count = len(cross.stages)
    out = np.zeros(last - first)
    for s, entries in enumerate(inverse.stages):
        weighted.own_variance(first, last, pattern.codes[:, s], pattern.z, int(pattern.z_start[s]), entries.own, out)
        weighted.stage_covariances(
            first, last, pattern.codes, pattern.z, pattern.z_start, s, count,
            cross.stages[s].offsets, entries.values, entries.up, pattern.factors[s].slots, out,
        )  # fmt: skip
    if cross.kept:
        column = np.array([kept.start for kept in cross.kept], np.int64)
        weighted.kept_covariances(
            first, last, pattern.codes, pattern.z, pattern.z_start, column, count, inverse.rest, out
        )
    return out


def inverse_by_unit(pattern: Weighing, inverse: Inverse) -> Inverse:
    """The selected inverse as passes over the rows meet it.

    Raises
    ------
    FitError
        There are too many units for their joint covariance.
    """
    folding = pattern.cross.folding
    if folding is None:
        return inverse
    if pattern.wide.random > MOST_UNIT_COLUMNS:
        raise FitError(
            f"bags, histories and walks have {pattern.wide.random:,} distinct combinations of levels; the exact solver "
            f"takes at most {MOST_UNIT_COLUMNS:,}: use solver='stochastic'"
        )
    rest = folding.unfolded_rest(folding.unfolded_rest(inverse.rest).T)
    stages = tuple(
        replace(entries, values=unfolded(folding, s, entries.values, pattern.engine))
        for s, entries in enumerate(inverse.stages)
    )
    return replace(inverse, rest=np.ascontiguousarray(rest), stages=stages)


def own_variances(pattern: Weighing, own: FloatArray, first: int, last: int) -> FloatArray:
    """``z' own z`` of each row with the matrix (k, k) of its level of the first stage."""
    out = np.zeros(last - first)
    weighted.own_variance(first, last, pattern.codes[:, 0], pattern.z, 0, own, out)
    return out


def response_of(cross: CrossProducts) -> Coefficients:
    """``[Z X]'score`` of cross products that `reweigh` made, one side."""
    p = cross.fixed
    factors = []
    for factor in cross.factors:
        k = factor.size
        wide = np.diff(factor.offsets)[:, None]
        # the response is the last column of each of the level's k rows
        factors.append(factor.values[k * factor.offsets[:-1, None] + (np.arange(k) + 1) * wide - 1][:, :, None])
    return _gathered(cross, factors, cross.dense[:p, p:])


def sums(pattern: Weighing, values: FloatArray) -> Coefficients:
    """``[Z X]'values`` of all rows, shape of ``values`` (rows, sides)."""
    return sums_by(pattern, lambda first, last: (values[first:last],), values.shape[1])[0]


def sums_by(
    pattern: Weighing, part: Callable[[int, int], tuple[FloatArray, ...]], sides: int
) -> tuple[Coefficients, tuple[FloatArray, ...]]:
    """`sums` of values that are computed some rows at a time.

    Parameters
    ----------
    part : callable
        Values of the rows ``first <= n < last``, shape (last - first, sides), and arrays that are summed as they are.

    Returns
    -------
    Coefficients
    tuple of float64 arrays
        Sums of the other arrays.
    """
    cross, engine = pattern.wide, pattern.engine
    count = len(cross.stages)
    totals = [np.empty((f.levels, f.size, sides)) for f in cross.stages]

    def run(lane: tuple[Partition, ...]) -> tuple[list[FloatArray], list[FloatArray]]:
        buffers = [np.zeros((f.levels, f.size, sides)) for f in cross.kept]
        others: list[FloatArray] = []
        for piece in lane:
            for total, levels in zip(totals, piece.levels, strict=True):
                total[slice(*levels)] = 0.0
            for first, last in cut(piece.rows):
                values, *more = part(first, last)
                for f, out in enumerate([*totals, *buffers]):
                    _add_rows(pattern, f, first, last, values, out)
                new = [pattern.x[first:last].T @ values, *more]
                others = [a + b for a, b in zip(others, new, strict=True)] if others else new
            engine.storage.trim()
        return buffers, others

    found = engine.map(run, [(lane,) for lane in pattern.lanes(sum(f.levels * f.size for f in cross.kept) * sides)])
    kept = [sum(buffers[f] for buffers, _ in found) for f in range(len(cross.kept))]
    fixed, *others = (np.asarray(sum(column)) for column in zip(*(one for _, one in found), strict=True))
    found_sums = _gathered(cross, [*totals[:count], *kept], fixed)  # type: ignore[list-item]
    folding = pattern.cross.folding
    if folding is not None:
        found_sums = replace(found_sums, rest=folding.rest(found_sums.rest))
    return found_sums, tuple(others)


def _add_rows(pattern: Weighing, f: int, first: int, last: int, values: FloatArray, out: FloatArray) -> None:
    codes = pattern.codes[:, f]
    if pattern.only_intercepts:
        weighted.add_intercept_rows(first, last, codes, values, out)
    else:
        weighted.add_rows(first, last, codes, pattern.z, int(pattern.z_start[f]), values, out)


def sign_sums(pattern: Weighing, roots: Callable[[int, int], FloatArray], probes: int, seed: int) -> Coefficients:
    """``[Z X]'(root * e)`` with random signs ``e`` of the rows, one side a probe.

    Parameters
    ----------
    roots : callable
        The ``root`` of each of the rows ``first <= n < last``.
    """
    key = np.uint64(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])

    def part(first: int, last: int) -> tuple[FloatArray]:
        out = np.empty((last - first, probes))
        weighted.signed(first, last, roots(first, last), key, out)
        return (out,)

    return sums_by(pattern, part, probes)[0]


def _gathered(cross: CrossProducts, factors: list[FloatArray], fixed: FloatArray) -> Coefficients:
    count, sides = len(cross.stages), fixed.shape[1]
    rest = np.zeros((cross.columns, sides))
    for kept, values in zip(cross.kept, factors[count:], strict=True):
        rest[kept.place] = values.reshape(-1, sides)
    rest[cross.random : cross.random + cross.fixed] = fixed
    return Coefficients(tuple(factors[:count]), rest)
