"""Cross products of the columns of one grouping factor with everything else, from rows in any order.

The rows are all those of some levels ``first <= g < last`` of the factor. The *rest* are the factors that are not
eliminated, each level of which owns one or more scalar columns, followed by the dense columns (fixed effects and
response). A level's columns are those that its rows meet, ascending, and then all dense ones.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def place_columns(first, last, own, codes, levels, width, dense, places, counts):
    """Where the columns that each row meets stand among those of its level, and how many a level has.

    Parameters
    ----------
    own : int32 array, shape (rows,)
        Level of each row.
    codes : int32 array, shape (rows, factors)
        Codes of the rest's factors.
    levels, width : int64 arrays, shape (factors,)
        Levels of each factor, and scalar columns of one of them.
    dense : int
        Columns that every level has.
    places : int32 array, shape (rows, factors)
        Overwritten.
    counts : int64 array, shape (levels,)
        Overwritten from ``first`` to ``last``.
    """
    rows = own.shape[0]
    sorted_rows = np.empty(rows, np.int64)
    met = np.empty(last - first, np.int32)
    counts[first:last] = 0
    for f in range(codes.shape[1]):
        # rows by code, so that each level meets its columns in ascending order
        place = np.zeros(levels[f] + 1, np.int64)
        for n in range(rows):
            place[codes[n, f] + 1] += 1
        for c in range(levels[f]):
            place[c + 1] += place[c]
        for n in range(rows):
            c = codes[n, f]
            # the level beside the row's number saves looking it up again
            sorted_rows[place[c]] = (np.int64(own[n] - first) << 32) | n
            place[c] += 1
        met[:] = -1
        i = 0
        for c in range(levels[f]):
            while i < place[c]:
                g, n = sorted_rows[i] >> 32, sorted_rows[i] & 0xFFFFFFFF
                if met[g] != c:
                    met[g] = c
                    counts[first + g] += width[f]
                places[n, f] = counts[first + g] - width[f]
                i += 1
    counts[first:last] += dense


@njit(nogil=True, cache=True)
def cross_rows(
    first,
    last,
    own,
    codes,
    places,
    start,
    width,
    random,
    z,
    mine,
    above,
    theirs,
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
    own, codes, places, width
        As in `place_columns`.
    start : int64 array, shape (factors,)
        First scalar column of each factor of the rest.
    random : int
        First dense column.
    z : float64 array, shape (rows, coefficients)
        Covariates of all factors side by side, times the root of the row's weight.
    mine, above : int64 arrays
        Columns of ``z`` of this factor, and of the factors it is nested in.
    theirs : int64 array, shape (factors,)
        First column of ``z`` of each factor of the rest.
    x : float64 array, shape (rows, dense)
        Fixed effects and response, times the root of the row's weight.
    offsets : int64 array, shape (levels + 1,)
        Where a level's columns begin in ``columns``; its values begin at ``k * offsets[g]``, one row of
        ``offsets[g + 1] - offsets[g]`` for each of the ``k`` coefficients.
    columns, values, gram, up : arrays
        Overwritten: scalar columns; products with them; own products (levels, k, k); products with the ancestors'
        coefficients (levels, k, len(above)).
    """
    rows = own.shape[0]
    dense = x.shape[1]
    k = mine.shape[0]
    gram[first:last] = 0.0
    up[first:last] = 0.0
    values[k * offsets[first] : k * offsets[last]] = 0.0
    # one short loop over all rows for each kind of product: several times faster than all kinds row by row
    for f in range(codes.shape[1]):
        for n in range(rows):
            to = offsets[own[n]] + places[n, f]
            for c in range(width[f]):
                columns[to + c] = start[f] + width[f] * codes[n, f] + c
    for a in range(k):
        for b in range(a + 1):
            for n in range(rows):
                gram[own[n], a, b] += z[n, mine[a]] * z[n, mine[b]]
        for b in range(above.shape[0]):
            for n in range(rows):
                up[own[n], a, b] += z[n, mine[a]] * z[n, above[b]]
        for f in range(codes.shape[1]):
            for n in range(rows):
                g = own[n]
                to = k * offsets[g] + a * (offsets[g + 1] - offsets[g]) + places[n, f]
                for c in range(width[f]):
                    values[to + c] += z[n, mine[a]] * z[n, theirs[f] + c]
        for n in range(rows):
            g = own[n]
            to = k * offsets[g] + (a + 1) * (offsets[g + 1] - offsets[g]) - dense
            for j in range(dense):
                values[to + j] += z[n, mine[a]] * x[n, j]
    for g in range(first, last):
        for j in range(dense):
            columns[offsets[g + 1] - dense + j] = random + j
        for a in range(k):
            for b in range(a):
                gram[g, b, a] = gram[g, a, b]


@njit(nogil=True, cache=True)
def densify(first, last, start, gram, offsets, columns, values, out):
    """Write one factor's products with itself and with later columns into the lower triangle of ``out``.

    Its levels own the columns from ``start`` on; ``offsets``, ``columns`` and ``values`` as in `cross_rows`.
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
