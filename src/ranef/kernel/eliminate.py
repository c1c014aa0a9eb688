"""Elimination of one factor whose block of the system is block-diagonal: one small block per level.

With ``H = Z'WZ`` of one level and ``Lambda`` the relative covariance factor, ``D = Lambda'H Lambda + I = LL'`` and
``T = L^-1 Lambda'``. Everything else of the level is a row of raw cross products ``R``; eliminating it subtracts
``(TR)'(TR)`` from what remains. No inverse of ``Lambda`` is taken, so a variance of zero is an ordinary point.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ranef.kernel.panels import WIDEST, gather, scatter


@njit(nogil=True, cache=True)
def factor_levels(first, last, factor, gram, transfer, root, logdet):
    """``T`` and ``L^-1`` (k, k) and ``log|D|`` of each level ``first <= g < last``."""
    k = factor.shape[0]
    d = np.empty((k, k))
    product = np.empty((k, k))
    for g in range(first, last):
        for a in range(k):
            for b in range(k):
                s = 0.0
                for c in range(k):
                    s += gram[g, a, c] * factor[c, b]
                product[a, b] = s
        for a in range(k):
            for b in range(a + 1):
                s = 1.0 if a == b else 0.0
                for c in range(k):
                    s += factor[c, a] * product[c, b]
                d[a, b] = s
        total = 0.0
        for a in range(k):
            for b in range(a + 1):
                s = d[a, b]
                for c in range(b):
                    s -= d[a, c] * d[b, c]
                if a == b:
                    # D >= I in exact arithmetic: a smaller pivot is rounding
                    s = max(s, 1e-300)
                    d[a, a] = np.sqrt(s)
                    total += np.log(s)
                else:
                    d[a, b] = s / d[b, b]
        logdet[g] = total
        for b in range(k):
            for a in range(k):
                s = factor[b, a]
                for c in range(a):
                    s -= d[a, c] * transfer[g, c, b]
                transfer[g, a, b] = s / d[a, a]
                s = 1.0 if a == b else 0.0
                for c in range(a):
                    s -= d[a, c] * root[g, c, b]
                root[g, a, b] = s / d[a, a]


@njit(nogil=True, cache=True)
def reduce_levels(first, last, transfer, offsets, values, up, out_values, out_up):
    """Rows ``TR`` of the levels ``first <= g < last``: ``out_values`` and ``out_up`` from ``values`` and ``up``."""
    k = transfer.shape[1]
    above = up.shape[2]
    for g in range(first, last):
        start = offsets[g]
        m = offsets[g + 1] - start
        row = values[k * start : k * (start + m)].reshape(k, m)
        out = out_values[k * start : k * (start + m)].reshape(k, m)
        for a in range(k):
            t = transfer[g, a, 0]
            for j in range(m):
                out[a, j] = t * row[0, j]
            for c in range(1, k):
                t = transfer[g, a, c]
                for j in range(m):
                    out[a, j] += t * row[c, j]
            for b in range(above):
                s = 0.0
                for c in range(k):
                    s += transfer[g, a, c] * up[g, c, b]
                out_up[g, a, b] = s


@njit(nogil=True, cache=True)
def pass_to_ancestor(
    first, last, parent, at, k_parent, offsets, columns, reduced, reduced_up, gram, p_offsets, p_columns, p_values, p_up
):
    """Subtract ``(TR)'(TR)`` of the levels ``first <= g < last`` from one ancestor factor's raw products.

    ``at`` is where that ancestor's coefficients begin in ``reduced_up``; those after it belong to its own ancestors.
    The caller owns all levels of the ancestors touched.
    """
    k = reduced_up.shape[1]
    beyond = reduced_up.shape[2] - at - k_parent
    for g in range(first, last):
        p = parent[g]
        start = offsets[g]
        m = offsets[g + 1] - start
        row = reduced[k * start : k * (start + m)].reshape(k, m)
        p_start = p_offsets[p]
        p_m = p_offsets[p + 1] - p_start
        p_row = p_values[k_parent * p_start : k_parent * (p_start + p_m)].reshape(k_parent, p_m)
        for a in range(k_parent):
            for c in range(k):
                w = reduced_up[g, c, at + a]
                if w == 0.0:
                    continue
                for b in range(k_parent):
                    gram[p, a, b] -= w * reduced_up[g, c, at + b]
                for b in range(beyond):
                    p_up[p, a, b] -= w * reduced_up[g, c, at + k_parent + b]
                # both lists of columns ascend, and the ancestor's holds the level's
                q = 0
                for j in range(m):
                    while p_columns[p_start + q] != columns[start + j]:
                        q += 1
                    p_row[a, q] -= w * row[c, j]


@njit(nogil=True, cache=True)
def downdate_rest(lowest, highest, k, offsets, columns, reduced, out):
    """Subtract ``(TR)'(TR)`` of all levels from the rows ``lowest <= i < highest`` of the lower triangle of ``out``."""
    for g in range(offsets.shape[0] - 1):
        start = offsets[g]
        m = offsets[g + 1] - start
        own = columns[start : start + m]
        if own[m - 1] < lowest or own[0] >= highest:
            continue
        row = reduced[k * start : k * (start + m)].reshape(k, m)
        begin = np.searchsorted(own, lowest)
        for i in range(begin, m):
            to = own[i]
            if to >= highest:
                break
            target = out[to]
            for c in range(k):
                w = row[c, i]
                if w != 0.0:
                    for j in range(i + 1):
                        target[own[j]] -= w * row[c, j]


