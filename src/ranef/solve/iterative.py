"""The mixed-model system at given relative covariance factors without a dense matrix: conjugate gradients.

The stages are eliminated as on the exact path; on what is left of the kept factors, preconditioned conjugate gradients
run on many right-hand sides in one pass. The preconditioner is the block diagonal of the Schur complement itself. The
fixed effects are few and are eliminated from the solutions exactly, so that they cost the iteration nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine
from ranef.errors import FitError
from ranef.kernel import eliminate
from ranef.solve.cross_products import CrossProducts
from ranef.solve.elimination import (
    Coefficients,
    ReducedStage,
    add_lanes,
    back_substitute,
    eliminate_stages,
    forward_substitute,
    multiply_kept,
    raw_to_spherical,
    spherical_to_raw,
)

FloatArray = npt.NDArray[np.float64]

TOLERANCE = 1e-6
MOST_ITERATIONS = 500


@dataclass(frozen=True, eq=False)
class Iterative:
    """A system ready to be solved.

    Attributes
    ----------
    factors : tuple of float64 arrays (k, k)
    stages : tuple of ReducedStage
    logdet_stages : float
    blocks : tuple of float64 arrays (levels, k, k)
        For each kept factor, the inverses of the diagonal blocks of the Schur complement, spherical coordinates.
    logdet_blocks : float
        Logarithm of the determinant of those diagonal blocks.
    pull : float64 array, shape (random, fixed)
        ``S_kk^-1 S_kx``.
    precision : float64 array, shape (fixed, fixed)
        ``S_xx - S_xk S_kk^-1 S_kx``: ``X'V^-1 X``.
    iterations : int
        Of the solve for ``pull``.
    """

    cross: CrossProducts
    engine: Engine
    factors: tuple[FloatArray, ...]
    stages: tuple[ReducedStage, ...]
    logdet_stages: float
    blocks: tuple[FloatArray, ...]
    logdet_blocks: float
    pull: FloatArray
    precision: FloatArray
    iterations: int


@dataclass(frozen=True, eq=False)
class Solved:
    """Solutions with what they cost.

    Attributes
    ----------
    x : Coefficients
        Raw coordinates.
    spherical : float64 array, shape (random, sides)
        The kept factors' part before the fixed effects are taken into account: a start for the next solve.
    iterations : int
    residual : float
        Largest norm of a residual over its right-hand side's, in the preconditioner's metric.
    """

    x: Coefficients
    spherical: FloatArray
    iterations: int
    residual: float


def prepare_iterative(
    cross: CrossProducts,
    factors: Sequence[FloatArray],
    engine: Engine,
    start: FloatArray | None = None,
    tolerance: float = TOLERANCE,
) -> Iterative:
    """Eliminate the stages, make the preconditioner and eliminate the fixed effects.

    Parameters
    ----------
    start : float64 array, shape (random, fixed), optional
        ``pull`` at nearby factors.

    Raises
    ------
    FitError
        If the fixed effects depend on each other given the random effects.
    """
    stages, logdet = eliminate_stages(cross, factors, engine)
    blocks, logdet_blocks = _preconditioner(cross, stages, factors, engine)
    r, p = cross.random, cross.fixed
    draft = Iterative(
        cross,
        engine,
        tuple(factors),
        stages,
        logdet,
        blocks,
        logdet_blocks,
        np.zeros((r, p)),
        np.eye(p),
        0,
    )
    unit = np.zeros((cross.columns, p))
    unit[r : r + p] = np.eye(p)
    image = _schur(draft, unit)
    crossed = raw_to_spherical(cross, factors, image)[:r]
    pull, iterations, _ = conjugate_gradients(draft, crossed, start, tolerance)
    precision = image[r : r + p] - crossed.T @ pull
    precision = (precision + precision.T) / 2
    if p and not np.linalg.eigvalsh(precision)[0] > 0:
        raise FitError(
            "the mixed-model system is singular in floating point: columns of the fixed part depend on each other "
            "given the random effects; drop one of them"
        )
    return replace(draft, pull=pull, precision=precision, iterations=iterations)


def _schur(system: Iterative, rest: FloatArray) -> FloatArray:
    """Raw Schur complement of the rest times ``rest``, shape (columns, sides)."""
    cross, engine = system.cross, system.engine
    out = multiply_kept(cross, rest, engine)
    for stage, reduced in zip(cross.stages, system.stages, strict=True):
        shared = (stage.size, stage.offsets, stage.columns, reduced.reduced, rest)
        add_lanes(eliminate.apply_rest, stage.lanes, shared, out, engine)
    return out


def _operator(system: Iterative, x: FloatArray) -> FloatArray:
    """``S_kk x`` in spherical coordinates."""
    cross = system.cross
    rest = np.zeros((cross.columns, x.shape[1]))
    rest[: cross.random] = x
    image = _schur(system, spherical_to_raw(cross, system.factors, rest))
    return raw_to_spherical(cross, system.factors, image)[: cross.random] + x


def _preconditioner(
    cross: CrossProducts, stages: Sequence[ReducedStage], factors: Sequence[FloatArray], engine: Engine
) -> tuple[tuple[FloatArray, ...], float]:
    start = np.arange(cross.columns)
    widest = max([1, *(kept.size for kept in cross.kept)])
    for kept in cross.kept:
        start[kept.place] = kept.start + np.repeat(np.arange(kept.levels) * kept.size, kept.size)
    total = np.zeros((cross.columns, widest))
    for stage, reduced in zip(cross.stages, stages, strict=True):
        shared = (stage.size, stage.offsets, stage.columns, reduced.reduced, start)
        add_lanes(eliminate.rest_diagonal, stage.lanes, shared, total, engine)
    blocks: list[FloatArray] = []
    logdet = 0.0
    for kept in cross.kept:
        k, factor = kept.size, factors[kept.block]
        lower = np.tril(total[kept.place, :k].reshape(kept.levels, k, k))
        schur = kept.gram + lower + np.tril(lower, -1).transpose(0, 2, 1)
        spherical = factor.T @ schur @ factor + np.eye(k)
        logdet += float(np.linalg.slogdet(spherical)[1].sum())
        blocks.append(np.asarray(np.linalg.inv(spherical)))
    return tuple(blocks), logdet


def precondition(system: Iterative, x: FloatArray) -> FloatArray:
    """The inverse diagonal blocks times ``x``, shape (random, sides)."""
    out = np.empty_like(x)
    for kept, block in zip(system.cross.kept, system.blocks, strict=True):
        part = x[kept.place].reshape(kept.levels, kept.size, -1)
        out[kept.place] = (block * part if kept.size == 1 else block @ part).reshape(-1, x.shape[1])
    return out


def log_determinant(
    system: Iterative, probes: int, seed: int, iterations: int = 60, tolerance: float = 1e-4
) -> tuple[float, float]:
    """``log|S_kk|`` by stochastic Lanczos quadrature on the preconditioned system, and its Monte-Carlo standard error.

    Each probe of random signs starts a Lanczos process, read off conjugate gradients (Ubaru, Chen and Saad 2017).
    """
    n = system.cross.random
    if not n:
        return 0.0, 0.0
    z = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,))).choice([-1.0, 1.0], (n, probes))
    right = np.empty_like(z)
    for kept, block in zip(system.cross.kept, system.blocks, strict=True):
        # P = block^-1 = RR'; a right-hand side Rz makes the preconditioned process start at z
        part = z[kept.place].reshape(kept.levels, kept.size, probes)
        root = np.linalg.cholesky(np.linalg.inv(block))
        right[kept.place] = (root @ part).reshape(-1, probes)
    residual = right
    z = precondition(system, residual)
    norm = np.einsum("rs,rs->s", residual, z)
    first = norm.copy()
    direction = z.copy()
    lengths: list[FloatArray] = []
    ratios: list[FloatArray] = []
    steps = np.zeros(probes, np.int64)
    for _ in range(min(iterations, n)):
        # a probe that has met its whole Krylov space is done before the others
        going = norm > 1e-24 * first
        steps += going
        image = _operator(system, direction)
        length = np.where(going, norm / np.maximum(np.einsum("rs,rs->s", direction, image), 1e-300), 1.0)
        residual = residual - length * image
        z = precondition(system, residual)
        before, norm = norm, np.einsum("rs,rs->s", residual, z)
        lengths.append(length)
        ratios.append(np.where(going, norm / np.maximum(before, 1e-300), 0.0))
        if np.max(norm / first) < tolerance**2:
            break
        direction = z + ratios[-1] * direction
    table = np.array(lengths), np.array(ratios)
    values = n * np.array([_quadrature(table[0][: steps[s], s], table[1][: steps[s], s]) for s in range(probes)])
    error = float(np.std(values, ddof=1) / np.sqrt(probes)) if probes > 1 else float("nan")
    return system.logdet_blocks + float(values.mean()), error


def _quadrature(lengths: FloatArray, ratios: FloatArray) -> float:
    """Gauss quadrature of the logarithm from the coefficients of conjugate gradients (Saad 2003, section 6.7.3)."""
    diagonal = 1 / lengths
    diagonal[1:] += ratios[:-1] / lengths[:-1]
    off = np.sqrt(ratios[:-1]) / lengths[:-1]
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))
    return float(vectors[0] ** 2 @ np.log(np.maximum(values, 1e-300)))


def conjugate_gradients(
    system: Iterative, right: FloatArray, start: FloatArray | None, tolerance: float = TOLERANCE
) -> tuple[FloatArray, int, float]:
    """``S_kk^-1 right`` for all sides together.

    Returns
    -------
    solution : float64 array, shape (random, sides)
    iterations : int
    residual : float
        Largest norm of a residual over its right-hand side's, in the preconditioner's metric.
    """
    if not right.size:
        return np.zeros_like(right), 0, 0.0
    size = np.maximum(np.einsum("rs,rs->s", right, precondition(system, right)), 1e-300)
    if start is None:
        x, residual = np.zeros_like(right), right.copy()
    else:
        x = start.copy()
        residual = right - _operator(system, x)
    z = precondition(system, residual)
    norm = np.einsum("rs,rs->s", residual, z)
    direction = z.copy()
    for iteration in range(MOST_ITERATIONS):
        if np.max(norm / size) <= tolerance**2:
            return x, iteration, float(np.sqrt(np.max(norm / size)))
        image = _operator(system, direction)
        along = np.einsum("rs,rs->s", direction, image)
        length = np.where(along > 0, norm / np.maximum(along, 1e-300), 0.0)
        x += length * direction
        residual -= length * image
        z = precondition(system, residual)
        before, norm = norm, np.einsum("rs,rs->s", residual, z)
        direction *= norm / np.maximum(before, 1e-300)
        direction += z
    return x, MOST_ITERATIONS, float(np.sqrt(np.max(norm / size)))


def solve_iterative(
    system: Iterative,
    right: Coefficients,
    *,
    fixed: bool | npt.NDArray[np.bool_] = True,
    noise: Coefficients | None = None,
    start: FloatArray | None = None,
    tolerance: float = TOLERANCE,
) -> Solved:
    """``Q r`` in raw coordinates: the joint system's, or where ``fixed`` is false that of ``C_b``.

    Parameters
    ----------
    fixed : bool, or bool array, shape (sides,)
    right : Coefficients
        Right-hand sides, raw coordinates: they enter as ``Lambda' r``. The response's row is not read.
    noise : Coefficients, optional
        Added to ``Lambda' r`` in spherical coordinates: with standard normal noise beside ``Z'W^{1/2} e`` the solution
        has the system's inverse as its covariance.
    start : float64 array, shape (random, sides), optional
        ``Solved.spherical`` of a nearby system.
    tolerance : float
        Of the residuals over their right-hand sides, in the preconditioner's metric.
    """
    cross = system.cross
    r, p = cross.random, cross.fixed
    halves, rest = forward_substitute(cross, system.stages, right, system.engine, noise)
    spherical = raw_to_spherical(cross, system.factors, rest)
    if noise is not None:
        spherical[:r] += noise.rest[:r]
    kept, iterations, residual = conjugate_gradients(system, spherical[:r], start, tolerance)
    solution = np.zeros_like(rest)
    solution[:r] = kept
    if p and np.any(fixed):
        beta = np.linalg.solve(system.precision, spherical[r : r + p] - system.pull.T @ spherical[:r])
        beta = np.where(fixed, beta, 0.0)
        solution[:r] -= system.pull @ beta
        solution[r : r + p] = beta
    raw = spherical_to_raw(cross, system.factors, solution)
    return Solved(
        Coefficients(back_substitute(cross, system.stages, halves, raw, system.engine), raw), kept, iterations, residual
    )
