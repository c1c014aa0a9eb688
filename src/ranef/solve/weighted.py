"""The rows of a generalized model, kept for many passes: each Newton step weighs their cross products anew.

What meets what (levels, columns, order of elimination) is found once, by `ranef.solve.cross_products`; here only the
numbers change, so that everything that solves a Gaussian system solves the working one too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ranef.design.pieces import FloatColumns, is_constant
from ranef.engine.threads import Engine, Range
from ranef.kernel import weighted
from ranef.kernel.sort import counting_order
from ranef.solve.cross_products import CrossProducts, FactorProducts, cross_products
from ranef.solve.elimination import Coefficients
from ranef.solve.inverse import Inverse
from ranef.solve.rows import Rows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]

ROWS_A_RANGE = 16_384


@dataclass(frozen=True, eq=False)
class FactorRows:
    """The rows of one factor by level.

    Attributes
    ----------
    pointers : int64 array, shape (levels + 1,)
    order : int32 array, shape (rows,)
    slots : int32 array, shape (rows, factors of the rest)
        In that order: where the row's columns are among those of its level.
    """

    pointers: IntArray
    order: CodeArray
    slots: CodeArray


@dataclass(frozen=True, eq=False)
class Weighing:
    """Rows sorted by the first stage, and the pattern of their cross products.

    Attributes
    ----------
    cross : CrossProducts
        The pattern; its numbers are those of weight one.
    sorted : int32 array, shape (rows,)
        Which of the caller's rows each row is.
    codes : int32 array, shape (rows, factors)
        Level of each factor, in the order of ``cross.factors`` and in its numbering.
    z : float64 array, shape (rows, coefficients of a row)
        Covariates of all factors side by side.
    z_start : int64 array, shape (factors + 1,)
    base : int64 array, shape (factors + 1,)
        Where each factor's coefficients, and then the fixed effects, begin in a flat vector.
    x : float64 array, shape (rows, p)
    factors : tuple of FactorRows
    pieces : tuple of (first, last)
        Ranges of rows of about equal length.
    """

    cross: CrossProducts
    engine: Engine
    sorted: CodeArray
    codes: CodeArray
    z: FloatArray
    z_start: IntArray
    base: IntArray
    x: FloatArray
    factors: tuple[FactorRows, ...]
    pieces: tuple[Range, ...]


def weighing(rows: Rows, engine: Engine) -> Weighing:
    """Sort the rows and find where each one adds to the cross products.

    Parameters
    ----------
    rows : Rows
        Their response is not read, and their weights are not.
    """
    cross = cross_products(replace(rows, y=np.broadcast_to(0.0, len(rows.y)), weights=None), engine)
    blocks = [rows.blocks[f.block] for f in cross.factors]
    numbered = [block.codes for block in blocks]
    for s, stage in enumerate(cross.stages):
        number = np.empty(stage.levels, np.int32)
        number[stage.old] = np.arange(stage.levels, dtype=np.int32)
        numbered[s] = number[blocks[s].codes]
    n = len(rows.y)
    order = counting_order(numbered[0], blocks[0].levels)[0] if blocks else np.arange(n, dtype=np.int32)
    codes = np.empty((n, len(blocks)), np.int32)
    sizes = np.array([block.size for block in blocks], np.int64)
    z_start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    for f, own in enumerate(numbered):
        codes[:, f] = own[order]
    z = _side_by_side([block.covariates for block in blocks], order)
    levels = np.array([block.levels for block in blocks], np.int64)
    draft = Weighing(
        cross=cross,
        engine=engine,
        sorted=order,
        codes=codes,
        z=z,
        z_start=z_start,
        base=np.concatenate([[0], np.cumsum(sizes * levels)]).astype(np.int64),
        x=_side_by_side([rows.x], order),
        factors=(),
        pieces=tuple((first, min(first + ROWS_A_RANGE, n)) for first in range(0, n, ROWS_A_RANGE)),
    )
    return replace(draft, factors=tuple(_factor_rows(draft, f, product) for f, product in enumerate(cross.factors)))


def _side_by_side(parts: list[FloatColumns], order: CodeArray) -> FloatArray:
    """Columns of all parts in the given order of rows; one row seen from all, if each part is."""
    n, width = len(order), sum(part.shape[1] for part in parts)
    if n and all(part.shape[1] == 0 or is_constant(part) for part in parts):
        return np.broadcast_to(np.concatenate([np.zeros(0), *(part[:1].reshape(-1) for part in parts)]), (n, width))
    out = np.empty((n, width))
    at = 0
    for part in parts:
        for first in range(0, n, ROWS_A_RANGE):
            piece = order[first : first + ROWS_A_RANGE].astype(np.int64)
            out[first : first + ROWS_A_RANGE, at : at + part.shape[1]] = part[piece]
        at += part.shape[1]
    return out


def _rest_of(cross: CrossProducts, f: int) -> int:
    """Index of the first factor whose columns factor ``f`` meets."""
    return max(len(cross.stages), f + 1)


def _factor_rows(pattern: Weighing, f: int, product: FactorProducts) -> FactorRows:
    cross = pattern.cross
    order, pointers = counting_order(np.ascontiguousarray(pattern.codes[:, f]), product.levels)
    first = _rest_of(cross, f)
    rest = cross.kept[first - len(cross.stages) :]
    column = np.array([k.start for k in rest], np.int64)
    width = np.array([k.size for k in rest], np.int64)
    slots = np.zeros((len(order), len(rest)), np.int32)
    if rest:
        pattern.engine.each(
            product.partitions, weighted.place_slots, pointers, order, pattern.codes, first,
            product.offsets, product.columns, column, width, slots,
        )  # fmt: skip
    return FactorRows(pointers, order, slots)


def reweigh(pattern: Weighing, weight: FloatArray, score: FloatArray) -> CrossProducts:
    """The cross products ``[Z X]'W[Z X]``, and ``[Z X]'score`` in the response's place.

    Parameters
    ----------
    weight, score : float64 arrays, shape (rows,)
        Rows in the pattern's order.
    """
    cross, engine = pattern.cross, pattern.engine
    count = len(cross.stages)
    new: list[FactorProducts] = []
    for f, (product, own) in enumerate(zip(cross.factors, pattern.factors, strict=True)):
        above = np.arange(pattern.z_start[f + 1], pattern.z_start[count]) if f < count else np.empty(0, np.int64)
        gram, values = np.empty_like(product.gram), np.empty_like(product.values)
        up = np.empty((product.levels, product.size, len(above)))
        engine.each(
            product.partitions, weighted.weigh_levels, own.pointers, own.order, pattern.z,
            np.arange(pattern.z_start[f], pattern.z_start[f + 1]), above, pattern.z_start[_rest_of(cross, f) :],
            own.slots, pattern.x, weight, score, product.offsets, gram, values, up,
        )  # fmt: skip
        changes = {"gram": gram, "values": values}
        new.append(replace(product, **changes, **({"up": up} if f < count else {})))  # type: ignore[arg-type]
    dense = np.zeros_like(cross.dense)
    p = cross.fixed
    dense[:p, :p], dense[:p, p] = sums_of_rows(
        pattern,
        lambda a, b: (
            pattern.x[a:b].T @ (weight[a:b, None] * pattern.x[a:b]),
            pattern.x[a:b].T @ score[a:b],
        ),
    )
    dense[p, :p] = dense[:p, p]
    dense[p, p] = 1.0
    return replace(cross, stages=tuple(new[:count]), kept=tuple(new[count:]), dense=dense)  # type: ignore[arg-type]


def sums_of_rows(
    pattern: Weighing, part: Callable[[int, int], tuple[FloatArray | float, ...]]
) -> tuple[FloatArray, ...]:
    """Sums over all pieces, in their order, of what ``part(first, last)`` returns."""
    parts = pattern.engine.each(pattern.pieces, part)
    return tuple(np.asarray(sum(column)) for column in zip(*parts, strict=True))


def flat(cross: CrossProducts, x: Coefficients) -> FloatArray:
    """All coefficients in one array, shape (coefficients, sides): the stages, the kept factors, the fixed effects."""
    return np.concatenate([*(s.reshape(-1, s.shape[2]) for s in x.stages), x.rest[: cross.random + cross.fixed]])


def linear_predictor(pattern: Weighing, coefficients: FloatArray, first: int, last: int) -> FloatArray:
    """``X beta + Z b`` of the rows ``first <= n < last``, from coefficients in one `flat` vector."""
    out = np.empty(last - first)
    weighted.linear_predictor(
        first, last, pattern.codes, pattern.z, pattern.z_start, pattern.base, pattern.x, coefficients, out
    )
    return out


def row_values(pattern: Weighing, coefficients: FloatArray, first: int, last: int) -> FloatArray:
    """`linear_predictor` of several coefficient vectors side by side, shape (last - first, sides)."""
    out = np.empty((last - first, coefficients.shape[1]))
    weighted.row_values(
        first, last, pattern.codes, pattern.z, pattern.z_start, pattern.base, pattern.x, coefficients, out
    )
    return out


def row_variances(pattern: Weighing, inverse: Inverse, first: int, last: int) -> FloatArray:
    """Variance of ``Z b`` of each row from the selected inverse of ``C_b``, with its stages' entries."""
    cross = pattern.cross
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
    cross, engine = pattern.cross, pattern.engine
    out = []
    for f, (product, own) in enumerate(zip(cross.factors, pattern.factors, strict=True)):
        total = np.empty((product.levels, product.size, values.shape[1]))
        engine.each(
            product.partitions, weighted.sum_levels, own.pointers, own.order, pattern.z,
            int(pattern.z_start[f]), values, total,
        )  # fmt: skip
        out.append(total)
    (fixed,) = sums_of_rows(pattern, lambda a, b: (pattern.x[a:b].T @ values[a:b],))
    return _gathered(cross, out, fixed)


