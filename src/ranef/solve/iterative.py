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
from ranef.kernel.panels import NARROW
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
    times,
)
from ranef.solve.panels import add_panels, aligned_zeros, panels

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
    halves : tuple of float64 arrays (levels, k, sides)
        Each stage's part but for its last factor; see `spherical_solution`.
    iterations : int
    residual : float
        Largest norm of a residual over its right-hand side's, in the preconditioner's metric.
    """

    x: Coefficients
    spherical: FloatArray
    halves: tuple[FloatArray, ...]
    iterations: int
    residual: float


def prepare_iterative(
    cross: CrossProducts,
    factors: Sequence[FloatArray],
    engine: Engine,
    start: FloatArray | None = None,
    tolerance: float = TOLERANCE,
    fixed: bool = True,
) -> Iterative:
    """Eliminate the stages, make the preconditioner and eliminate the fixed effects.

    Parameters
    ----------
    fixed : bool
        Without, the system can be solved for the random effects alone.
    start : float64 array, shape (random, fixed), optional
        ``pull`` at nearby factors.

    Raises
    ------
    FitError
        If the fixed effects depend on each other given the random effects.
    """
    draft = _without_fixed(cross, factors, engine)
    if not fixed:
        return draft
    crossed, own = _fixed_sides(draft)
    pull, iterations, _ = conjugate_gradients(draft, crossed, start, tolerance)
    return _with_fixed(draft, crossed, own, pull, iterations)


def prepare_and_solve(
    cross: CrossProducts,
    factors: Sequence[FloatArray],
    engine: Engine,
    right: Coefficients,
    *,
    fixed: npt.NDArray[np.bool_],
    noise: Coefficients,
    start: FloatArray | None = None,
    tolerance: float = TOLERANCE,
) -> tuple[Iterative, Solved, FloatArray]:
    """`prepare_iterative` and `solve_iterative` with one run of conjugate gradients.

    Returns
    -------
    Iterative
    Solved
    warm : float64 array, shape (random, fixed + sides)
        ``start`` at nearby factors.
    """
    draft = _without_fixed(cross, factors, engine)
    crossed, own = _fixed_sides(draft)
    halves, spherical = reduce_sides(draft, right, noise)
    r, p = cross.random, cross.fixed
    both = np.concatenate([crossed, spherical[:r]], axis=1)
    kept, iterations, residual = conjugate_gradients(draft, both, start, tolerance)
    system = _with_fixed(draft, crossed, own, kept[:, :p], iterations)
    x = complete(system, halves, spherical, kept[:, p:], fixed)
    return system, Solved(x, kept[:, p:], tuple(halves), iterations, residual), kept


def _without_fixed(cross: CrossProducts, factors: Sequence[FloatArray], engine: Engine) -> Iterative:
    stages, logdet = eliminate_stages(cross, factors, engine)
    blocks, logdet_blocks = _preconditioner(cross, stages, factors, engine)
    empty = np.zeros((cross.random, cross.fixed)), np.eye(cross.fixed)
    return Iterative(cross, engine, tuple(factors), stages, logdet, blocks, logdet_blocks, *empty, 0)


def _fixed_sides(system: Iterative) -> tuple[FloatArray, FloatArray]:
    """``S_kx`` in spherical coordinates, and ``S_xx``."""
    cross = system.cross
    r, p = cross.random, cross.fixed
    unit = np.zeros((cross.columns, p))
    unit[r : r + p] = np.eye(p)
    image = _schur(system, unit)
    return raw_to_spherical(cross, system.factors, image)[:r], image[r : r + p]


def _with_fixed(draft: Iterative, crossed: FloatArray, own: FloatArray, pull: FloatArray, iterations: int) -> Iterative:
    precision = own - crossed.T @ pull
    precision = (precision + precision.T) / 2
    if len(own) and not np.linalg.eigvalsh(precision)[0] > 0:
        raise FitError(
            "the mixed-model system is singular in floating point: columns of the fixed part depend on each other "
            "given the random effects; drop one of them"
        )
    return replace(draft, pull=pull, precision=precision, iterations=iterations)


def _schur(system: Iterative, rest: FloatArray, dense: bool = True) -> FloatArray:
    """Raw Schur complement of the rest times ``rest``, shape (columns, sides); ``dense`` as in `multiply_kept`."""
    cross, engine = system.cross, system.engine
    out = multiply_kept(cross, rest, engine, dense)
    skipped = 0 if dense else cross.columns - cross.random
    source = panels(rest)
    total = aligned_zeros(source.shape)
    for stage, reduced in zip(cross.stages, system.stages, strict=True):
        shared = (stage.size, stage.offsets, stage.columns, reduced.reduced, skipped, source)
        add_lanes(eliminate.apply_rest, stage.lanes, shared, total, engine)
    add_panels(total, out)
    return out


def _operator(system: Iterative, x: FloatArray) -> FloatArray:
    """``S_kk x`` in spherical coordinates."""
    cross = system.cross
    rest = np.zeros((cross.columns, x.shape[1]))
    rest[: cross.random] = x
    image = _schur(system, spherical_to_raw(cross, system.factors, rest), dense=False)
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
        out[kept.place] = times(block, part).reshape(-1, x.shape[1])
    return out


def log_determinant(
    system: Iterative,
    names: Sequence[str],
    probes: int,
    seed: int,
    skip: int = 0,
    iterations: int = 60,
    tolerance: float = 1e-2,
) -> FloatArray:
    """``log|S_kk|`` by stochastic Lanczos quadrature on the preconditioned system.

    The trace of a logarithm is exact on the directions that shift all levels of a factor alike, where the system is far
    from its diagonal blocks, and estimated by probes of random signs on what is orthogonal to them (Ubaru, Chen and
    Saad 2017; Meyer, Musco, Musco and Woodruff 2021).

    Parameters
    ----------
    names : sequence of str
        Of each block. A sign depends on the seed, the name, the level's code, the coefficient and the probe's number
        alone, so that systems with a factor in common have probes in common.
    skip : int
        Leave out the first so many.
    tolerance : float
        Of the residual; the quadrature's error is about its square.

    Returns
    -------
    float64 array, shape (probes - skip,)
        One estimate for each probe, independent of each other.
    """
    n = system.cross.random
    signs, common = np.zeros((n, probes - skip)), []
    for kept, block in zip(system.cross.kept, system.blocks, strict=True):
        root = np.linalg.cholesky(np.linalg.inv(block))
        own = _signs(names[kept.block], kept.levels, kept.size, probes, seed)
        signs[kept.place] = own[:, :, skip:].reshape(-1, probes - skip)
        shift = np.zeros((n, kept.size))
        shift[kept.place] = root.transpose(0, 2, 1).reshape(-1, kept.size)
        common.append(shift)
    known = np.linalg.qr(np.concatenate([np.zeros((n, 0)), *common], axis=1))[0]
    values = _lanczos(system, np.concatenate([known, signs - known @ (known.T @ signs)], axis=1), iterations, tolerance)
    exact = values[: known.shape[1]].sum()
    return np.asarray(system.logdet_blocks + exact + values[known.shape[1] :])


def _signs(name: str, levels: int, size: int, probes: int, seed: int) -> FloatArray:
    """Random signs of a factor, shape (levels, size, probes); the first probes are the same for any number of them."""
    out = np.empty((levels, size, probes))
    for c in range(size):
        stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, c, *name.encode())))
        out[:, c] = 2.0 * stream.integers(0, 2, (probes, levels), np.int8).T - 1.0
    return out


def _lanczos(system: Iterative, start: FloatArray, iterations: int, tolerance: float) -> FloatArray:
    """``q' log(M) q`` of every column of ``start`` (random, sides); ``M`` is the preconditioned system."""
    residual = np.empty_like(start)
    for kept, block in zip(system.cross.kept, system.blocks, strict=True):
        # P = block^-1 = RR'; conjugate gradients on a right-hand side Rq are Lanczos on R^-1 S R^-T from q
        root = np.linalg.cholesky(np.linalg.inv(block))
        residual[kept.place] = (root @ start[kept.place].reshape(kept.levels, kept.size, -1)).reshape(
            -1, start.shape[1]
        )
    z = precondition(system, residual)
    norm = np.einsum("rs,rs->s", residual, z)
    first = np.maximum(norm, 1e-300)
    direction = z.copy()
    lengths: list[FloatArray] = []
    ratios: list[FloatArray] = []
    steps = np.zeros(start.shape[1], np.int64)
    for _ in range(min(iterations, len(start))):
        # a side that has met its whole Krylov space is done before the others
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
    # nothing may be left of a side: with one level there is but one direction
    values = [_quadrature(table[0][:m, s], table[1][:m, s]) if m else 0.0 for s, m in enumerate(steps)]
    return np.asarray(first * np.array(values))


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
    solution = np.zeros_like(right) if start is None else start.copy()
    residual = right.copy() if start is None else right - _operator(system, solution)
    z = precondition(system, residual)
    norm = np.einsum("rs,rs->s", residual, z)
    left = norm / size
    going = np.arange(right.shape[1])
    x, direction = solution, z.copy()
    for iteration in range(MOST_ITERATIONS + 1):
        left[going] = norm / size[going]
        open_ = left[going] > tolerance**2
        if not open_.any() or iteration == MOST_ITERATIONS:
            solution[:, going] = x
            break
        # a panel costs the same with one side as with four
        if -(-int(open_.sum()) // NARROW) < -(-len(going) // NARROW):
            solution[:, going] = x
            going = going[open_]
            x, residual, direction = (np.ascontiguousarray(v[:, open_]) for v in (x, residual, direction))
            norm = norm[open_]
        image = _operator(system, direction)
        along = np.einsum("rs,rs->s", direction, image)
        length = np.where(along > 0, norm / np.maximum(along, 1e-300), 0.0)
        x += length * direction
        residual -= length * image
        z = precondition(system, residual)
        before, norm = norm, np.einsum("rs,rs->s", residual, z)
        direction *= norm / np.maximum(before, 1e-300)
        direction += z
    return solution, iteration, float(np.sqrt(left.max()))


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
    halves, spherical = reduce_sides(system, right, noise)
    kept, iterations, residual = conjugate_gradients(system, spherical[: system.cross.random], start, tolerance)
    x = complete(system, halves, spherical, kept, fixed)
    return Solved(x, kept, tuple(halves), iterations, residual)


def spherical_solution(system: Iterative, solved: Solved) -> Coefficients:
    """The solution in spherical coordinates, ``b = Lambda u``; fixed effects as they are.

    Not by way of the raw one: no inverse of ``Lambda`` is taken, and the solution's error is not multiplied by the
    system.
    """
    cross = system.cross
    fixed = slice(cross.random, cross.random + cross.fixed)
    rest = np.zeros_like(solved.x.rest)
    rest[fixed] = solved.x.rest[fixed]
    rest[: cross.random] = solved.spherical - system.pull @ rest[fixed]
    turned = zip(system.stages, solved.halves, strict=True)
    return Coefficients(tuple(stage.root.transpose(0, 2, 1) @ half for stage, half in turned), rest)


def refine_fixed(system: Iterative, tolerance: float) -> Iterative:
    """The same system with its fixed effects eliminated to more digits."""
    crossed, own = _fixed_sides(system)
    pull, iterations, _ = conjugate_gradients(system, crossed, system.pull, tolerance)
    return _with_fixed(system, crossed, own, pull, iterations)


def reduce_sides(
    system: Iterative, right: Coefficients, noise: Coefficients | None
) -> tuple[list[FloatArray], FloatArray]:
    """What the stages keep of the right-hand sides, and those of the rest in spherical coordinates.

    What `solve_iterative` does before conjugate gradients.
    """
    cross = system.cross
    halves, rest = forward_substitute(cross, system.stages, right, system.engine, noise)
    spherical = raw_to_spherical(cross, system.factors, rest)
    if noise is not None:
        spherical[: cross.random] += noise.rest[: cross.random]
    return halves, spherical


def complete(
    system: Iterative,
    halves: list[FloatArray],
    spherical: FloatArray,
    kept: FloatArray,
    fixed: bool | npt.NDArray[np.bool_],
) -> Coefficients:
    """Fixed effects and stages, given the kept factors' solution without the fixed effects; changes ``halves``."""
    cross = system.cross
    r, p = cross.random, cross.fixed
    solution = np.zeros_like(spherical)
    solution[:r] = kept
    if p and np.any(fixed):
        beta = np.linalg.solve(system.precision, spherical[r : r + p] - system.pull.T @ spherical[:r])
        beta = np.where(fixed, beta, 0.0)
        solution[:r] -= system.pull @ beta
        solution[r : r + p] = beta
    raw = spherical_to_raw(cross, system.factors, solution)
    return Coefficients(back_substitute(cross, system.stages, halves, raw, system.engine), raw)
