"""The mixed-model system at given relative covariance factors: factorise once, then solve and invert.

Raw coordinates throughout: coefficients ``b = Lambda u`` and inverses ``Q = Lambda C^-1 Lambda'``, so that a singular
``Lambda`` is an ordinary point (DESIGN: "two matrices, two uses"). ``C_b`` is the system without the fixed effects,
``C`` the joint one; one Cholesky factor serves both, because the fixed effects come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack, solve_triangular

from ranef.engine.threads import Engine
from ranef.errors import FitError
from ranef.kernel import dense, eliminate
from ranef.solve.cross_products import CrossProducts, Kept, Stage, bands, dense_rest

FloatArray = npt.NDArray[np.float64]

MOST_DENSE_COLUMNS = 16_000


@dataclass(frozen=True, eq=False)
class ReducedStage:
    """One stage after elimination.

    Attributes
    ----------
    gram, values, up : float64 arrays
        Raw products of the stage, less what earlier stages took away; as in `Stage`.
    transfer : float64 array, shape (levels, k, k)
        ``T`` of `ranef.kernel.eliminate`.
    reduced, reduced_up : float64 arrays
        ``T`` times ``values`` and ``up``.
    """

    gram: FloatArray
    values: FloatArray
    up: FloatArray
    transfer: FloatArray
    reduced: FloatArray
    reduced_up: FloatArray


@dataclass(frozen=True, eq=False)
class System:
    """The factorised system.

    Attributes
    ----------
    factors : tuple of float64 arrays (k, k)
        ``Lambda`` of each block.
    stages : tuple of ReducedStage
    raw : float64 array
        Lower triangle of the rest after all stages are eliminated, raw coordinates.
    lower : float64 array, shape (random + fixed,) * 2
        Cholesky factor of the rest, lower triangle, spherical coordinates.
    start, width, wide : arrays
        The rest's block-diagonal ``Lambda``; see `ranef.kernel.dense`.
    logdet_random, logdet_fixed : float
        ``log|C_b|``, and ``log|C| - log|C_b|``.
    coefficients : tuple of float64 arrays (levels, k)
        Conditional modes of each block, levels in the block's own order of codes.
    beta : float64 array, shape (fixed,)
    residual : float
        Penalised weighted residual sum of squares at the solution.
    """

    cross: CrossProducts
    engine: Engine
    factors: tuple[FloatArray, ...]
    stages: tuple[ReducedStage, ...]
    raw: FloatArray
    lower: FloatArray
    start: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]
    wide: FloatArray
    logdet_random: float
    logdet_fixed: float
    residual: float
    solution: Coefficients

    @property
    def beta(self) -> FloatArray:
        return self.solution.rest[self.cross.random : self.cross.random + self.cross.fixed, 0]


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


def factorise(cross: CrossProducts, factors: Sequence[FloatArray], engine: Engine) -> System:
    """Eliminate, factorise and solve for the response.

    Parameters
    ----------
    cross : CrossProducts
    factors : sequence of float64 arrays (k, k)
        ``Lambda`` of each block, lower triangular.
    engine : Engine

    Raises
    ------
    FitError
        If the system is not positive definite in floating point: columns of the fixed part are too nearly dependent
        given the random effects.
    """
    if cross.random > MOST_DENSE_COLUMNS:
        raise FitError(
            f"the grouping factors besides the largest have {cross.random:,} random effects together; the exact solver "
            f"takes at most {MOST_DENSE_COLUMNS:,} (it factorises a dense matrix of that size). "
            "Fit a sample of their levels, or fewer crossed factors."
        )
    reduced: list[ReducedStage] = []
    later = [_copies(stage, s > 0) for s, stage in enumerate(cross.stages)]
    logdet = 0.0
    for s, stage in enumerate(cross.stages):
        gram, values, up = later[s]
        factor = np.ascontiguousarray(factors[stage.block])
        transfer = np.empty_like(gram)
        level_logdet = np.empty(stage.levels)
        half = np.empty_like(values)
        half_up = np.empty_like(up)
        engine.each(
            stage.partitions,
            eliminate.factor_levels,
            factor,
            gram,
            transfer,
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
        reduced.append(ReducedStage(gram, values, up, transfer, half, half_up))

    raw = dense_rest(cross, engine)
    pieces = bands(len(raw))
    for stage, r in zip(cross.stages, reduced, strict=True):
        engine.each(
            pieces,
            eliminate.downdate_rest,
            stage.size,
            stage.offsets,
            stage.columns,
            r.reduced,
            raw,
        )
    start, width, wide = _wide_factor(cross, factors)
    spherical = np.zeros_like(raw)
    engine.each(
        pieces,
        dense.to_spherical,
        cross.random,
        start,
        width,
        wide,
        raw,
        spherical,
    )
    solved = len(raw) - 1
    response = spherical[solved, :solved].copy()
    lower = np.ascontiguousarray(spherical[:solved, :solved])
    if solved:
        # the transpose of a C-ordered lower triangle is LAPACK's upper one: no copy
        _, info = lapack.dpotrf(lower.T, lower=0, clean=0, overwrite_a=1)
        if info:
            raise FitError(
                "the mixed-model system is singular in floating point: either a grouping factor explains the response "
                "almost exactly (its variance is more than about 1e12 times the residual's), or columns of the fixed "
                "part depend on each other given the random effects; drop one of them"
            )
    diagonal = np.log(np.diag(lower))
    half_solution = solve_triangular(lower, response, lower=True, check_finite=False) if solved else response
    residual = float(spherical[solved, solved] - half_solution @ half_solution)
    system = System(
        cross=cross,
        engine=engine,
        factors=tuple(factors),
        stages=tuple(reduced),
        raw=raw,
        lower=lower,
        start=start,
        width=width,
        wide=wide,
        logdet_random=logdet + 2 * float(diagonal[: cross.random].sum()),
        logdet_fixed=2 * float(diagonal[cross.random :].sum()),
        residual=residual,
        solution=zeros(cross, 0),
    )
    return _with_solution(system, half_solution)


def _copies(stage: Stage, changed: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    if not changed:
        return stage.gram, stage.values, stage.up
    return stage.gram.copy(), stage.values.copy(), stage.up.copy()


def _wide_factor(
    cross: CrossProducts, factors: Sequence[FloatArray]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray]:
    """Block-diagonal ``Lambda`` of the rest: first column and width of each column's block, and its rows."""
    n = cross.columns
    widest = max([1, *(kept.size for kept in cross.kept)])
    start = np.arange(n)
    width = np.ones(n, np.int64)
    rows = np.zeros((n, widest))
    rows[:, 0] = 1.0
    for kept in cross.kept:
        k, columns = kept.size, kept.place
        start[columns] = kept.start + np.repeat(np.arange(kept.levels) * k, k)
        width[columns] = k
        rows[columns] = 0.0
        rows[columns, :k] = np.tile(factors[kept.block], (kept.levels, 1))
    return start, width, rows


