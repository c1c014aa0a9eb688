"""Modes of many levels at once: Newton's method for each, side by side.

The levels of a factor are independent of each other given the rest of the model, so that all of them are found by small
dense steps. Levels with about as many rows are worked on together, as arrays of shape (levels, rows of a level, d).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ranef.errors import FitError

if TYPE_CHECKING:
    from ranef.family import Family

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# numbers of the largest array of a batch
NUMBERS = 1 << 21
# rows that a level is filled up with, as a share of its own
FILLING = 0.25
SETTLED = 1e-18
MOST_STEPS = 100
MOST_HALVINGS = 30
FAR_AWAY = (
    "the likelihood of the rows of a new or changed level cannot be computed near its prior; are a covariate, a weight "
    "or an offset far from those of the fit?"
)


@dataclass(frozen=True, eq=False)
class Response:
    """Rows as the family sees them.

    Attributes
    ----------
    family : Family
    phi : float64 array
        The family's own parameters.
    y : float64 array, shape (rows,)
    weights : float64 array, shape (rows,), or None
    """

    family: Family
    phi: FloatArray
    y: FloatArray
    weights: FloatArray | None


@dataclass(frozen=True, eq=False)
class Sorted:
    """Rows by level.

    Attributes
    ----------
    start : int64 array, shape (levels + 1,)
    rows : int64 array
        Those of level ``g`` are ``rows[start[g]:start[g + 1]]``.
    """

    start: IntArray
    rows: IntArray


@dataclass(frozen=True, eq=False)
class Found:
    """The modes of some levels.

    Attributes
    ----------
    levels : int64 array, shape (b,)
    mode : float64 array, shape (b, d)
    precision : float64 array, shape (b, d, d)
        Minus the second derivative of the log posterior density there.
    inverse : float64 array, shape (b, d, d)
        Of ``precision``.
    rows : int64 array, shape (b, c)
        The rows of each level, then rows of others where it has fewer than ``c``.
    mask : bool array, shape (b, c)
        Which are its own.
    covariates : float64 array, shape (b, c, d)
        Zero elsewhere.
    eta : float64 array, shape (b, c)
        Linear predictors at the mode.
    """

    levels: IntArray
    mode: FloatArray
    precision: FloatArray
    inverse: FloatArray
    rows: IntArray
    mask: npt.NDArray[np.bool_]
    covariates: FloatArray
    eta: FloatArray


def sort_rows(codes: npt.NDArray[np.integer], rows: IntArray, levels: int) -> Sorted:
    """Rows by their code, from 0 to ``levels``; ``codes`` are those of ``rows``."""
    order = np.argsort(codes, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=levels))]).astype(np.int64)
    return Sorted(start, rows[order])


def block_modes(
    of: Sorted,
    response: Response,
    covariates: Callable[[IntArray], FloatArray],
    offset: FloatArray,
    precision: Callable[[IntArray], FloatArray],
    size: int,
    beside: int = 0,
) -> Iterator[Found]:
    """Maximise each level's log-likelihood plus the logarithm of a normal prior density around zero.

    Parameters
    ----------
    of : Sorted
    response : Response
    covariates : callable
        From places of rows, shape (n,), to what multiplies their level's coefficients, shape (n, d).
    offset : float64 array, shape (rows,)
        The rest of the linear predictor.
    precision : callable
        From some levels, shape (b,), to the precisions of their priors, shape (d, d) or (b, d, d).
    size : int
        ``d``.
    beside : int
        Numbers of a row that the caller computes with besides: batches are made smaller for it.

    Raises
    ------
    FitError
        A likelihood cannot be computed near the middle of its level's prior.
    """
    for levels in _batches(np.diff(of.start), size, beside):
        count = np.diff(of.start)[levels]
        within = np.arange(int(count.max(initial=0)))
        mask = within < count[:, None]
        # a level with fewer rows borrows some of others, which weigh nothing
        rows = of.rows[np.minimum(of.start[levels][:, None] + within, len(of.rows) - 1)]
        h = covariates(rows.reshape(-1)).reshape(*mask.shape, size) * mask[:, :, None]
        # what overflows is an error of its own
        with np.errstate(all="ignore"):
            try:
                mode, curvature, inverse, eta = _newton(response, rows, mask, h, offset, precision(levels))
            except np.linalg.LinAlgError as error:
                raise FitError(FAR_AWAY) from error
        if not (np.isfinite(mode).all() and np.isfinite(inverse).all()):
            raise FitError(FAR_AWAY)
        yield Found(levels, mode, curvature, inverse, rows, mask, h, eta)


def _batches(counts: IntArray, d: int, beside: int) -> Iterator[IntArray]:
    order = np.argsort(counts, kind="stable")
    first = 0
    while first < len(order):
        width = int(counts[order[first]])
        most = int(width * (1 + FILLING)) + 4
        last = int(np.searchsorted(counts[order], most, side="right"))
        size = max(1, NUMBERS // max(d * d, most * (d + beside)))
        last = min(last, first + size)
        yield order[first:last]
        first = last


def _newton(
    response: Response,
    rows: IntArray,
    mask: npt.NDArray[np.bool_],
    h: FloatArray,
    offset: FloatArray,
    precision: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Mode, curvature, its inverse and linear predictors of a batch; levels leave it as they are found."""
    b, _, d = h.shape
    mode, curvature, eta_at = np.zeros((b, d)), np.empty((b, d, d)), np.empty(mask.shape)
    active = np.arange(b)
    at, last = np.zeros((b, d)), np.zeros((b, d))
    best, halvings = np.full(b, -np.inf), np.zeros(b, np.int64)
    for _ in range(MOST_STEPS):
        own = slice(None) if len(active) == b else active
        prior = precision if precision.ndim == 2 else precision[own]
        here, own_rows, own_h = mask[own], rows[own], h[own]
        eta = offset[own_rows] + np.matmul(own_h, at[:, :, None])[:, :, 0]
        value, score, weight = _derivatives(response, own_rows, here, eta)
        pull = np.matmul(prior, at[:, :, None])[:, :, 0]
        objective = value - 0.5 * np.sum(at * pull, axis=1)
        worse = ~(objective >= best - 1e-12 * (1.0 + np.abs(np.where(np.isfinite(best), best, 0.0))))
        halvings = np.where(worse, halvings + 1, 0)
        if np.any(worse & (~np.isfinite(best) | (halvings > MOST_HALVINGS))):
            raise FitError(FAR_AWAY)
        rooted = own_h * np.sqrt(weight)[:, :, None]
        now = prior + np.matmul(rooted.transpose(0, 2, 1), rooted)
        gradient = np.matmul(own_h.transpose(0, 2, 1), score[:, :, None])[:, :, 0] - pull
        if response.family.name == "gaussian":
            # one step from zero
            inverse = np.asarray(np.linalg.inv(now))
            step = np.matmul(inverse, gradient[:, :, None])
            step += np.matmul(inverse, gradient[:, :, None] - np.matmul(now, step))
            return step[:, :, 0], now, inverse, eta + np.matmul(h, step)[:, :, 0]
        step = np.zeros_like(at)
        good = ~worse
        step[good] = np.linalg.solve(now[good], gradient[good][:, :, None])[:, :, 0]
        done = good & (np.sum(gradient * step, axis=1) <= SETTLED * (1.0 + np.abs(objective)))
        mode[active[done]], curvature[active[done]], eta_at[active[done]] = at[done], now[done], eta[done]
        last = np.where(worse[:, None], last, at)
        best = np.where(worse, best, objective)
        at = np.where(worse[:, None], 0.5 * (at + last), at + step)
        left = ~done
        if not left.any():
            return mode, curvature, np.asarray(np.linalg.inv(curvature)), eta_at
        active, at, last, best, halvings = active[left], at[left], last[left], best[left], halvings[left]
    # steps as small as rounding lets them be, and no smaller
    mode[active], curvature[active], eta_at[active] = last, now[left], eta[left]
    return mode, curvature, np.asarray(np.linalg.inv(curvature)), eta_at


def _derivatives(
    of: Response, rows: IntArray, mask: npt.NDArray[np.bool_], eta: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log-likelihood of each level, scores and weights of its rows; those of others are zero."""
    flat = rows.reshape(-1)
    weights = None if of.weights is None else of.weights[flat]
    value, score, weight, _ = of.family.derivatives(of.y[flat], eta.reshape(-1), weights, of.phi)
    value, score, weight = (np.where(mask, one.reshape(mask.shape), 0.0) for one in (value, score, weight))
    return value.sum(axis=1), score, weight
