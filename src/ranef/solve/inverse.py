"""The selected inverse of a factorised system: what gradients and standard deviations need of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from ranef.errors import FitError
from ranef.kernel import blas, dense, inverse
from ranef.solve.cross_products import Kept, bands
from ranef.solve.system import System

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StageInverse:
    """Entries of one stage's levels: ``own`` (levels, k, k), and where `Stage` has products, ``values`` and ``up``."""

    own: FloatArray
    values: FloatArray
    up: FloatArray


@dataclass(frozen=True, eq=False)
class Inverse:
    """Entries of ``Q = Lambda C^-1 Lambda'``, raw coordinates.

    Attributes
    ----------
    rest : float64 array, shape (random + fixed + 1,) * 2
        Symmetric; zeros for the response, and for the fixed effects where they are not part of the system.
    diagonal : tuple of float64 arrays (levels, k, k)
        Own block of each level of each block, in the block's own order of codes.
    trace : tuple of float64 arrays (k, k)
        ``sum_g Z_g' P Z_g`` of each block: ``P`` of REML for the joint system, ``V^-1`` otherwise.
    stages : tuple of StageInverse
        Empty unless they were asked for.
    """

    rest: FloatArray
    diagonal: tuple[FloatArray, ...]
    trace: tuple[FloatArray, ...]
    stages: tuple[StageInverse, ...] = ()


def invert(system: System, fixed: bool, stages: bool = False) -> Inverse:
    """Selected inverse of the joint system, or with ``fixed=False`` of ``C_b``.

    Parameters
    ----------
    stages : bool
        Return the entries between each stage's levels and what they meet, too.
    """
    cross, engine = system.cross, system.engine
    take = cross.random + (cross.fixed if fixed else 0)
    spherical = system.lower[:take, :take].copy()
    if take and blas.cholesky_inverse(spherical):
        raise FitError("the mixed-model system is singular in floating point")
    rest = np.empty_like(system.raw)
    rest[take:] = 0.0
    rest[:take, take:] = 0.0
    pieces = [(i, min(j, take)) for i, j in bands(cross.columns) if i < take]
    engine.each(
        pieces,
        dense.to_raw,
        system.start,
        system.width,
        system.wide,
        spherical,
        rest,
    )
    diagonal: dict[int, FloatArray] = {}
    trace: dict[int, FloatArray] = {}
    for kept in cross.kept:
        diagonal[kept.block] = _diagonal_blocks(rest[kept.place, kept.place], kept.size)
        trace[kept.block] = _kept_trace(system, rest, spherical, kept)
    entries = _invert_stages(system, rest, diagonal, trace, stages)
    blocks = range(len(cross.sizes))
    return Inverse(
        rest,
        tuple(diagonal[b] for b in blocks),
        tuple(trace[b] for b in blocks),
        entries if stages else (),
    )


def _diagonal_blocks(square: FloatArray, k: int) -> FloatArray:
    levels = len(square) // k
    at = np.arange(levels) * k
    places = at[:, None] + np.arange(k)
    blocks: FloatArray = square[places[:, :, None], places[:, None, :]]
    return blocks


def _kept_trace(system: System, rest: FloatArray, spherical: FloatArray, kept: Kept) -> FloatArray:
    """``sum_g Z_g' P Z_g`` of a block that is not eliminated.

    ``Lambda' M Lambda = sum_g (I - C^gg)`` is free; where ``Lambda`` is (nearly) singular the difference has no
    digits left, and the products are formed.
    """
    k, columns = kept.size, kept.place
    factor = system.factors[kept.block]
    own = _diagonal_blocks(spherical[columns, columns], k)
    shrunk = np.eye(k) * len(own) - np.tril(own.sum(0)) - np.tril(own.sum(0), -1).T
    if np.all(np.diag(factor) != 0) and np.linalg.eigvalsh(shrunk)[0] > 1e-6 * len(own):
        left = solve_triangular(factor, shrunk, lower=True, trans=1, check_finite=False)
        return np.asarray(solve_triangular(factor, left.T, lower=True, trans=1, check_finite=False))
    raw = np.tril(system.raw) + np.tril(system.raw, -1).T
    rows = raw[columns]
    shift = np.einsum("gai,gbi->gab", (rows @ rest).reshape(len(own), k, -1), rows.reshape(len(own), k, -1))
    return np.asarray((_diagonal_blocks(raw[columns, columns], k) - shift).sum(0))


def _invert_stages(
    system: System, rest: FloatArray, diagonal: dict[int, FloatArray], trace: dict[int, FloatArray], all_entries: bool
) -> tuple[StageInverse, ...]:
    cross, engine = system.cross, system.engine
    count = len(cross.stages)
    own: list[FloatArray] = [np.empty(0)] * count
    kept: list[FloatArray] = [np.empty(0)] * count
    kept_up: list[FloatArray] = [np.empty(0)] * count
    for s in reversed(range(count)):
        stage, r = cross.stages[s], system.stages[s]
        above = r.up.shape[2]
        square = np.zeros((stage.levels, above, above))
        between = np.zeros(above * int(stage.offsets[-1]))
        for to in stage.ancestors:
            outer = cross.stages[to.stage]
            engine.each(
                stage.partitions,
                inverse.gather_ancestor,
                to.parent,
                to.at,
                to.size,
                stage.offsets,
                stage.columns,
                outer.offsets,
                outer.columns,
                own[to.stage],
                kept[to.stage],
                kept_up[to.stage],
                square,
                between,
            )
        # the factors nested in this one need them
        keep = s > 0 or all_entries
        own[s] = np.empty_like(r.gram)
        level_trace = np.empty_like(r.gram)
        kept[s] = np.empty_like(r.values) if keep else np.empty(0)
        kept_up[s] = np.empty_like(r.up) if keep else np.empty((0, 0, 0))
        engine.each(
            stage.partitions,
            inverse.invert_levels,
            r.gram,
            r.transfer,
            stage.offsets,
            stage.columns,
            r.values,
            r.up,
            rest,
            square,
            between,
            keep,
            own[s],
            level_trace,
            kept[s],
            kept_up[s],
        )
        in_order = np.empty_like(own[s])
        in_order[stage.old] = own[s]
        diagonal[stage.block] = in_order
        trace[stage.block] = level_trace.sum(0)
    return tuple(StageInverse(*entries) for entries in zip(own, kept, kept_up, strict=True))
