"""Elimination of the stages and what goes with it: vectors over all columns, products and substitutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine, Range
from ranef.kernel import eliminate
from ranef.solve.cross_products import CrossProducts, Stage
from ranef.solve.panels import aligned_zeros

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Coefficients:
    """A vector (or several, side by side) over all columns of the system.

    Attributes
    ----------
    stages : tuple of float64 arrays (levels, k, sides)
        Levels in the order of elimination.
    rest : float64 array, shape (random + fixed + 1, sides)
        The last row belongs to the response.
    """

    stages: tuple[FloatArray, ...]
    rest: FloatArray


def zeros(cross: CrossProducts, sides: int) -> Coefficients:
    """A zero vector over the system's columns."""
    return Coefficients(
        tuple(np.zeros((s.levels, s.size, sides)) for s in cross.stages), np.zeros((cross.columns, sides))
    )


def beside(*parts: Coefficients) -> Coefficients:
    """Vectors side by side."""
    stages = tuple(np.concatenate(same, axis=2) for same in zip(*(part.stages for part in parts), strict=True))
    return Coefficients(stages, np.concatenate([part.rest for part in parts], axis=1))


@dataclass(frozen=True, eq=False)
class ReducedStage:
    """One stage after elimination.

    Attributes
    ----------
    gram, values, up : float64 arrays
        Raw products of the stage, less what earlier stages took away; as in `Stage`.
    transfer : float64 array, shape (levels, k, k)
        ``T`` of `ranef.kernel.eliminate`.
    root : float64 array, shape (levels, k, k)
        ``L^-1``.
    reduced, reduced_up : float64 arrays
        ``T`` times ``values`` and ``up``.
    """

    gram: FloatArray
    values: FloatArray
    up: FloatArray
    transfer: FloatArray
    root: FloatArray
    reduced: FloatArray
    reduced_up: FloatArray


def eliminate_stages(
    cross: CrossProducts, factors: Sequence[FloatArray], engine: Engine
) -> tuple[tuple[ReducedStage, ...], float]:
    """Eliminate all stages; also the logarithm of their determinant.

    Parameters
    ----------
    factors : sequence of float64 arrays (k, k)
        ``Lambda`` of each block, lower triangular.
    """
    reduced: list[ReducedStage] = []
    later = [_copies(stage, s > 0, engine) for s, stage in enumerate(cross.stages)]
    logdet = 0.0
    for s, stage in enumerate(cross.stages):
        gram, values, up = later[s]
        factor = np.ascontiguousarray(factors[stage.block])
        transfer, root = np.empty_like(gram), np.empty_like(gram)
        level_logdet = np.empty(stage.levels)
        half = engine.storage.empty(values.shape)
        half_up = np.empty_like(up)
        engine.each(
            stage.partitions,
            eliminate.factor_levels,
            factor,
            gram,
            transfer,
            root,
            level_logdet,
        )
        engine.each(
            stage.partitions,
            eliminate.reduce_levels,
            transfer,
            stage.offsets,
            values,
            up,
            half,
            half_up,
        )
        for to in stage.ancestors:
            outer = cross.stages[to.stage]
            o_gram, o_values, o_up = later[to.stage]
            engine.each(
                stage.partitions,
                eliminate.pass_to_ancestor,
                to.parent,
                to.at,
                to.size,
                stage.offsets,
                stage.columns,
                half,
                half_up,
                o_gram,
                outer.offsets,
                outer.columns,
                o_values,
                o_up,
            )
        logdet += float(level_logdet.sum())
        reduced.append(ReducedStage(gram, values, up, transfer, root, half, half_up))
    return tuple(reduced), logdet


def _copies(stage: Stage, changed: bool, engine: Engine) -> tuple[FloatArray, FloatArray, FloatArray]:
    if not changed:
        return stage.gram, stage.values, stage.up
    values = engine.storage.empty(stage.values.shape)
    for piece in engine.storage.pieces(len(values)):
        values[piece] = stage.values[piece]
    return stage.gram.copy(), values, stage.up.copy()


