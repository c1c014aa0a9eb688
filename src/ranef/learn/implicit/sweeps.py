"""Alternating row updates of users and items: iALS (Hu, Koren and Volinsky 2008; Rendle et al. 2022).

The objective is, over all pairs of users ``u`` and items ``i`` with scores ``s = p_u'q_i``,

    sum over observed pairs (w + c_ui) (1 - s)^2  +  w sum over the others s^2
        + sum_u lambda_u |p_u|^2 + sum_i lambda_i |q_i|^2

with the unobserved weight ``w``, confidences ``c`` (1 for each row, or a column) and penalties
``lambda_u = penalty (sum of c over the user's pairs + w times the items) ^ exponent``, the other way round for items.
With exponent 0 this is Hu, Koren and Volinsky's objective, divided by their ``alpha`` where ``c`` is their ``r`` and
``w = 1/alpha``. Rendle et al. leave the observed target at ``c / (c + w)``: for equal confidences the same objective
with scores times ``1 + w/c`` and their penalty times as much.

Columns are rotated before each side's updates so that the other side's Gram matrix is diagonal: scores and penalties
stay the same, the unobserved part of every row's system becomes ``k`` numbers, and these make so good a preconditioner
that a step of conjugate gradients from the last vectors serves a sweep about as well as the exact solution.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranef.artifact.implicit import Weights
from ranef.engine.threads import Engine, Range
from ranef.kernel import implicit_rows as kernel
from ranef.learn.implicit.pairs import Ordered, Pairs, Vectors

FloatArray = npt.NDArray[np.float64]

# steps of conjugate gradients for each vector: of the first sweep, of the others, and where it should be the minimum
FIRST_STEPS, STEPS, ALL_STEPS = 3, 1, 200
# squared errors that are enough, relative, in float32
ROUGH, EXACT = 1e-12, 1e-13
# rows whose products are formed at once
ROWS = 4096
START = 0.1


@dataclass(frozen=True, eq=False)
class Factors:
    """Vectors of users and items, float32, shapes (users, rank) and (items, rank)."""

    users: Vectors
    items: Vectors


@dataclass(frozen=True)
class Sweep:
    """What a sweep came to: its number, the objective, seconds since the start."""

    number: int
    objective: float
    seconds: float


class Improved(NamedTuple):
    """Both sides in columns that make the Gram matrix of ``other`` diagonal, descending.

    Attributes
    ----------
    other, vectors : float32 arrays
        Those of the side that is held, and the updated ones.
    rotation : float32 array, shape (rank, rank)
        From the columns before to these.
    loss : float
        The objective less the other side's penalties.
    """

    other: Vectors
    vectors: Vectors
    rotation: Vectors
    loss: float


def start_factors(pairs: Pairs, rank: int, seed: int) -> Factors:
    """Small random items; users at zero, since they are updated first."""
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    items = random.standard_normal((pairs.by_item.levels, rank), dtype=np.float32)
    items *= np.float32(START / np.sqrt(rank))
    return Factors(np.zeros((pairs.by_user.levels, rank), np.float32), items)


def minimise(
    pairs: Pairs,
    weights: Weights,
    factors: Factors,
    engine: Engine,
    *,
    sweeps: int,
    tolerance: float = 0.0,
    report: Callable[[Sweep, Factors], bool] | None = None,
) -> tuple[Factors, list[Sweep]]:
    """Sweep until the objective hardly falls.

    Parameters
    ----------
    pairs : Pairs
    weights : Weights
    factors : Factors
        Where to start.
    engine : Engine
    sweeps : int
        At most.
    tolerance : float
        Enough when a sweep lowers the objective by less than this, relative.
    report : callable, optional
        Given every sweep and its vectors; True ends the search.

    Returns
    -------
    Factors
        After the last sweep.
    list of Sweep
    """
    begun = time.perf_counter()
    done: list[Sweep] = []
    user_penalty = weights.penalties(pairs.by_user.total, pairs.by_item.levels)
    item_penalty = weights.penalties(pairs.by_item.total, pairs.by_user.levels)
    for number in range(1, sweeps + 1):
        steps = FIRST_STEPS if number == 1 else STEPS
        half = improved(pairs.by_user, user_penalty, weights, factors.items, factors.users, engine, steps)
        whole = improved(pairs.by_item, item_penalty, weights, half.vectors, half.other, engine, steps)
        factors = Factors(users=whole.other, items=whole.vectors)
        loss = whole.loss + float(user_penalty @ _square_norms(factors.users))
        done.append(Sweep(number, loss, time.perf_counter() - begun))
        if report is not None and report(done[-1], factors):
            break
        if number > 1 and done[-2].objective - loss < tolerance * loss:
            break
    return factors, done


def improved(
    side: Ordered,
    penalty: FloatArray,
    weights: Weights,
    other: Vectors,
    vectors: Vectors,
    engine: Engine,
    steps: int,
    tolerance: float = ROUGH,
) -> Improved:
    """Update all vectors of one side; ``steps`` and ``tolerance`` are those of `kernel.improve_rows`."""
    values, rotation = np.linalg.eigh(gram(other, engine))
    rotation = np.ascontiguousarray(rotation[:, ::-1], np.float32)
    other, vectors = rotated(other, rotation, engine), rotated(vectors, rotation, engine)
    diagonal = np.maximum(weights.unobserved * values[::-1], 0).astype(np.float32)
    losses = engine.each(
        side.pieces,
        kernel.improve_rows,
        side.start,
        side.partner,
        side.confidence,
        np.float32(weights.unobserved),
        diagonal,
        penalty.astype(np.float32),
        other,
        vectors,
        steps,
        np.float32(tolerance),
    )
    return Improved(other, vectors, rotation, float(sum(losses)))


def user_vectors(pairs: Pairs, weights: Weights, items: Vectors, engine: Engine) -> Vectors:
    """The vectors of the users that minimise the objective for given items, in the items' own columns."""
    penalty = weights.penalties(pairs.by_user.total, pairs.by_item.levels)
    start = np.zeros((pairs.by_user.levels, items.shape[1]), np.float32)
    found = improved(pairs.by_user, penalty, weights, items, start, engine, ALL_STEPS, EXACT)
    return rotated(found.vectors, np.ascontiguousarray(found.rotation.T), engine)