def sign_sums(pattern: Weighing, root: FloatArray, probes: int, seed: int) -> Coefficients:
    """``[Z X]'(root * e)`` with random signs ``e`` of the rows, one side a probe."""
    cross, engine = pattern.cross, pattern.engine
    key = np.uint64(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    out = []
    for f, (product, own) in enumerate(zip(cross.factors, pattern.factors, strict=True)):
        total = np.empty((product.levels, product.size, probes))
        engine.each(
            product.partitions, weighted.sum_level_signs, own.pointers, own.order, pattern.z,
            int(pattern.z_start[f]), root, key, total,
        )  # fmt: skip
        out.append(total)

    def part(first: int, last: int) -> tuple[FloatArray]:
        mine = np.zeros((cross.fixed, probes))
        weighted.sum_row_signs(first, last, pattern.x, root, key, mine)
        return (mine,)

    (fixed,) = sums_of_rows(pattern, part)
    return _gathered(cross, out, fixed)


def _gathered(cross: CrossProducts, factors: list[FloatArray], fixed: FloatArray) -> Coefficients:
    count, sides = len(cross.stages), fixed.shape[1]
    rest = np.zeros((cross.columns, sides))
    for kept, values in zip(cross.kept, factors[count:], strict=True):
        rest[kept.place] = values.reshape(-1, sides)
    rest[cross.random : cross.random + cross.fixed] = fixed
    return Coefficients(tuple(factors[:count]), rest)
