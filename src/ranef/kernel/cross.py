"""Cross products of the columns of one grouping factor with everything else, level by level.

Rows are sorted so that each level of the factor owns the rows ``pointers[g]:pointers[g + 1]``. The *rest* are the
factors that are not eliminated, each level of which owns one or more scalar columns, followed by the dense columns
(fixed effects and response).
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def count_columns(first, last, pointers, codes, level_start, width, dense, counts):
    """Number of scalar columns of the rest that meet each level ``first <= g < last``.

    Parameters
    ----------
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
        for n in range(pointers[g], pointers[g + 1]):
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
        for n in range(pointers[g], pointers[g + 1]):
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
        for n in range(pointers[g], pointers[g + 1]):
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
def cross_rest(lowest, highest, z, codes, level_start, column_start, rest_z, x, out):
    """Add the rest's products with itself to the rows ``lowest <= i < highest`` of the lower triangle of ``out``.

    The products among dense columns are left out: they are one matrix product.
    A caller that owns a range of rows needs no lock, and the sums do not depend on who computes which range.
    """
    factors = codes.shape[1]
    dense = x.shape[1]
    base = column_start[level_start[factors]]
    for n in range(z.shape[0]):
        for f in range(factors):
            level = level_start[f] + codes[n, f]
            for a in range(column_start[level + 1] - column_start[level]):
                i = column_start[level] + a
                if lowest <= i < highest:
                    zi = z[n, rest_z[f] + a]
                    for h in range(f + 1):
                        other = level_start[h] + codes[n, h]
                        for b in range(column_start[other + 1] - column_start[other]):
                            j = column_start[other] + b
                            if j <= i:
                                out[i, j] += zi * z[n, rest_z[h] + b]
        for d in range(dense):
            i = base + d
            if lowest <= i < highest:
                for h in range(factors):
                    other = level_start[h] + codes[n, h]
                    for b in range(column_start[other + 1] - column_start[other]):
                        out[i, column_start[other] + b] += x[n, d] * z[n, rest_z[h] + b]
