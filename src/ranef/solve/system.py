"""The mixed-model system at given relative covariance factors: factorise once, then solve and invert.

Raw coordinates throughout: coefficients ``b = Lambda u`` and inverses ``Q = Lambda C^-1 Lambda'``, so that a singular
``Lambda`` is an ordinary point (DESIGN: "two matrices, two uses"). ``C_b`` is the system without the fixed effects,
``C`` the joint one; one Cholesky factor serves both, because the fixed effects come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine
from ranef.errors import FitError
from ranef.kernel import blas, dense, eliminate
from ranef.solve.cross_products import CrossProducts, bands, dense_rest
from ranef.solve.elimination import (
    Coefficients,
    ReducedStage,
    back_substitute,
    eliminate_stages,
    forward_substitute,
    raw_to_spherical,
    spherical_to_raw,
)

FloatArray = npt.NDArray[np.float64]

MOST_DENSE_COLUMNS = 16_000


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
        Cholesky factor of the rest, spherical coordinates; above the diagonal is anything.
    start, width, wide : arrays
        The rest's block-diagonal ``Lambda``; see `ranef.kernel.dense`.
    logdet_random, logdet_fixed : float
        ``log|C_b|``, and ``log|C| - log|C_b|``.
    response : float64 array, shape (random + fixed,)
        The response's products with the rest, spherical coordinates.
    square : float
        What is left of the response's own.
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
    response: FloatArray
    square: float

    @cached_property
    def _half_solution(self) -> FloatArray:
        half = self.response[None].copy()
        if half.size:
            blas.solve_lower(self.lower, half)
        return half

    @cached_property
    def residual(self) -> float:
        """Penalised weighted residual sum of squares at the solution."""
        return self.square - float(self._half_solution[0] @ self._half_solution[0])

    @cached_property
    def solution(self) -> Coefficients:
        """Coefficients for the response; its own entry is -1, so that ``A x`` is minus the weighted residual."""
        solved = self._half_solution.copy()
        if solved.size:
            blas.solve_lower_transposed(self.lower, solved)
        rest = spherical_to_raw(self.cross, self.factors, np.append(solved[0], -1.0)[:, None])
        halves = [np.zeros((s.levels, s.size, 1)) for s in self.cross.stages]
        return Coefficients(back_substitute(self.cross, self.stages, halves, rest, self.engine), rest)

    @property
    def beta(self) -> FloatArray:
        return self.solution.rest[self.cross.random : self.cross.random + self.cross.fixed, 0]


def factorise(cross: CrossProducts, factors: Sequence[FloatArray], engine: Engine) -> System:
    """Eliminate and factorise.

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
    reduced, logdet = eliminate_stages(cross, factors, engine)
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
    solved = len(raw) - 1
    # without the response's column, so that the rows before the response's are the square that is factorised
    spherical = np.empty((solved + 1, solved))
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
    lower = spherical[:solved]
    # by kernels, not by SciPy's wrappers: these may hold Python's lock, and evaluations run side by side
    if solved and blas.cholesky(lower):
        raise FitError(
            "the mixed-model system is singular in floating point: either a grouping factor explains the response "
            "almost exactly (its variance is more than about 1e12 times the residual's), or columns of the fixed "
            "part depend on each other given the random effects; drop one of them"
        )
    diagonal = np.log(np.diag(lower))
    return System(
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
        response=spherical[solved],
        square=float(raw[solved, solved]),
    )


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


def solve(system: System, right: Coefficients, fixed: bool = True, noise: Coefficients | None = None) -> Coefficients:
    """``Q r`` in raw coordinates: the joint system's, or with ``fixed=False`` that of ``C_b``.

    Parameters
    ----------
    right : Coefficients
        Right-hand sides; the response's row is not read, nor, without ``fixed``, those of the fixed effects.
    noise : Coefficients, optional
        Added to ``Lambda' r`` in spherical coordinates.
    """
    cross = system.cross
    halves, rest = forward_substitute(cross, system.stages, right, system.engine, noise)
    take = cross.random + (cross.fixed if fixed else 0)
    spherical = raw_to_spherical(cross, system.factors, rest)
    if noise is not None:
        spherical[: cross.random] += noise.rest[: cross.random]
    spherical[take:] = 0.0
    if take:
        sides = np.ascontiguousarray(spherical[:take].T)
        blas.solve_lower(system.lower, sides)
        blas.solve_lower_transposed(system.lower, sides)
        spherical[:take] = sides.T
    solution = spherical_to_raw(cross, system.factors, spherical)
    return Coefficients(back_substitute(cross, system.stages, halves, solution, system.engine), solution)