@njit(nogil=True, cache=True)
def apply_rest(first, last, k, offsets, columns, reduced, skipped, x, out):
    """Subtract ``(TR)'(TR) x`` of the levels ``first <= g < last`` from ``out``.

    The last ``skipped`` columns, which every level has, are taken for zero in ``x`` and left out of ``out``.
    ``x`` and ``out``, shape (sides, columns), hold one panel of sides after the other, each as (columns, sides of the
    panel), so that a few sides of all the rest's columns stay in the cache.
    """
    sides, rest = x.shape
    half = np.empty(WIDEST)
    for s in range(0, sides, WIDEST):
        width = min(WIDEST, sides - s)
        source = x.reshape(-1)[s * rest : (s + width) * rest].reshape(rest, width)
        target = out.reshape(-1)[s * rest : (s + width) * rest].reshape(rest, width)
        for g in range(first, last):
            start = offsets[g]
            m = offsets[g + 1] - start
            for a in range(k):
                at = k * start + a * m
                half[:] = 0.0
                gather(1.0, at, start, m - skipped, reduced, columns, source, half)
                scatter(-1.0, at, start, m - skipped, reduced, columns, half, target)


@njit(nogil=True, cache=True)
def rest_diagonal(first, last, k, offsets, columns, reduced, start, out):
    """Subtract the levels' part from the diagonal blocks of the rest, ``out[i, i' - start[i]]`` for one block."""
    for g in range(first, last):
        begin = offsets[g]
        m = offsets[g + 1] - begin
        row = reduced[k * begin : k * (begin + m)].reshape(k, m)
        for i in range(m):
            to = columns[begin + i]
            j = i
            while j >= 0 and columns[begin + j] >= start[to]:
                at = columns[begin + j] - start[to]
                for a in range(k):
                    out[to, at] -= row[a, i] * row[a, j]
                j -= 1


@njit(nogil=True, cache=True)
def forward(first, last, transfer, offsets, columns, reduced, right, half, rest):
    """First half of a solve: ``half += T right`` per level, and ``rest -= (TR)' half``.

    ``right`` and ``half`` have shape (levels, k, sides), ``rest`` (columns, sides).
    """
    k = transfer.shape[1]
    sides = right.shape[2]
    for g in range(first, last):
        start = offsets[g]
        m = offsets[g + 1] - start
        for a in range(k):
            for s in range(sides):
                total = half[g, a, s]
                for c in range(k):
                    total += transfer[g, a, c] * right[g, c, s]
                half[g, a, s] = total
            scatter(-1.0, k * start + a * m, start, m, reduced, columns, half[g, a], rest)


@njit(nogil=True, cache=True)
def forward_up(first, last, parent, at, k_parent, reduced_up, half, right):
    """``right`` of one ancestor factor, less ``(TR)' half`` of the levels ``first <= g < last``."""
    k = reduced_up.shape[1]
    for g in range(first, last):
        p = parent[g]
        for b in range(k_parent):
            for a in range(k):
                for s in range(half.shape[2]):
                    right[p, b, s] -= reduced_up[g, a, at + b] * half[g, a, s]


@njit(nogil=True, cache=True)
def backward_up(first, last, parent, at, k_parent, reduced_up, solution, half):
    """``half`` less ``(TR)`` times the solution of one ancestor factor."""
    k = reduced_up.shape[1]
    for g in range(first, last):
        p = parent[g]
        for a in range(k):
            for b in range(k_parent):
                for s in range(half.shape[2]):
                    half[g, a, s] -= reduced_up[g, a, at + b] * solution[p, b, s]


@njit(nogil=True, cache=True)
def backward(first, last, transfer, offsets, columns, reduced, half, rest, solution):
    """Second half of a solve: ``solution = T'(half - (TR) rest)`` per level. ``half`` is overwritten."""
    k = transfer.shape[1]
    sides = half.shape[2]
    for g in range(first, last):
        start = offsets[g]
        m = offsets[g + 1] - start
        for a in range(k):
            gather(-1.0, k * start + a * m, start, m, reduced, columns, rest, half[g, a])
        for a in range(k):
            for s in range(sides):
                total = 0.0
                for c in range(k):
                    total += transfer[g, c, a] * half[g, c, s]
                solution[g, a, s] = total


@njit(nogil=True, cache=True)
def multiply(first, last, gram, offsets, columns, values, own, rest, out_own, out_rest):
    """Add raw cross products times coefficients to ``out_own`` (levels, k, sides) and ``out_rest`` (columns, sides)."""
    k = gram.shape[1]
    sides = own.shape[2]
    for g in range(first, last):
        start = offsets[g]
        m = offsets[g + 1] - start
        for a in range(k):
            for c in range(k):
                for s in range(sides):
                    out_own[g, a, s] += gram[g, a, c] * own[g, c, s]
            gather(1.0, k * start + a * m, start, m, values, columns, rest, out_own[g, a])
            scatter(1.0, k * start + a * m, start, m, values, columns, own[g, a], out_rest)


@njit(nogil=True, cache=True)
def multiply_up(first, last, parent, at, k_parent, up, own, ancestor, out_own, out_ancestor):
    """The part of `multiply` between the levels of a factor and one ancestor factor."""
    k = up.shape[1]
    for g in range(first, last):
        p = parent[g]
        for a in range(k):
            for b in range(k_parent):
                w = up[g, a, at + b]
                for s in range(own.shape[2]):
                    out_own[g, a, s] += w * ancestor[p, b, s]
                    out_ancestor[p, b, s] += w * own[g, a, s]
