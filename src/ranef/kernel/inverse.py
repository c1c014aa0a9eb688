"""The entries of the inverse that belong to one eliminated factor (selected inverse), level by level.

With ``Q`` the inverse on what was eliminated later (raw coordinates: ``Lambda C^-1 Lambda'``), ``T`` and ``R`` as in
`ranef.kernel.eliminate`:

    Q_gg = T'T + T'T (R Q R') T'T             posterior covariance of the level's coefficients over sigma^2
    M_g  = F H - F (R Q R') F',  F = I - H T'T    Z_g' P Z_g, whose sum is the trace part of the score
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def gather_ancestor(
    first, last, parent, at, k_parent, offsets, columns, p_offsets, p_columns, p_diagonal, p_values, p_up, square, cross
):
    """Copy one ancestor's entries of the inverse to each level ``first <= g < last``.

    ``square`` (levels, above, above) gets products among ancestors' coefficients, ``cross`` (above rows per level,
    flat, one entry a column of the level) those with the level's columns of the rest.
    """
    above = square.shape[1]
    beyond = above - at - k_parent
    for g in range(first, last):
        p = parent[g]
        start = offsets[g]
        m = offsets[g + 1] - start
        to = cross[above * start : above * (start + m)].reshape(above, m)
        p_start = p_offsets[p]
        p_m = p_offsets[p + 1] - p_start
        p_row = p_values[k_parent * p_start : k_parent * (p_start + p_m)].reshape(k_parent, p_m)
        for a in range(k_parent):
            for b in range(k_parent):
                square[g, at + a, at + b] = p_diagonal[p, a, b]
            for b in range(beyond):
                square[g, at + a, at + k_parent + b] = p_up[p, a, b]
                square[g, at + k_parent + b, at + a] = p_up[p, a, b]
            q = 0
            for j in range(m):
                while p_columns[p_start + q] != columns[start + j]:
                    q += 1
                to[at + a, j] = p_row[a, q]


@njit(nogil=True, cache=True)
def invert_levels(
    first,
    last,
    gram,
    transfer,
    offsets,
    columns,
    values,
    up,
    inverse,
    square,
    cross,
    keep,
    diagonal,
    trace,
    out_values,
    out_up,
):
    """``Q_gg`` and ``M_g`` of the levels ``first <= g < last`` into ``diagonal`` and ``trace`` (levels, k, k).

    ``inverse`` is the symmetric inverse on the rest, raw coordinates, with zeros where a column takes no part.
    With ``keep``, the entries between the level and its columns and ancestors are written as well, for the factors
    nested in this one.
    """
    k = gram.shape[1]
    above = up.shape[2]
    widest = 0
    for g in range(first, last):
        widest = max(widest, offsets[g + 1] - offsets[g])
    y = np.empty((k, widest))
    y_up = np.empty((k, above))
    inner = np.empty((k, k))
    tt = np.empty((k, k))
    f = np.empty((k, k))
    left = np.empty((k, k))
    for g in range(first, last):
        start = offsets[g]
        m = offsets[g + 1] - start
        row = values[k * start : k * (start + m)].reshape(k, m)
        own = columns[start : start + m]
        between = cross[above * start : above * (start + m)].reshape(above, m)
        for a in range(k):
            for j in range(m):
                y[a, j] = 0.0
            for b in range(above):
                y_up[a, b] = 0.0
        # the inverse is symmetric: each entry is looked up once
        for i in range(m):
            source = inverse[own[i]]
            for a in range(k):
                r = row[a, i]
                s = r * source[own[i]]
                for j in range(i):
                    q = source[own[j]]
                    y[a, j] += r * q
                    s += row[a, j] * q
                y[a, i] += s
        for a in range(k):
            for b in range(above):
                r = up[g, a, b]
                for j in range(m):
                    y[a, j] += r * between[b, j]
                for c in range(above):
                    y_up[a, c] += r * square[g, b, c]
                s = 0.0
                for j in range(m):
                    s += row[a, j] * between[b, j]
                y_up[a, b] += s
        for a in range(k):
            for b in range(k):
                s = 0.0
                for j in range(m):
                    s += y[a, j] * row[b, j]
                for c in range(above):
                    s += y_up[a, c] * up[g, b, c]
                inner[a, b] = s
                s = 0.0
                for c in range(k):
                    s += transfer[g, c, a] * transfer[g, c, b]
                tt[a, b] = s
        for a in range(k):
            for b in range(k):
                s = 1.0 if a == b else 0.0
                for c in range(k):
                    s -= gram[g, a, c] * tt[c, b]
                f[a, b] = s
        for a in range(k):
            for b in range(k):
                s = 0.0
                for c in range(k):
                    s += f[a, c] * inner[c, b]
                left[a, b] = s
        for a in range(k):
            for b in range(k):
                s = 0.0
                for c in range(k):
                    s += f[a, c] * gram[g, c, b] - left[a, c] * f[b, c]
                trace[g, a, b] = s
        for a in range(k):
            for b in range(k):
                s = 0.0
                for c in range(k):
                    s += tt[a, c] * inner[c, b]
                left[a, b] = s
        for a in range(k):
            for b in range(k):
                s = tt[a, b]
                for c in range(k):
                    s += left[a, c] * tt[c, b]
                diagonal[g, a, b] = s
        if keep:
            out = out_values[k * start : k * (start + m)].reshape(k, m)
            for a in range(k):
                for j in range(m):
                    s = 0.0
                    for c in range(k):
                        s -= tt[a, c] * y[c, j]
                    out[a, j] = s
                for b in range(above):
                    s = 0.0
                    for c in range(k):
                        s -= tt[a, c] * y_up[c, b]
                    out_up[g, a, b] = s