def forward_substitute(
    cross: CrossProducts,
    stages: Sequence[ReducedStage],
    right: Coefficients,
    engine: Engine,
    noise: Coefficients | None = None,
) -> tuple[list[FloatArray], FloatArray]:
    """First half of a solve: what each stage keeps, and the right-hand sides of the rest.

    ``noise`` of the stages is added in spherical coordinates.
    """
    # the first is an ancestor of none
    own = [r if s == 0 else r.copy() for s, r in enumerate(right.stages)]
    rest = right.rest.copy()
    halves = []
    for s, (stage, r) in enumerate(zip(cross.stages, stages, strict=True)):
        half = np.zeros_like(own[s]) if noise is None else r.root @ noise.stages[s]
        shared = (r.transfer, stage.offsets, stage.columns, r.reduced, own[s], half)
        add_lanes(eliminate.forward, stage.lanes, shared, rest, engine)
        for to in stage.ancestors:
            engine.each(
                stage.partitions,
                eliminate.forward_up,
                to.parent,
                to.at,
                to.size,
                r.reduced_up,
                half,
                own[to.stage],
            )
        halves.append(half)
    return halves, rest


def back_substitute(
    cross: CrossProducts, stages: Sequence[ReducedStage], halves: list[FloatArray], rest: FloatArray, engine: Engine
) -> tuple[FloatArray, ...]:
    """Second half of a solve: coefficients of the stages, given those of the rest. ``halves`` is overwritten."""
    solutions: list[FloatArray] = [np.empty(0)] * len(halves)
    for s in reversed(range(len(halves))):
        stage, r = cross.stages[s], stages[s]
        for to in stage.ancestors:
            engine.each(
                stage.partitions,
                eliminate.backward_up,
                to.parent,
                to.at,
                to.size,
                r.reduced_up,
                solutions[to.stage],
                halves[s],
            )
        solutions[s] = np.empty_like(halves[s])
        engine.each(
            stage.partitions,
            eliminate.backward,
            r.transfer,
            stage.offsets,
            stage.columns,
            r.reduced,
            halves[s],
            rest,
            solutions[s],
        )
    return tuple(solutions)


def spherical_to_raw(cross: CrossProducts, factors: Sequence[FloatArray], rest: FloatArray) -> FloatArray:
    """``Lambda`` times the rest's random columns of a vector (or several side by side)."""
    out = rest.copy()
    for kept in cross.kept:
        part = rest[kept.place].reshape(kept.levels, kept.size, rest.shape[1])
        out[kept.place] = times(factors[kept.block], part).reshape(rest[kept.place].shape)
    return out


def raw_to_spherical(cross: CrossProducts, factors: Sequence[FloatArray], rest: FloatArray) -> FloatArray:
    """``Lambda'`` times the rest's random columns."""
    out = rest.copy()
    for kept in cross.kept:
        part = rest[kept.place].reshape(kept.levels, kept.size, rest.shape[1])
        out[kept.place] = times(factors[kept.block].T, part).reshape(rest[kept.place].shape)
    return out


