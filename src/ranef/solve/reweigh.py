"""Cross products of a generalized model's rows, weighted anew: one pass over the rows.

A pass takes one partition after the other, and weights and scores of some rows are summed as soon as they are computed.
Stages are summed in place and the last factor in one buffer a lane. Other kept factors, whose products with later ones
are too many for that, read weights and scores in an order of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Range
from ranef.kernel import weighted
from ranef.solve.cross_products import CrossProducts, Kept, Stage
from ranef.solve.folding import refold
from ranef.solve.weighted import Partition, Weighing, cut, rest_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Linearised = Callable[[int, int], tuple[float, FloatArray, FloatArray]]


def reweigh(pattern: Weighing, weight: FloatArray, score: FloatArray) -> CrossProducts:
    """The cross products ``[Z X]'W[Z X]``, and ``[Z X]'score`` in the response's place.

    Parameters
    ----------
    weight, score : float64 arrays, shape (rows,)
        Rows in the pattern's order.
    """
    return reweigh_by(pattern, lambda first, last: (0.0, weight[first:last], score[first:last]))[1]


def reweigh_by(pattern: Weighing, linearised: Linearised) -> tuple[float, CrossProducts]:
    """`reweigh` with weights and scores that are computed some rows at a time.

    Parameters
    ----------
    linearised : callable
        A number, and weight and score of each of the rows ``first <= n < last``.

    Returns
    -------
    value : float
        The sum of the numbers.
    CrossProducts
    """
    cross, engine = pattern.wide, pattern.engine
    stages = tuple(_stage_room(pattern, stage) for stage in cross.stages)
    kept = tuple(replace(k, gram=np.zeros_like(k.gram), values=np.zeros(k.values.shape)) for k in cross.kept)
    rows = [engine.storage.empty(len(pattern.sorted)) for _ in range(2 if len(kept) > 1 else 0)]

    def stored(first: int, last: int) -> tuple[float, FloatArray, FloatArray]:
        value, *found = linearised(first, last)
        for to, values in zip(rows, found, strict=False):
            to[first:last] = values
        return value, found[0], found[1]

    few = pattern.only_intercepts and len(stages) == 1 and bool(kept)
    value, products = (_sum_intercepts if few else _sum_rows)(pattern, stages, kept[-1:], stored)
    for f, factor in enumerate(kept[:-1], len(stages)):
        own = pattern.factors[f]
        engine.each(
            factor.partitions, weighted.weigh_levels, own.pointers, own.order, pattern.z, *_columns(pattern, f)[:1],
            pattern.z_start[f + 1 :], own.slots, pattern.x, *rows, factor.offsets, factor.gram, factor.values,
        )  # fmt: skip
    p = cross.fixed
    dense = np.zeros_like(cross.dense)
    dense[:p] = products
    dense[p, :p] = dense[:p, p]
    dense[p, p] = 1.0
    found, folding = replace(cross, stages=stages, kept=kept, dense=dense), pattern.cross.folding
    return value, found if folding is None else refold(folding, found, engine)


def _sum_rows(
    pattern: Weighing, stages: tuple[Stage, ...], others: tuple[Kept, ...], linearised: Linearised
) -> tuple[float, FloatArray]:
    """Fill the stages' arrays and the last kept factor's; the sum of the numbers, and the dense products (p, p + 1)."""
    p, engine = pattern.wide.fixed, pattern.engine
    last_factor = len(pattern.factors) - 1
    nothing = np.empty((0, 0, 0))

    def run(lane: tuple[Partition, ...]) -> tuple[float, FloatArray, list[tuple[FloatArray, FloatArray]]]:
        value, dense = 0.0, np.zeros((p, p + 1))
        buffers = [(np.zeros_like(factor.gram), np.zeros_like(factor.values)) for factor in others]
        for piece in lane:
            for stage, levels in zip(stages, piece.levels, strict=True):
                _clear(stage, levels)
            for first, last in cut(piece.rows):
                found, weight, score = linearised(first, last)
                value += found
                places = (first, last, pattern.codes, pattern.z, pattern.x, weight, score)
                for s, stage in enumerate(stages):
                    weighted.weigh_rows(
                        *places, s, *_columns(pattern, s), pattern.factors[s].slots, stage.offsets, stage.gram,
                        stage.values, stage.up,
                    )  # fmt: skip
                for factor, (gram, values) in zip(others, buffers, strict=True):
                    weighted.weigh_rows(
                        *places, last_factor, *_columns(pattern, last_factor), pattern.factors[last_factor].slots,
                        factor.offsets, gram, values, nothing,
                    )  # fmt: skip
                x = pattern.x[first:last]
                dense[:, :p] += x.T @ (weight[:, None] * x)
                dense[:, p] += x.T @ score
            for stage, levels in zip(stages, piece.levels, strict=True):
                weighted.mirror(*levels, stage.gram)
            engine.storage.trim()
        return value, dense, buffers

    numbers = sum(factor.gram.size + factor.values.size for factor in others)
    found = engine.map(run, [(lane,) for lane in pattern.lanes(numbers)])
    for factor in others:
        for _, _, ((gram, values),) in found:
            factor.gram[:] += gram
            factor.values[:] += values
        weighted.mirror(0, factor.levels, factor.gram)
    return sum(value for value, _, _ in found), sum((dense for _, dense, _ in found), np.zeros((p, p + 1)))


def _sum_intercepts(
    pattern: Weighing, stages: tuple[Stage, ...], others: tuple[Kept, ...], linearised: Linearised
) -> tuple[float, FloatArray]:
    """`_sum_rows` for one stage where everything is a sum of weights or scores; see `Weighing.only_intercepts`."""
    (stage,), (other,), engine = stages, others, pattern.engine
    x, slots = np.ascontiguousarray(pattern.x[0]), pattern.factors[0].slots
    own = np.empty((stage.levels, 2))

    def run(lane: tuple[Partition, ...]) -> tuple[float, FloatArray]:
        value, buffer = 0.0, np.zeros((other.levels, 2))
        for piece in lane:
            (levels,) = piece.levels
            own[slice(*levels)] = 0.0
            stage.values[stage.offsets[levels[0]] : stage.offsets[levels[1]]] = 0.0
            for first, last in cut(piece.rows):
                found, weight, score = linearised(first, last)
                value += found
                weighted.weigh_intercepts(
                    first, last, pattern.codes, slots, weight, score, stage.offsets, own, stage.values, buffer
                )
            weighted.spread(*levels, own, x, stage.offsets, stage.gram, stage.values)
            engine.storage.trim()
        return value, buffer

    found = engine.map(run, [(lane,) for lane in pattern.lanes(2 * other.levels)])
    total = sum((buffer for _, buffer in found), np.zeros((other.levels, 2)))
    weighted.spread(0, other.levels, total, x, other.offsets, other.gram, other.values)
    weight, score = own.sum(axis=0)
    return sum(value for value, _ in found), np.column_stack([weight * np.outer(x, x), score * x])


def _stage_room(pattern: Weighing, stage: Stage) -> Stage:
    """Arrays for new numbers, which are not set."""
    values = pattern.engine.storage.empty(stage.values.shape)
    return replace(stage, gram=np.empty_like(stage.gram), values=values, up=np.empty_like(stage.up))


def _clear(stage: Stage, levels: Range) -> None:
    own = slice(*levels)
    stage.gram[own] = 0.0
    stage.up[own] = 0.0
    stage.values[stage.size * stage.offsets[levels[0]] : stage.size * stage.offsets[levels[1]]] = 0.0


def _columns(pattern: Weighing, f: int) -> tuple[IntArray, IntArray, IntArray]:
    """Columns of ``z`` of factor ``f`` and of those it is nested in, and where its rest's begin."""
    count, start = len(pattern.wide.stages), pattern.z_start
    above = np.arange(start[f + 1], start[count]) if f < count else np.empty(0, np.int64)
    return np.arange(start[f], start[f + 1]), above, start[rest_of(pattern.wide, f) :]