def finished(pairs: Pairs, weights: Weights, factors: Factors, engine: Engine) -> tuple[Factors, float]:
    """Users at their minimum for the items, in principal axes of the items, largest first; and the objective there."""
    penalty = weights.penalties(pairs.by_user.total, pairs.by_item.levels)
    whole = improved(pairs.by_user, penalty, weights, factors.items, factors.users, engine, ALL_STEPS, EXACT)
    items = whole.other
    loss = whole.loss + float(weights.penalties(pairs.by_item.total, pairs.by_user.levels) @ _square_norms(items))
    # an axis may point either way: its largest item is positive
    signs = np.where(items[np.abs(items).argmax(0), np.arange(items.shape[1])] < 0, np.float32(-1), np.float32(1))
    return Factors(whole.vectors * signs, items * signs), loss


def gram(vectors: Vectors, engine: Engine) -> FloatArray:
    """``vectors' vectors`` in float64, shape (rank, rank)."""

    def product(first: int, last: int) -> FloatArray:
        block = vectors[first:last].astype(np.float64)
        found: FloatArray = block.T @ block
        return found

    total: FloatArray = np.sum(engine.each(_blocks(len(vectors)), product), axis=0)
    return total


def rotated(vectors: Vectors, rotation: Vectors, engine: Engine) -> Vectors:
    """``vectors @ rotation``."""
    out = np.empty_like(vectors)

    def product(first: int, last: int) -> None:
        np.matmul(vectors[first:last], rotation, out=out[first:last])

    engine.each(_blocks(len(vectors)), product)
    return out


def _blocks(rows: int) -> list[Range]:
    return [(first, min(first + ROWS, rows)) for first in range(0, rows, ROWS)]


def _square_norms(vectors: Vectors) -> FloatArray:
    found: FloatArray = np.einsum("nk,nk->n", vectors, vectors, dtype=np.float64)
    return found