def add_lanes(
    kernel: Callable[..., None],
    lanes: Sequence[Sequence[Range]],
    shared: Sequence[object],
    out: FloatArray,
    engine: Engine,
) -> None:
    """Run a kernel that adds into ``out``, one buffer a lane, and add the buffers in their order."""
    buffers = [aligned_zeros(out.shape) for _ in lanes]

    def run(lane: Sequence[Range], buffer: FloatArray) -> None:
        for first, last in lane:
            kernel(first, last, *shared, buffer)
            engine.storage.trim()

    engine.map(run, list(zip(lanes, buffers, strict=True)))
    flat = out.reshape(-1)

    def add(first: int, last: int) -> None:
        for buffer in buffers:
            np.add(flat[first:last], buffer.reshape(-1)[first:last], out=flat[first:last])

    # a task costs as much as adding some ten thousand numbers
    pieces = max(1, min(16, flat.size // 65_536))
    cuts = [flat.size * i // pieces for i in range(pieces + 1)]
    engine.each(pairwise(cuts), add)


def multiply_kept(cross: CrossProducts, rest: FloatArray, engine: Engine, dense: bool = True) -> FloatArray:
    """Raw cross products of the rest (kept factors, fixed effects, response) times ``rest``, shape (columns, sides).

    Without ``dense`` the fixed effects and the response, which must be zero, are left out of the products.
    """
    out = np.zeros_like(rest)
    out[cross.random :] = cross.dense @ rest[cross.random :]
    for kept in cross.kept:
        mine = rest[kept.place].reshape(kept.levels, kept.size, -1)
        if not dense and kept is cross.kept[-1] and not kept.coupled:
            # a level meets nothing but itself
            out[kept.place] += times(kept.gram, mine).reshape(kept.levels * kept.size, rest.shape[1])
            continue
        own = np.zeros_like(mine)
        shared = (kept.gram, kept.offsets, kept.columns, kept.values, mine, rest, own)
        add_lanes(eliminate.multiply, kept.lanes, shared, out, engine)
        out[kept.place] += own.reshape(kept.levels * kept.size, rest.shape[1])
    return out


def multiply(cross: CrossProducts, x: Coefficients, engine: Engine) -> Coefficients:
    """Raw cross products of all columns (random, fixed, response) times ``x``."""
    own = [np.zeros_like(s) for s in x.stages]
    rest = multiply_kept(cross, x.rest, engine)
    for s, stage in enumerate(cross.stages):
        shared = (stage.gram, stage.offsets, stage.columns, stage.values, x.stages[s], x.rest, own[s])
        add_lanes(eliminate.multiply, stage.lanes, shared, rest, engine)
        for to in stage.ancestors:
            engine.each(
                stage.partitions,
                eliminate.multiply_up,
                to.parent,
                to.at,
                to.size,
                stage.up,
                x.stages[s],
                x.stages[to.stage],
                own[s],
                own[to.stage],
            )
    return Coefficients(tuple(own), rest)


def combine(x: Coefficients, matrix: FloatArray) -> Coefficients:
    """Combinations of the sides, shape of ``matrix`` (sides, new sides)."""
    return Coefficients(tuple(s @ matrix for s in x.stages), x.rest @ matrix)


def inner(a: Coefficients, b: Coefficients) -> FloatArray:
    """Products of every side of ``a`` with every side of ``b``, shape (sides of a, sides of b)."""
    out = a.rest.T @ b.rest
    for left, right in zip(a.stages, b.stages, strict=True):
        out += np.tensordot(left, right, axes=([0, 1], [0, 1]))
    return out


def by_block(cross: CrossProducts, x: Coefficients) -> tuple[FloatArray, ...]:
    """Coefficients of each block, shape (levels, k, sides), levels in the block's own order of codes; perhaps views."""
    out: dict[int, FloatArray] = {}
    for stage, values in zip(cross.stages, x.stages, strict=True):
        if stage.in_order:
            out[stage.block] = values
            continue
        out[stage.block] = np.empty_like(values)
        out[stage.block][stage.old] = values
    for kept in cross.kept:
        out[kept.block] = x.rest[kept.place].reshape(kept.levels, kept.size, -1)
    return tuple(out[b] for b in range(len(cross.sizes)))


def from_blocks(cross: CrossProducts, values: Sequence[FloatArray], sides: int) -> Coefficients:
    """The inverse of `by_block`; fixed effects and response are zero."""
    rest = np.zeros((cross.columns, sides))
    for kept in cross.kept:
        rest[kept.place] = values[kept.block].reshape(kept.levels * kept.size, sides)
    stages = tuple(values[s.block] if s.in_order else values[s.block][s.old] for s in cross.stages)
    return Coefficients(stages, rest)


def times(blocks: FloatArray, x: FloatArray) -> FloatArray:
    """Small blocks (..., k, k), one for each level or one for all, times what each level has (levels, k, sides)."""
    return np.asarray(blocks * x if blocks.shape[-1] == 1 else blocks @ x)