def _spherical_to_raw(system: System, rest: FloatArray) -> FloatArray:
    """``Lambda`` times the rest's random columns of a vector (or several side by side)."""
    out = rest.copy()
    for kept in system.cross.kept:
        part = rest[kept.place].reshape(-1, kept.size, rest.shape[1])
        out[kept.place] = (system.factors[kept.block] @ part).reshape(-1, rest.shape[1])
    return out


def _raw_to_spherical(system: System, rest: FloatArray) -> FloatArray:
    """``Lambda'`` times the rest's random columns."""
    out = rest.copy()
    for kept in system.cross.kept:
        part = rest[kept.place].reshape(-1, kept.size, rest.shape[1])
        out[kept.place] = (system.factors[kept.block].T @ part).reshape(-1, rest.shape[1])
    return out


def _with_solution(system: System, half_solution: FloatArray) -> System:
    """Back substitution for the response; its own entry is -1, so that ``A x`` is minus the weighted residual."""
    solved = len(half_solution)
    rest = np.empty((solved + 1, 1))
    if solved:
        rest[:solved, 0] = solve_triangular(system.lower, half_solution, lower=True, trans=1, check_finite=False)
    rest = _spherical_to_raw(system, rest)
    rest[solved] = -1.0
    halves = [np.zeros((s.levels, s.size, 1)) for s in system.cross.stages]
    solution = Coefficients(_back_substitute(system, halves, rest), rest)
    return System(**{**system.__dict__, "solution": solution})


