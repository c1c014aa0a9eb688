"""Draws from the joint posterior of all coefficients at the end of a stochastic fit, and what is known of them exactly.

Perfect samples (`ranef.learn.probes`) of their own: more than the search needs, and solved to few digits, because an
error of some hundredths of a draw is nothing beside its spread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.learn.assemble import Problem
from ranef.learn.probes import Probes, draw_probes
from ranef.learn.stochastic import Estimate
from ranef.learn.uncertainty import FixedEffects
from ranef.solve.elimination import by_block
from ranef.solve.iterative import Iterative, complete, conjugate_gradients, reduce_sides

FloatArray = npt.NDArray[np.float64]

# of the solutions
TOLERANCE = 3e-2
# numbers in all draws of all coefficients that are worked on together; beyond, so few draws at a time
MOST_AT_ONCE, FEW = 1 << 25, 8


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of all coefficients, each with the part that is known exactly: solver's coordinates, over sigma^2.

    The part of a level is what is left of its coefficients given the fixed effects and every factor that is not
    eliminated before its own. It is independent of these.

    Attributes
    ----------
    values : tuple of float64 arrays (levels, k, draws), one for each block
    beta : float64 array, shape (p, draws)
    parts : tuple of float64 arrays (levels, k, draws)
        The draws of each level's own part.
    own : tuple of float64 arrays (levels, k, k)
        Its covariance.
    """

    values: tuple[FloatArray, ...]
    beta: FloatArray
    parts: tuple[FloatArray, ...]
    own: tuple[FloatArray, ...]


def draw_posterior(problem: Problem, at: Estimate, fixed: FixedEffects, count: int, seed: int) -> Draws:
    """Draw from the posterior at an estimate.

    Parameters
    ----------
    count : int
    seed : int
        That of the fit; the draws are independent of its probes.
    """
    criterion = problem.criterion

    def probes(size: int, seed: int) -> Probes:
        return draw_probes(problem.rows, criterion.cross, criterion.engine, size, seed)

    return draws_from(at.system, probes, fixed.vcov / at.sigma2, fixed, count, seed)


def draws_from(
    system: Iterative,
    probes: Callable[[int, int], Probes],
    vcov: FloatArray,
    fixed: FixedEffects,
    count: int,
    seed: int,
) -> Draws:
    """Draws from probes of their own, some at a time where there are many levels.

    Parameters
    ----------
    probes : callable
        Makes as many probes as its first argument says, from the seed that is its second.
    vcov : float64 array, shape (p, p)
        Covariance of the fixed effects over sigma^2.
    """
    cross = system.cross
    beta = _normal(vcov, count, np.random.SeedSequence(seed, spawn_key=(3, 1)))
    values, parts = ([np.empty((n, k, count)) for n, k in zip(cross.levels, cross.sizes, strict=True)] for _ in "ab")
    own: tuple[FloatArray, ...] = ()
    step = count if count * sum(v[0].shape[0] * len(v) for v in values) <= MOST_AT_ONCE else FEW
    for first in range(0, count, step):
        some = slice(first, min(first + step, count))
        key = np.random.SeedSequence(seed, spawn_key=(3, 0, first))
        drawn = probes(some.stop - some.start, int(key.generate_state(1, np.uint64)[0]))
        halves, right = reduce_sides(system, drawn.data, drawn.noise)
        del drawn
        halved, own = _own_parts(system, halves, right)
        for to, part in zip(parts, halved, strict=True):
            to[:, :, some] = part
        # given the fixed effects; draws of these from their own covariance complete them
        kept = conjugate_gradients(system, right[: cross.random], None, TOLERANCE)[0]
        given = by_block(cross, complete(system, halves, right, kept, False))
        for to, value, m in zip(values, given, fixed.sensitivity, strict=True):
            to[:, :, some] = value - np.tensordot(m, beta[:, some], 1)
    return Draws(tuple(values), beta, tuple(parts), own)


def _normal(covariance: FloatArray, count: int, seed: np.random.SeedSequence) -> FloatArray:
    """Normal draws, shape (p, draws); if they are more than ``p``, their second moments are the covariance exactly."""
    p = len(covariance)
    draws = np.random.default_rng(seed).standard_normal((p, count))
    if p < count:
        draws = np.linalg.solve(np.linalg.cholesky(draws @ draws.T / count), draws)
    return np.asarray(np.linalg.cholesky(covariance) @ draws)


def _own_parts(
    system: Iterative, halves: Sequence[FloatArray], right: FloatArray
) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """``parts`` and ``own`` of `Draws`: right-hand sides of the reduced system times its inverse diagonal blocks."""
    cross = system.cross
    parts, own = {}, {}
    for stage, reduced, half in zip(cross.stages, system.stages, halves, strict=True):
        turned = reduced.transfer.transpose(0, 2, 1)
        parts[stage.block], own[stage.block] = np.empty_like(half), np.empty_like(turned)
        parts[stage.block][stage.old], own[stage.block][stage.old] = turned @ half, turned @ reduced.transfer
    for kept, block in zip(cross.kept, system.blocks, strict=True):
        half = system.factors[kept.block] @ block
        parts[kept.block] = half @ right[kept.place].reshape(kept.levels, kept.size, -1)
        own[kept.block] = half @ system.factors[kept.block].T
    order = range(len(cross.sizes))
    return tuple(parts[b] for b in order), tuple(own[b] for b in order)
