"""Cross products of the columns of one grouping factor with everything else, level by level.

Rows are sorted so that each level of the factor owns the rows ``pointers[g]:pointers[g + 1]``. The *rest* are the
factors that are not eliminated, each level of which owns one or more scalar columns, followed by the dense columns
(fixed effects and response).
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def count_columns(first, last, origin, pointers, codes, level_start, width, dense, counts):
    """Number of scalar columns of the rest that meet each level ``first <= g < last``.

    Parameters
    ----------
    origin : int
        Row that the arrays of rows begin with.
    pointers : int64 array, shape (levels + 1,)
        Rows of each level.
    codes : int32 array, shape (rows, factors)
        Codes of the rest's factors.
    level_start : int64 array, shape (factors + 1,)
        Where each factor's levels begin when all are numbered in one sequence.
    width : int64 array, shape (factors,)
        Scalar columns of one level of each factor.
    dense : int
        Columns that meet every level.
    counts : int64 array, shape (levels,)
        Overwritten from ``first`` to ``last``.
    """
    factors = codes.shape[1]
    seen = np.full(level_start[factors], -1, np.int64)
    for g in range(first, last):
        total = dense
        for n in range(pointers[g] - origin, pointers[g + 1] - origin):
            for f in range(factors):
                level = level_start[f] + codes[n, f]
                if seen[level] != g:
                    seen[level] = g
                    total += width[f]
        counts[g] = total


@njit(nogil=True, cache=True)
def cross_levels(
    first,
    last,
    origin,
    pointers,
    z,
    own,
    above,
    codes,
    level_start,
    column_start,
    rest_z,
    x,
    offsets,
    columns,
    values,
    gram,
    up,
):
    """Cross products of each level ``first <= g < last`` with itself, its ancestors and the rest.

    Parameters
    ----------
    origin : int
        Row that the arrays of rows begin with.
    z : float64 array, shape (rows, coefficients)
        Covariates of all factors side by side, times the root of the row's weight.
    own, above : int64 arrays
        Columns of ``z`` of this factor, and of the factors it is nested in.
    column_start : int64 array, shape (levels of the rest + 1,)
        First scalar column of each level of the rest.
    rest_z : int64 array, shape (factors,)
        First column of ``z`` of each factor of the rest.
    x : float64 array, shape (rows, dense)
        Fixed effects and response, times the root of the row's weight.
    offsets : int64 array, shape (levels + 1,)
        Where a level's columns begin in ``columns``; its values begin at ``k * offsets[g]``, one row of
        ``offsets[g + 1] - offsets[g]`` for each of the ``k`` coefficients.
    columns, values, gram, up : arrays
        Overwritten: scalar columns in ascending order; products with them; own products (levels, k, k); products with
        the ancestors' coefficients (levels, k, len(above)).
    """
    factors = codes.shape[1]
    dense = x.shape[1]
    k = own.shape[0]
    levels = level_start[factors]
    seen = np.full(levels, -1, np.int64)
    place = np.empty(levels, np.int64)
    found = np.empty(levels, np.int64)
    for g in range(first, last):
        n_found = 0
        for n in range(pointers[g] - origin, pointers[g + 1] - origin):
            for f in range(factors):
                level = level_start[f] + codes[n, f]
                if seen[level] != g:
                    seen[level] = g
                    found[n_found] = level
                    n_found += 1
        found[:n_found].sort()
        start = offsets[g]
        m = offsets[g + 1] - start
        at = 0
        for i in range(n_found):
            level = found[i]
            place[level] = at
            for c in range(column_start[level], column_start[level + 1]):
                columns[start + at] = c
                at += 1
        for j in range(dense):
            columns[start + at + j] = column_start[levels] + j
        row = values[k * start : k * (start + m)].reshape(k, m)
        row[:, :] = 0.0
        gram[g] = 0.0
        up[g] = 0.0
        for n in range(pointers[g] - origin, pointers[g + 1] - origin):
            for a in range(k):
                za = z[n, own[a]]
                for b in range(a + 1):
                    gram[g, a, b] += za * z[n, own[b]]
                for b in range(above.shape[0]):
                    up[g, a, b] += za * z[n, above[b]]
                for f in range(factors):
                    level = level_start[f] + codes[n, f]
                    to = place[level]
                    for c in range(column_start[level + 1] - column_start[level]):
                        row[a, to + c] += za * z[n, rest_z[f] + c]
                for j in range(dense):
                    row[a, at + j] += za * x[n, j]
        for a in range(k):
            for b in range(a):
                gram[g, b, a] = gram[g, a, b]


@njit(nogil=True, cache=True)
def densify(first, last, start, gram, offsets, columns, values, out):
    """Write one factor's products with itself and with later columns into the lower triangle of ``out``.

    Its levels own the columns from ``start`` on; ``offsets``, ``columns`` and ``values`` as in `cross_levels`.
    """
    k = gram.shape[1]
    for g in range(first, last):
        at = start + g * k
        begin = offsets[g]
        m = offsets[g + 1] - begin
        row = values[k * begin : k * (begin + m)].reshape(k, m)
        for a in range(k):
            for b in range(a + 1):
                out[at + a, at + b] = gram[g, a, b]
            for j in range(m):
                out[columns[begin + j], at + a] = row[a, j]