def _back_substitute(system: System, halves: list[FloatArray], rest: FloatArray) -> tuple[FloatArray, ...]:
    solutions: list[FloatArray] = [np.empty(0)] * len(halves)
    for s in reversed(range(len(halves))):
        stage, r = system.cross.stages[s], system.stages[s]
        for to in stage.ancestors:
            system.engine.each(
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
        system.engine.each(
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


def solve(system: System, right: Coefficients, fixed: bool = True) -> Coefficients:
    """``Q r`` in raw coordinates: the joint system's, or with ``fixed=False`` that of ``C_b``.

    Parameters
    ----------
    right : Coefficients
        Right-hand sides; the response's row is not read, nor, without ``fixed``, those of the fixed effects.
    """
    cross = system.cross
    sides = right.rest.shape[1]
    own = [r.copy() for r in right.stages]
    rest = right.rest.copy()
    halves = []
    for s, (stage, r) in enumerate(zip(cross.stages, system.stages, strict=True)):
        half = np.empty_like(own[s])
        buffers = [np.zeros((len(rest), sides)) for _ in stage.partitions]
        system.engine.map(
            eliminate.forward,
            [
                (i, j, r.transfer, stage.offsets, stage.columns, r.reduced, own[s], half, buffer)
                for (i, j), buffer in zip(stage.partitions, buffers, strict=True)
            ],
        )
        for buffer in buffers:
            rest += buffer
        for to in stage.ancestors:
            system.engine.each(
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
    take = cross.random + (cross.fixed if fixed else 0)
    spherical = _raw_to_spherical(system, rest)
    spherical[take:] = 0.0
    if take:
        lower = system.lower[:take, :take]
        half = solve_triangular(lower, spherical[:take], lower=True, check_finite=False)
        spherical[:take] = solve_triangular(lower, half, lower=True, trans=1, check_finite=False)
    solution = _spherical_to_raw(system, spherical)
    return Coefficients(_back_substitute(system, halves, solution), solution)


def multiply(cross: CrossProducts, x: Coefficients, engine: Engine) -> Coefficients:
    """Raw cross products of all columns (random, fixed, response) times ``x``."""
    sides = x.rest.shape[1]
    own = [np.zeros_like(s) for s in x.stages]
    rest = np.zeros_like(x.rest)
    rest[cross.random :] = cross.dense @ x.rest[cross.random :]

    def add(factor: Stage | Kept, mine: FloatArray, out: FloatArray) -> None:
        buffers = [np.zeros_like(rest) for _ in factor.partitions]
        shared = (factor.gram, factor.offsets, factor.columns, factor.values, mine, x.rest, out)
        engine.map(
            eliminate.multiply,
            [(i, j, *shared, buffer) for (i, j), buffer in zip(factor.partitions, buffers, strict=True)],
        )
        for buffer in buffers:
            np.add(rest, buffer, out=rest)

    for kept in cross.kept:
        mine = x.rest[kept.place].reshape(kept.levels, kept.size, sides)
        out = np.zeros_like(mine)
        add(kept, mine, out)
        rest[kept.place] += out.reshape(-1, sides)
    for s, stage in enumerate(cross.stages):
        add(stage, x.stages[s], own[s])
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


def inner(a: Coefficients, b: Coefficients) -> FloatArray:
    """Products of every side of ``a`` with every side of ``b``, shape (sides of a, sides of b)."""
    out = a.rest.T @ b.rest
    for left, right in zip(a.stages, b.stages, strict=True):
        out += np.tensordot(left, right, axes=([0, 1], [0, 1]))
    return out


def by_block(cross: CrossProducts, x: Coefficients) -> tuple[FloatArray, ...]:
    """Coefficients of each block, shape (levels, k, sides), levels in the block's own order of codes."""
    out: dict[int, FloatArray] = {}
    for stage, values in zip(cross.stages, x.stages, strict=True):
        out[stage.block] = np.empty_like(values)
        out[stage.block][stage.old] = values
    for kept in cross.kept:
        out[kept.block] = x.rest[kept.place].reshape(kept.levels, kept.size, -1)
    return tuple(out[b] for b in range(len(cross.sizes)))


def from_blocks(cross: CrossProducts, values: Sequence[FloatArray], sides: int) -> Coefficients:
    """The inverse of `by_block`; fixed effects and response are zero."""
    out = zeros(cross, sides)
    for stage, target in zip(cross.stages, out.stages, strict=True):
        target[:] = values[stage.block][stage.old]
    for kept in cross.kept:
        out.rest[kept.place] = values[kept.block].reshape(-1, sides)
    return out
