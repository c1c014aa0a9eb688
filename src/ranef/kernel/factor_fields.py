"""Sides that are sums of several factors' vectors: rows are summed once for each unit, then the factors take turns.

A *unit* of a side is what its rows have in common, one combination of its factors' levels. For each unit the kernels
keep ``H = sum w (z z' + V)``, packed by rows of the lower triangle in float32, and the score ``sum w z e - V c``, which
follows every change of the unit's coefficients: ``score -= H change``. A level that many units share is then updated
from as many small matrices, not from their rows. `ranef.kernel.factor_rows` has the notation.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ranef.kernel.factor_rows import PANEL, accumulate, keep_moments, shift_rows, spread_times, step


@njit(nogil=True, cache=True)
def accumulate_units(
    first,
    last,
    at,
    pointers,
    order,
    partners,
    vectors,
    spread,
    covariates,
    weights,
    residual,
    grams,
    scores,
    excess,
):
    """Sums of the rows of the units ``first <= u < last``.

    Parameters
    ----------
    first, last, at, pointers, order, partners, vectors, spread, covariates, weights, residual
        As for `ranef.kernel.factor_rows.update_levels`; nothing of them is changed.
    grams : float32 array, shape (units, d (d + 1) / 2)
    scores : float64 array, shape (units, d)
    excess : float64 array, shape (units, width of a spread)
        Overwritten: ``sum w V``.
    """
    k = vectors.shape[1]
    d = scores.shape[1]
    width = spread.shape[1]
    panel, square = np.empty((PANEL, d), np.float32), np.empty((d, d), np.float32)
    spreads = np.empty(width, np.float32)
    gram, score, now, half = np.empty((d, d)), np.empty(d), np.empty(k), np.empty(k)
    for u in range(first, last):
        total = accumulate(
            pointers[u],
            pointers[u + 1],
            order,
            partners,
            vectors,
            spread,
            covariates,
            weights,
            residual,
            panel,
            square,
            spreads,
            gram,
            score,
        )
        if width > 0:
            for j in range(k):
                now[j] = vectors[at + u, j]
            half[:] = 0.0
            spread_times(total, now, half)
            for j in range(k):
                score[j] -= half[j]
            for j in range(width):
                excess[u, j] = total[j]
        place = 0
        for i in range(d):
            scores[u, i] = score[i]
            for j in range(i + 1):
                grams[u, place] = gram[i, j]
                place += 1


@njit(nogil=True, cache=True, fastmath=True)
def _add_gram(u, weight, columns, grams, gram):
    """Add ``weight`` times the unit's ``H`` at the ascending ``columns`` to the lower triangle of ``gram``."""
    for i in range(columns.shape[0]):
        c = columns[i]
        at = c * (c + 1) // 2
        for j in range(i + 1):
            gram[i, j] += weight * grams[u, at + columns[j]]


@njit(nogil=True, cache=True, fastmath=True)
def _lower_score(u, columns, change, grams, scores):
    """``score -= H change`` of one unit, whose coefficients at ``columns`` moved by ``change``."""
    d = scores.shape[1]
    whole = np.zeros(d)
    for i in range(columns.shape[0]):
        whole[columns[i]] = change[i]
    at = 0
    for i in range(d):
        total, xi = 0.0, whole[i]
        for j in range(i):
            h = grams[u, at + j]
            total += h * whole[j]
            scores[u, j] -= h * xi
        scores[u, i] -= total + grams[u, at + i] * xi
        at += i + 1


@njit(nogil=True, cache=True)
def update_field(
    first,
    last,
    pointers,
    units,
    memberships,
    columns,
    grams,
    scores,
    scale,
    precision,
    mean,
    noise,
    vectors,
    effects,
    spread,
    extra,
    moments,
):
    """Update the levels ``first <= g < last`` of one factor of a side, one after the other, and the units' scores.

    Ranges of levels may be worked on at a time if no unit has levels in two of them.

    Parameters
    ----------
    first, last : int
    pointers : int64 array, shape (levels + 1,)
        A level belongs to the units ``units[pointers[g]:pointers[g + 1]]``,
    units : int32 array; memberships : float64 array
        with these weights.
    columns : int64 array, shape (d of the factor,)
        Which of a unit's coefficients the factor adds to, ascending: the k of the vector, then its effects.
    grams, scores
        Of the units, from `accumulate_units`; scores follow.
    scale, precision, mean, noise, effects, extra, moments
        As for `ranef.kernel.factor_rows.update_levels`.
    vectors : float32 array, shape (levels, k); spread : float32 array, shape (levels, 0, k or k (k + 1) / 2)
        The factor's own, overwritten.

    Returns
    -------
    int
        1 + the level whose system is not positive definite, or 0.
    """
    k = vectors.shape[1]
    d = columns.shape[0]
    gram, score, now, change = np.empty((d, d)), np.empty(d), np.empty(d), np.empty((1, d))
    moved, none = np.empty(d), np.empty(0)
    for g in range(first, last):
        gram[:] = 0.0
        score[:] = 0.0
        for m in range(pointers[g], pointers[g + 1]):
            weight = memberships[m]
            _add_gram(units[m], weight * weight, columns, grams, gram)
            for j in range(d):
                score[j] += weight * scores[units[m], columns[j]]
        for j in range(k):
            now[j] = vectors[g, j]
        for j in range(k, d):
            now[j] = effects[g, j - k]
        if step(scale, gram, score, precision, mean, now, noise[g] if noise.shape[0] > 0 else none, change) != 0:
            return g + 1
        for j in range(k):
            vectors[g, j] = now[j] + change[0, j]
            change[0, j] = vectors[g, j] - now[j]
        for j in range(k, d):
            effects[g, j - k] = now[j] + change[0, j]
        for m in range(pointers[g], pointers[g + 1]):
            for j in range(d):
                moved[j] = memberships[m] * change[0, j]
            _lower_score(units[m], columns, moved, grams, scores)
        if extra.shape[0] > 0:
            keep_moments(k, scale, gram, precision, spread.shape[1] == k, spread[g], extra[g], moments[g])
    return 0


@njit(nogil=True, cache=True, fastmath=True)
def add_members(first, last, start, levels, memberships, vectors, spread, out, out_spread):
    """Add the weighted sums of each unit's levels to ``out``, (units, k), and of their spreads to ``out_spread``."""
    for u in range(first, last):
        for m in range(start[u], start[u + 1]):
            g, weight = levels[m], memberships[m]
            for j in range(out.shape[1]):
                out[u, j] += weight * vectors[g, j]
            for j in range(out_spread.shape[1]):
                out_spread[u, j] += weight * weight * spread[g, j]


@njit(nogil=True, cache=True)
def shift_units(first, last, pointers, order, partners, vectors, covariates, change, residual):
    """Residuals of the rows of the units ``first <= u < last`` whose coefficients moved by ``change``, (units, d)."""
    for u in range(first, last):
        shift_rows(pointers[u], pointers[u + 1], order, partners, vectors, covariates, change[u], residual)
