"""Sides that are sums of several factors' vectors: rows are summed once for each unit, then the factors take turns.

A *unit* of a side is what its rows have in common, one combination of its factors' levels. For each unit the kernels
keep ``H = sum w (z z' + V)``, the score ``sum w z e - V c`` of before the first factor's turn, and how far the unit's
coefficients have moved since: the score is now ``score - H moved``. A level that many units share is then updated from
as many small matrices, not from their rows; what it needs of them is summed in one pass, and written is ``moved``
alone. `ranef.kernel.factor_rows` has the notation.

``H`` is float32, its lower triangle by rows, each filled up with zeros to whole blocks of `BLOCK` numbers: loops of a
known length become vector instructions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ranef.kernel.blocks import BLOCK, TOGETHER, add_row
from ranef.kernel.factor_rows import PANEL, accumulate, keep_moments, shift_rows, spread_times, step

# units that are summed in float32, before their sums are added in float64
UNITS = 64


@njit(nogil=True, cache=True)
def blocks_of(d):
    """How many blocks the first ``d`` rows of ``H`` have."""
    blocks = 0
    for i in range(d):
        blocks += i // BLOCK + 1
    return blocks


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
    grams : float32 array, shape (units, `blocks_of` d, `BLOCK`)
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
            for block in range(i // BLOCK + 1):
                for j in range(BLOCK):
                    column = block * BLOCK + j
                    grams[u, place, j] = gram[i, column] if column <= i else 0.0
                place += 1


@njit(nogil=True, cache=True)
def _add_units(d, together, factors, grams, moved, sums):
    """Add ``w^2 H`` of some units, and ``w H`` with each number times what its column, and its row, has moved by."""
    at = 0
    for i in range(d):
        for n in range(TOGETHER):
            factors[2, n] = factors[0, n] * moved[together[n], i // BLOCK, i % BLOCK]
        blocks = i // BLOCK + 1
        add_row(grams, together, at, blocks, moved, factors, sums)
        at += blocks


@njit(nogil=True, cache=True)
def _level_sums(begin, end, units, memberships, columns, grams, scores, moved, work, sums, whole, gram, score):
    """``gram = sum w^2 H`` at the level's columns (lower triangle), and ``score = sum w (score - H moved)``.

    Parameters
    ----------
    begin, end : int
        The level's units, among all memberships.
    work : float32 array, sums : float64 array, shape (3, `blocks_of` d, `BLOCK`)
        To work in.
    whole : float64 array, shape (d,)
        To work in.
    """
    d = scores.shape[1]
    together, factors = np.empty(TOGETHER, np.int64), np.empty((3, TOGETHER), np.float32)
    whole[:] = 0.0
    sums[:] = 0.0
    while begin < end:
        to = min(end, begin + UNITS)
        work[:] = 0.0
        for m in range(begin, to, TOGETHER):
            for n in range(TOGETHER):
                # what is missing is the first one again, with weight zero
                there = m + n < to
                together[n] = units[m + n if there else m]
                factors[0, n] = memberships[m + n] if there else 0.0
                factors[1, n] = factors[0, n] * factors[0, n]
            _add_units(d, together, factors, grams, moved, work)
        for part in range(3):
            for at in range(sums.shape[1]):
                for j in range(BLOCK):
                    sums[part, at, j] += work[part, at, j]
        for m in range(begin, to):
            for j in range(d):
                whole[j] += memberships[m] * scores[units[m], j]
        begin = to
    at = 0
    for i in range(d):
        for j in range(i + 1):
            block, place = at + j // BLOCK, j % BLOCK
            whole[i] -= sums[1, block, place]
            if j < i:
                whole[j] -= sums[2, block, place]
        at += i // BLOCK + 1
    for i in range(columns.shape[0]):
        score[i] = whole[columns[i]]
        at = blocks_of(columns[i])
        for j in range(i + 1):
            gram[i, j] = sums[0, at + columns[j] // BLOCK, columns[j] % BLOCK]


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
    moved,
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
    """Update the levels ``first <= g < last`` of one factor of a side, one after the other, and how far units moved.

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
        Of the units, from `accumulate_units`.
    moved : float32 array, shape (units, blocks of one row, `BLOCK`)
        By how much the units' coefficients have changed since; the rest is zero. It follows.
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
    shape = (3, grams.shape[1], BLOCK)
    work, sums, whole = np.empty(shape, np.float32), np.empty(shape), np.empty(scores.shape[1])
    none = np.empty(0)
    for g in range(first, last):
        _level_sums(
            pointers[g],
            pointers[g + 1],
            units,
            memberships,
            columns,
            grams,
            scores,
            moved,
            work,
            sums,
            whole,
            gram,
            score,
        )
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
                moved[units[m], columns[j] // BLOCK, columns[j] % BLOCK] += memberships[m] * change[0, j]
        if extra.shape[0] > 0:
            keep_moments(k, scale, gram, precision, spread.shape[1] == k, spread[g], extra[g], moments[g])
    return 0


@njit(nogil=True, cache=True, fastmath=True)
def add_members(first, last, start, levels, memberships, vectors, spread, out, out_spread):
    """Add the weighted sums of each unit's levels to ``out``, (units, k), and of their spreads to ``out_spread``."""
    for u in range(first, last):
        for m in range(start[u], start[u + 1]):
            g, weight = levels[m], memberships[m]
            # of the spreads' own type: they are long
            square = out_spread.dtype.type(weight * weight)
            for j in range(out.shape[1]):
                out[u, j] += weight * vectors[g, j]
            for j in range(out_spread.shape[1]):
                out_spread[u, j] += square * spread[g, j]


@njit(nogil=True, cache=True)
def shift_units(first, last, pointers, order, partners, vectors, covariates, change, residual):
    """Residuals of the rows of the units ``first <= u < last`` whose coefficients moved by ``change``, (units, d)."""
    for u in range(first, last):
        shift_rows(pointers[u], pointers[u + 1], order, partners, vectors, covariates, change[u], residual)
