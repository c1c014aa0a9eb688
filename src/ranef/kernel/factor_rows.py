"""The row update: coefficients of one level of a factor from its rows, whatever multiplies them.

The rows of a level have covariates ``z_n = [v_n, x_n]``: ``v_n``, k numbers, is the sum of the vectors of the row's
units on the other sides of a latent term, its *partners*, and perhaps uncertain, with covariance ``V_n``; ``x_n`` are
columns of the data. Either may be absent. With the residual ``e_n`` of everything, the level's coefficients ``c``, and
prior precision ``P`` and mean ``m``, one step is

    A = P + scale sum_n w_n (z_n z_n' + V_n)        c <- c + A^-1 (scale (sum_n w_n z_n e_n - V c) - P (c - m))

which is the mode given everything else; ``A^-1/2`` times standard normal numbers on top makes it a draw; and ``A^-1``
kept beside it the moments of a variational posterior, ``q(v) q(x)`` for each level. Residuals follow at once.

Vectors are float32, of all sides of a term in one array; sums float64, but for those over one panel of rows.
Covariances among the k numbers of a vector, its *spread*, are packed by rows of the lower triangle, (k (k + 1) / 2,);
or (k,), its diagonal alone; or (0,), certain.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ranef.kernel.blas import cholesky, cholesky_inverse, cholesky_solve, rank_update, solve_lower_transposed

PANEL = 64


@njit(nogil=True, cache=True)
def spread_times(spread, x, out):
    """``out += V x``: ``spread`` of one unit, packed or diagonal, and ``x`` and ``out`` (k,)."""
    k = out.shape[0]
    if spread.shape[0] == k:
        for i in range(k):
            out[i] += spread[i] * x[i]
        return
    at = 0
    for i in range(k):
        xi, total = x[i], 0.0
        for j in range(i):
            out[j] += spread[at + j] * xi
            total += spread[at + j] * x[j]
        out[i] += total + spread[at + i] * xi
        at += i + 1


@njit(nogil=True, cache=True)
def _covariance_with_others(partners, vectors, spread, inner, half, out):
    """``out = Cov(v, eta)`` of one row, ``eta`` without its own side: products among its partners vary with ``v``.

    ``sum_t V_t (sum of the other partners' vectors)``; ``inner`` (k,) is the sum of all of them.
    """
    k = out.shape[0]
    out[:] = 0.0
    for s in range(partners.shape[0]):
        for i in range(k):
            half[i] = inner[i] - vectors[partners[s], i]
        spread_times(spread[partners[s]], half, out)


@njit(nogil=True, cache=True, fastmath=True)
def _panel_rows(
    begin, end, order, partners, vectors, covariates, weights, residual, others, half, share, spread, panel, score
):
    """Rows ``begin <= i < end``: fill the first rows of ``panel`` with ``w^1/2 z``, and add ``w z e`` to ``score``."""
    d = panel.shape[1]
    k = d - covariates.shape[1]
    several = partners.shape[1] > 1 and spread.shape[1] > 0
    for i in range(begin, end):
        n = order[i]
        r = i - begin
        if k > 0:
            # whole indices, not views: each view of an array would count a reference, under a lock
            p = partners[i, 0]
            for j in range(k):
                panel[r, j] = vectors[p, j]
            for s in range(1, partners.shape[1]):
                p = partners[i, s]
                for j in range(k):
                    panel[r, j] += vectors[p, j]
        if d > k:
            x = n if covariates.shape[0] > 1 else 0
            for j in range(k, d):
                panel[r, j] = covariates[x, j - k]
        w = weights[n if weights.shape[0] > 1 else 0]
        we = w * residual[n]
        for j in range(d):
            score[j] += we * panel[r, j]
        if several:
            for j in range(k):
                others[j] = panel[r, j]
            _covariance_with_others(partners[i], vectors, spread, others, half, share)
            for j in range(k):
                score[j] -= w * share[j]
        if weights.shape[0] > 1:
            root = np.float32(np.sqrt(w))
            for j in range(d):
                panel[r, j] *= root


@njit(nogil=True, cache=True, fastmath=True)
def _panel_spread(begin, end, order, partners, spread, weights, out):
    """Overwrite ``out``, float32, with ``w V`` summed over the rows ``begin <= i < end``."""
    size = out.shape[0]
    out[:] = 0.0
    for s in range(partners.shape[1]):
        i = begin
        if weights.shape[0] == 1:
            w = np.float32(weights[0])
            # four rows at a time: one pass over the sum for all of them
            while i + 4 <= end:
                a, b, c, d = partners[i, s], partners[i + 1, s], partners[i + 2, s], partners[i + 3, s]
                for j in range(size):
                    out[j] += w * ((spread[a, j] + spread[b, j]) + (spread[c, j] + spread[d, j]))
                i += 4
        while i < end:
            w = np.float32(weights[order[i] if weights.shape[0] > 1 else 0])
            a = partners[i, s]
            for j in range(size):
                out[j] += w * spread[a, j]
            i += 1


@njit(nogil=True, cache=True)
def accumulate(
    begin, end, order, partners, vectors, spread, covariates, weights, residual, panel, square, spreads, gram, score
):
    """Sums of the rows ``order[begin:end]``: ``gram = sum w (z z' + V)`` (lower triangle) and ``score = sum w z e``.

    Parameters
    ----------
    begin, end : int
    order : int32 array, shape (rows,)
        Row numbers, those of a unit together.
    partners : int32 array, shape (rows, other sides)
        In that order: where each partner is in ``vectors``.
    vectors : float32 array, shape (units of all sides, k)
    spread : float32 array, shape (units of all sides, 0, k or k (k + 1) / 2)
    covariates : float64 array, shape (rows or 1, kx)
    weights : float64 array, shape (rows or 1,)
    residual : float64 array, shape (rows,)
    panel : float32 array, shape (`PANEL`, d); square : float32 array, shape (d, d); spreads : float32 array
        To work in; ``spreads`` is as long as a row of ``spread``.
    gram : float64 array, shape (d, d)
    score : float64 array, shape (d,)

    Returns
    -------
    float64 array, shape (k (k + 1) / 2,), (k,) or (0,)
        ``sum w V``, which is part of ``gram``.
    """
    d = gram.shape[0]
    k = d - covariates.shape[1]
    gram[:] = 0.0
    score[:] = 0.0
    total = np.zeros(spreads.shape[0])
    others, half, share = np.empty(k), np.empty(k), np.empty(k)
    while begin < end:
        to = min(end, begin + PANEL)
        _panel_rows(
            begin,
            to,
            order,
            partners,
            vectors,
            covariates,
            weights,
            residual,
            others,
            half,
            share,
            spread,
            panel,
            score,
        )
        one = np.float32(weights[0] if weights.shape[0] == 1 else 1.0)
        rank_update(one, panel[: to - begin], np.float32(0.0), square)
        for i in range(d):
            for j in range(i + 1):
                gram[i, j] += square[i, j]
        if spreads.shape[0] > 0:
            _panel_spread(begin, to, order, partners, spread, weights, spreads)
            for j in range(spreads.shape[0]):
                total[j] += spreads[j]
        begin = to
    add_spread(k, total, gram)
    return total


@njit(nogil=True, cache=True)
def add_spread(k, total, gram):
    """Add a spread among ``k`` numbers to the lower triangle of the top left block of ``gram``."""
    if total.shape[0] == k:
        for i in range(k):
            gram[i, i] += total[i]
    elif total.shape[0] > 0:
        at = 0
        for i in range(k):
            for j in range(i + 1):
                gram[i, j] += total[at + j]
            at += i + 1


@njit(nogil=True, cache=True)
def step(scale, gram, score, precision, mean, now, noise, change):
    """One level's ``change`` from its sums: `score` less ``V c`` already; ``gram`` ends as the factor of ``A``.

    ``noise``, shape (d,) or (0,), makes the new value a draw.

    Returns
    -------
    int
        Not 0 if ``A`` is not positive definite.
    """
    d = change.shape[1]
    for i in range(d):
        total = 0.0
        for j in range(d):
            total += precision[i, j] * (now[j] - mean[j])
        change[0, i] = scale * score[i] - total
        for j in range(i + 1):
            gram[i, j] = precision[i, j] + scale * gram[i, j]
    failed = cholesky(gram)
    if failed != 0:
        return failed
    cholesky_solve(gram, change)
    if noise.shape[0] > 0:
        drawn = noise.copy().reshape(1, d)
        solve_lower_transposed(gram, drawn)
        for i in range(d):
            change[0, i] += drawn[0, i]
    return 0


@njit(nogil=True, cache=True)
def keep_moments(k, scale, factor, precision, diagonal, spread, extra, moments):
    """Posterior covariances of a level from the factor of ``A``: ``q(v) q(x)``, each the inverse of its own block.

    Parameters
    ----------
    k : int
    scale, factor, precision
        As left by `step`.
    diagonal : bool
        Whether ``q(v)`` has independent numbers: then each has the inverse of its own entry of ``A``.
    spread : float32 array, shape (k,) or (k (k + 1) / 2,)
    extra : float64 array, shape (kx, kx)
        Overwritten.
    moments : float64 array, shape (3,)
        Overwritten: log-determinant of both; ``tr(V H)`` for the vector and for the effects, ``H`` being their blocks
        of ``sum w (z z' + V_n)``.
    """
    d = factor.shape[0]
    kx = d - k
    logdet, taken = 0.0, 0.0
    moments[:] = 0.0
    if k > 0 and diagonal:
        for i in range(k):
            total = 0.0
            for c in range(i + 1):
                total += factor[i, c] * factor[i, c]
            spread[i] = 1.0 / total
            logdet -= np.log(total)
            taken += precision[i, i] / total
    elif k > 0:
        block = np.empty((k, k))
        for i in range(k):
            logdet -= 2.0 * np.log(factor[i, i])
            for j in range(i + 1):
                block[i, j] = factor[i, j]
        cholesky_inverse(block)
        at = 0
        for i in range(k):
            for j in range(i + 1):
                spread[at + j] = block[i, j]
                taken += block[i, j] * precision[i, j] * (1.0 if i == j else 2.0)
            at += i + 1
    moments[1] = (k - taken) / scale
    if kx > 0:
        block = np.zeros((kx, kx))
        for i in range(kx):
            for j in range(i + 1):
                total = 0.0
                for c in range(k + j + 1):
                    total += factor[k + i, c] * factor[k + j, c]
                block[i, j] = total
        cholesky(block)
        for i in range(kx):
            logdet -= 2.0 * np.log(block[i, i])
        cholesky_inverse(block)
        taken = 0.0
        for i in range(kx):
            for j in range(i + 1):
                extra[i, j] = block[i, j]
                extra[j, i] = block[i, j]
                taken += block[i, j] * precision[k + i, k + j] * (1.0 if i == j else 2.0)
        moments[2] = (kx - taken) / scale
    moments[0] = logdet


@njit(nogil=True, cache=True, fastmath=True)
def shift_rows(begin, end, order, partners, vectors, covariates, change, residual):
    """Take ``z_n' change`` from the residuals of the rows ``order[begin:end]``; ``change`` (d,)."""
    k = vectors.shape[1]
    d = change.shape[0]
    for i in range(begin, end):
        n = order[i]
        total = 0.0
        for s in range(partners.shape[1]):
            p = partners[i, s]
            for j in range(k):
                total += vectors[p, j] * change[j]
        if d > k:
            x = n if covariates.shape[0] > 1 else 0
            for j in range(k, d):
                total += covariates[x, j - k] * change[j]
        residual[n] -= total


@njit(nogil=True, cache=True)
def update_levels(
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
    scale,
    precision,
    mean,
    noise,
    effects,
    extra,
    moments,
):
    """Update the levels ``first <= g < last`` of a side that is one factor, and the residuals of their rows.

    Parameters
    ----------
    first, last : int
    at : int
        Where the side's levels begin in ``vectors`` and ``spread``.
    pointers : int64 array, shape (levels + 1,)
        Of the rows of each level, in ``order``.
    order, partners, vectors, spread, covariates, weights
        As for `accumulate`; the side's own rows of ``vectors`` are overwritten, and of ``spread`` where it has any.
    residual : float64 array, shape (rows,)
        Follows the coefficients.
    scale : float
        One over the residual variance, with weights relative to it.
    precision : float64 array, shape (d, d)
        Of the prior: of the vector first, then of the effects.
    mean : float64 array, shape (d,)
        Likewise.
    noise : float64 array, shape (levels, d), or (0, d)
        Standard normal numbers, for draws.
    effects : float64 array, shape (levels, kx)
        Coefficients of ``covariates``, overwritten.
    extra : float64 array, shape (levels, kx, kx), or (0, kx, kx)
        Overwritten with their covariance; without it only modes or draws are wanted.
    moments : float64 array, shape (levels, 3)
        Overwritten as `keep_moments` says; the middle one has ``v' (sum w V_n) v`` added, so that it is the expected
        increase of the level's squares by the uncertainty of the products.

    Returns
    -------
    int
        1 + the level whose system is not positive definite, or 0.
    """
    k = vectors.shape[1]
    d = precision.shape[0]
    width = spread.shape[1]
    panel, square = np.empty((PANEL, d), np.float32), np.empty((d, d), np.float32)
    spreads = np.empty(width, np.float32)
    gram, score, now, change = np.empty((d, d)), np.empty(d), np.empty(d), np.empty((1, d))
    none = np.empty(0)
    for g in range(first, last):
        begin, end = pointers[g], pointers[g + 1]
        total = accumulate(
            begin,
            end,
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
        for j in range(k):
            now[j] = vectors[at + g, j]
        for j in range(k, d):
            now[j] = effects[g, j - k]
        if width > 0:
            change[0, :k] = 0.0
            spread_times(total, now[:k], change[0, :k])
            for j in range(k):
                score[j] -= change[0, j]
        if step(scale, gram, score, precision, mean, now, noise[g] if noise.shape[0] > 0 else none, change) != 0:
            return g + 1
        for j in range(k):
            # what the residuals see is what is kept
            vectors[at + g, j] = now[j] + change[0, j]
            change[0, j] = vectors[at + g, j] - now[j]
        for j in range(k, d):
            effects[g, j - k] = now[j] + change[0, j]
        shift_rows(begin, end, order, partners, vectors, covariates, change[0], residual)
        if extra.shape[0] > 0:
            keep_moments(k, scale, gram, precision, width == k, spread[at + g], extra[g], moments[g])
            if width > 0:
                own, half = now[:k], change[0, :k]
                own[:] = vectors[at + g]
                half[:] = 0.0
                spread_times(total, own, half)
                for j in range(k):
                    moments[g, 1] += own[j] * half[j]
    return 0
