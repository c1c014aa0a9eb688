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
from ranef.solve.elimination import by_block, times
from ranef.solve.iterative import Iterative, complete, conjugate_gradients, reduce_sides

FloatArray = npt.NDArray[np.float64]

# of the solutions
TOLERANCE = 3e-2
# numbers in all draws of all coefficients that are worked on together; beyond, fewer draws at a time
MOST_AT_ONCE, FEWEST = 1 << 23, 8


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of all coefficients, and what is known of them exactly: solver's coordinates, over sigma^2.

    A part of each level is what is left of its coefficients given the fixed effects and every factor that is not
    eliminated before its own. It is independent of these, and its covariance is known.

    Attributes
    ----------
    values : tuple of float64 arrays (levels, k, draws), one for each block
        For the first of the eliminated factors, without each level's own part: the mean given everything else.
    beta : float64 array, shape (p, draws)
    own : tuple of float64 arrays (levels, k, k)
        Covariance of each level's own part.
    known : tuple of float64 arrays (levels, k, k)
        What is added to the mean square of ``values``: ``own`` where they are without that part; elsewhere ``own`` less
        the mean square of the parts that they have, which is zero on average.
    conditional : tuple of float64 arrays (levels, k, k)
        Each level's covariance given the fixed effects, by the law of total variance.
    """

    values: tuple[FloatArray, ...]
    beta: FloatArray
    own: tuple[FloatArray, ...]
    known: tuple[FloatArray, ...]
    conditional: tuple[FloatArray, ...]


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
    values = [np.empty((n, k, count)) for n, k in zip(cross.levels, cross.sizes, strict=True)]
    own = _own_covariances(system)
    known, conditional = [v.copy() for v in own], [v.copy() for v in own]
    most = MOST_AT_ONCE // max(1, sum(n * k for n, k in zip(cross.levels, cross.sizes, strict=True)))
    step = min(count, max(FEWEST, most - most % FEWEST))
    for first in range(0, count, step):
        some = slice(first, min(first + step, count))
        key = np.random.SeedSequence(seed, spawn_key=(3, 0, first))
        drawn = probes(some.stop - some.start, int(key.generate_state(1, np.uint64)[0]))
        halves, right = reduce_sides(system, drawn.data, drawn.noise)
        del drawn
        parts = _own_parts(system, halves, right)
        # given the fixed effects; draws of these from their own covariance complete them
        kept = conjugate_gradients(system, right[: cross.random], None, TOLERANCE)[0]
        given = by_block(cross, complete(system, halves, right, kept, False))
        del halves, right, kept
        for block, (value, part, m) in enumerate(zip(given, parts, fixed.sensitivity, strict=True)):
            mean = value - part
            conditional[block] += _square(mean) / count
            if not cross.stages or block != cross.stages[0].block:
                known[block] -= _square(part) / count
                mean = value
            values[block][:, :, some] = mean - np.tensordot(m, beta[:, some], 1)
    return Draws(tuple(values), beta, own, tuple(known), tuple(conditional))


def _square(x: FloatArray) -> FloatArray:
    """``x x'`` of each level."""
    return np.asarray(np.einsum("gas,gbs->gab", x, x))


def _normal(covariance: FloatArray, count: int, seed: np.random.SeedSequence) -> FloatArray:
    """Normal draws, shape (p, draws); if they are more than ``p``, their second moments are the covariance exactly."""
    p = len(covariance)
    draws = np.random.default_rng(seed).standard_normal((p, count))
    if p < count:
        draws = np.linalg.solve(np.linalg.cholesky(draws @ draws.T / count), draws)
    return np.asarray(np.linalg.cholesky(covariance) @ draws)


def _own_covariances(system: Iterative) -> tuple[FloatArray, ...]:
    """``own`` of `Draws`: inverse diagonal blocks of the reduced system, raw coordinates."""
    own = {}
    for stage, reduced in zip(system.cross.stages, system.stages, strict=True):
        own[stage.block] = np.empty_like(reduced.transfer)
        own[stage.block][stage.old] = times(reduced.transfer.transpose(0, 2, 1), reduced.transfer)
    for kept, block in zip(system.cross.kept, system.blocks, strict=True):
        factor = system.factors[kept.block]
        own[kept.block] = factor @ block @ factor.T
    return tuple(own[b] for b in range(len(system.cross.sizes)))


def _own_parts(system: Iterative, halves: Sequence[FloatArray], right: FloatArray) -> tuple[FloatArray, ...]:
    """Each level's own part in each draw: right-hand sides of the reduced system times those inverse blocks."""
    cross = system.cross
    parts = {}
    for stage, reduced, half in zip(cross.stages, system.stages, halves, strict=True):
        parts[stage.block] = np.empty_like(half)
        parts[stage.block][stage.old] = times(reduced.transfer.transpose(0, 2, 1), half)
    for kept, block in zip(cross.kept, system.blocks, strict=True):
        own = right[kept.place].reshape(kept.levels, kept.size, -1)
        parts[kept.block] = times(system.factors[kept.block] @ block, own)
    return tuple(parts[b] for b in range(len(cross.sizes)))
