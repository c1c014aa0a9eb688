"""Passes over the rows of a generalized model: linear predictors, sums by level, weighted cross products.

Rows are sorted by the first stage. All coefficients stand in one flat vector, factor by factor (the stages, then the
kept factors, then the fixed effects): those of level ``codes[n, f]`` begin at ``base[f] + codes[n, f] * size``, and
factor ``f``'s covariates are the columns ``z_start[f]:z_start[f + 1]`` of ``z``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ranef.kernel.probes import signs


@njit(nogil=True, cache=True)
def linear_predictor(first, last, codes, z, z_start, base, x, flat, out):
    """``x beta + sum_f z_f b_f`` of the rows ``first <= n < last``; ``flat`` (coefficients,), ``out`` from row 0."""
    factors = codes.shape[1]
    p = x.shape[1]
    fixed = base[factors]
    for n in range(first, last):
        total = 0.0
        for j in range(p):
            total += x[n, j] * flat[fixed + j]
        for f in range(factors):
            k = z_start[f + 1] - z_start[f]
            at = base[f] + np.int64(codes[n, f]) * k
            for a in range(k):
                total += z[n, z_start[f] + a] * flat[at + a]
        out[n - first] = total


@njit(nogil=True, cache=True)
def row_values(first, last, codes, z, z_start, base, x, flat, out):
    """`linear_predictor` for several coefficient vectors: ``flat`` (coefficients, sides), ``out`` (rows, sides)."""
    factors = codes.shape[1]
    sides = flat.shape[1]
    fixed = base[factors]
    for n in range(first, last):
        total = out[n - first]
        total[:] = 0.0
        for j in range(x.shape[1]):
            v = x[n, j]
            for s in range(sides):
                total[s] += v * flat[fixed + j, s]
        for f in range(factors):
            k = z_start[f + 1] - z_start[f]
            at = base[f] + np.int64(codes[n, f]) * k
            for a in range(k):
                v = z[n, z_start[f] + a]
                for s in range(sides):
                    total[s] += v * flat[at + a, s]


@njit(nogil=True, cache=True)
def intercept_predictor(first, last, codes, base, constant, flat, out):
    """`linear_predictor` where every covariate is one and all rows have the same fixed part, ``constant``."""
    for n in range(first, last):
        total = constant
        for f in range(codes.shape[1]):
            total += flat[base[f] + codes[n, f]]
        out[n - first] = total


@njit(nogil=True, cache=True)
def intercept_values(first, last, codes, base, constant, flat, out):
    """`row_values` where every covariate is one and all rows have the same fixed part, ``constant`` (sides,)."""
    sides = flat.shape[1]
    for n in range(first, last):
        for s in range(sides):
            out[n - first, s] = constant[s]
        for f in range(codes.shape[1]):
            at = base[f] + codes[n, f]
            for s in range(sides):
                out[n - first, s] += flat[at, s]


@njit(nogil=True, cache=True)
def own_variance(first, last, codes, z, z_at, own, out):
    """Add ``z' own[level] z`` of one factor to ``out``; ``codes`` (rows,), ``own`` (levels, k, k)."""
    k = own.shape[1]
    for n in range(first, last):
        g = codes[n]
        total = 0.0
        for a in range(k):
            for b in range(k):
                total += z[n, z_at + a] * own[g, a, b] * z[n, z_at + b]
        out[n - first] += total


@njit(nogil=True, cache=True)
def stage_covariances(first, last, codes, z, z_start, s, stages, offsets, values, up, slots, out):
    """Add twice stage ``s``'s covariances with later stages and with kept factors, of each row.

    ``values`` and ``up`` hold covariances where `ranef.solve.cross_products.Stage` has products.
    """
    factors = codes.shape[1]
    k = z_start[s + 1] - z_start[s]
    for n in range(first, last):
        g = codes[n, s]
        start = offsets[g]
        m = offsets[g + 1] - start
        total = 0.0
        for a in range(k):
            za = z[n, z_start[s] + a]
            at = k * start + a * m
            for f in range(stages, factors):
                slot = slots[n, f - stages]
                for c in range(z_start[f + 1] - z_start[f]):
                    total += za * values[at + slot + c] * z[n, z_start[f] + c]
            to = z_start[s + 1]
            for b in range(up.shape[2]):
                total += za * up[g, a, b] * z[n, to + b]
        out[n - first] += 2.0 * total


@njit(nogil=True, cache=True)
def kept_covariances(first, last, codes, z, z_start, column, stages, rest, out):
    """Add ``z' rest z`` over all kept factors of each row; factor ``f``'s columns begin at ``column[f - stages]``."""
    factors = codes.shape[1]
    for n in range(first, last):
        total = 0.0
        for f in range(stages, factors):
            k = z_start[f + 1] - z_start[f]
            row = column[f - stages] + np.int64(codes[n, f]) * k
            for e in range(stages, factors):
                l = z_start[e + 1] - z_start[e]
                to = column[e - stages] + np.int64(codes[n, e]) * l
                for a in range(k):
                    for b in range(l):
                        total += z[n, z_start[f] + a] * rest[row + a, to + b] * z[n, z_start[e] + b]
        out[n - first] += total


@njit(nogil=True, cache=True)
def place_slots(first, last, pointers, order, codes, stages, offsets, columns, column, width, slots):
    """Where each row's columns of the rest's factors are among those of its level.

    ``slots`` (rows in ``order``, factors of the rest) gets the position within the level's columns; ``column`` and
    ``width`` are the first column and the columns a level of each of these factors, ``stages`` where their codes begin.
    """
    factors = slots.shape[1]
    for g in range(first, last):
        own = columns[offsets[g] : offsets[g + 1]]
        for n in range(pointers[g], pointers[g + 1]):
            i = order[n]
            for f in range(factors):
                slots[n, f] = np.searchsorted(own, column[f] + np.int64(codes[i, stages + f]) * width[f])


@njit(nogil=True, cache=True)
def weigh_rows(first, last, codes, z, x, weight, score, f, own, above, rest_z, slots, offsets, gram, values, up):
    """Add the cross products of the rows ``first <= n < last`` to those of their levels of factor ``f``.

    Parameters
    ----------
    weight, score : float64 arrays, shape (last - first,)
        Of a row's cross products; and what stands for its weighted response.
    own, above : int64 arrays
        Columns of ``z`` of this factor, and of the factors it is nested in.
    rest_z : int64 array, shape (factors of the rest + 1,)
        Where their covariates begin in ``z``.
    slots : int32 array, shape (rows, factors of the rest)
    gram, values, up : arrays
        As in `ranef.kernel.cross.cross_rows`; the lower triangles of ``gram``.
    """
    k = own.shape[0]
    p = x.shape[1]
    factors = slots.shape[1]
    for n in range(first, last):
        g = codes[n, f]
        start = offsets[g]
        m = offsets[g + 1] - start
        dense = m - p - 1
        w = weight[n - first]
        for a in range(k):
            za = z[n, own[a]]
            wa = w * za
            at = k * start + a * m
            for b in range(a + 1):
                gram[g, a, b] += wa * z[n, own[b]]
            for b in range(above.shape[0]):
                up[g, a, b] += wa * z[n, above[b]]
            for e in range(factors):
                to = at + slots[n, e]
                for c in range(rest_z[e + 1] - rest_z[e]):
                    values[to + c] += wa * z[n, rest_z[e] + c]
            for j in range(p):
                values[at + dense + j] += wa * x[n, j]
            values[at + dense + p] += za * score[n - first]


@njit(nogil=True, cache=True)
def weigh_intercepts(first, last, codes, slots, weight, score, offsets, own, values, other):
    """Sums of weights and scores where every covariate is one, there is one stage, and it is not alone.

    Parameters
    ----------
    weight, score : float64 arrays, shape (last - first,)
    slots : int32 array, shape (rows, kept factors)
    own : float64 array, shape (levels of the stage, 2)
        Sums of the weights and scores of each level's rows.
    values : float64 array
        Sums of the weights where the stage meets kept factors; see `ranef.kernel.cross`.
    other : float64 array, shape (levels of the last kept factor, 2)
    """
    last_factor = codes.shape[1] - 1
    kept = slots.shape[1]
    for n in range(first, last):
        g = codes[n, 0]
        w, s = weight[n - first], score[n - first]
        own[g, 0] += w
        own[g, 1] += s
        for f in range(kept):
            values[offsets[g] + slots[n, f]] += w
        i = codes[n, last_factor]
        other[i, 0] += w
        other[i, 1] += s


@njit(nogil=True, cache=True)
def spread(first, last, sums, x, offsets, gram, values):
    """Products of the levels ``first <= g < last`` with themselves and the dense columns, all rows' fixed part ``x``.

    ``sums`` (levels, 2) has weights and scores.
    """
    p = x.shape[0]
    for g in range(first, last):
        end = offsets[g + 1]
        gram[g, 0, 0] = sums[g, 0]
        for j in range(p):
            values[end - p - 1 + j] = sums[g, 0] * x[j]
        values[end - 1] = sums[g, 1]


@njit(nogil=True, cache=True)
def mirror(first, last, gram):
    """The upper triangles of the levels ``first <= g < last`` from the lower ones."""
    k = gram.shape[1]
    if k > 1:
        for g in range(first, last):
            for a in range(k):
                for b in range(a):
                    gram[g, b, a] = gram[g, a, b]


@njit(nogil=True, cache=True)
def weigh_levels(first, last, pointers, order, z, own, rest_z, slots, x, weight, score, offsets, gram, values):
    """As `weigh_rows`, level by level: the rows of a level of this factor are far from each other.

    ``order`` (rows,) and ``slots`` have the rows by level; ``gram`` and ``values`` are overwritten.
    """
    k = own.shape[0]
    p = x.shape[1]
    factors = slots.shape[1]
    for g in range(first, last):
        start = offsets[g]
        m = offsets[g + 1] - start
        row = values[k * start : k * (start + m)].reshape(k, m)
        row[:, :] = 0.0
        gram[g] = 0.0
        dense = m - p - 1
        for n in range(pointers[g], pointers[g + 1]):
            i = order[n]
            w = weight[i]
            for a in range(k):
                za = z[i, own[a]]
                wa = w * za
                for b in range(a + 1):
                    gram[g, a, b] += wa * z[i, own[b]]
                for e in range(factors):
                    to = slots[n, e]
                    for c in range(rest_z[e + 1] - rest_z[e]):
                        row[a, to + c] += wa * z[i, rest_z[e] + c]
                for j in range(p):
                    row[a, dense + j] += wa * x[i, j]
                row[a, dense + p] += za * score[i]
        for a in range(k):
            for b in range(a):
                gram[g, b, a] = gram[g, a, b]


@njit(nogil=True, cache=True)
def add_rows(first, last, codes, z, z_at, values, out):
    """Add ``z_n values_n'`` of the rows to their levels' ``out``, shape (levels, k, sides).

    ``codes`` (rows,) is one factor's; ``values`` (last - first, sides).
    """
    k = out.shape[1]
    for n in range(first, last):
        g = codes[n]
        for a in range(k):
            v = z[n, z_at + a]
            for s in range(out.shape[2]):
                out[g, a, s] += v * values[n - first, s]


@njit(nogil=True, cache=True)
def add_intercept_rows(first, last, codes, values, out):
    """`add_rows` where the one covariate is one, to ``out`` (levels, 1, sides)."""
    for n in range(first, last):
        g = codes[n]
        for s in range(out.shape[2]):
            out[g, 0, s] += values[n - first, s]


@njit(nogil=True, cache=True)
def signed(first, last, root, seed, out):
    """``root_n`` with the random signs of each row and probe, shape (last - first, probes)."""
    for n in range(first, last):
        bits = signs(n, seed)
        for s in range(out.shape[1]):
            out[n - first, s] = root[n - first] * (2.0 * np.float64((bits >> np.uint64(s)) & np.uint64(1)) - 1.0)


@njit(nogil=True, cache=True)
def add_variances(values, own, count, right, out):
    """Add each row's variance, probe by probe, times ``right``, shape (rows, sides), to ``out`` (probes, sides).

    Parameters
    ----------
    values : float64 array, shape (rows, probes and exact directions)
        The variance is ``own`` (rows,) plus the square of the probe's and of each exact direction's.
    count : int
        Probes.
    """
    known = values.shape[1]
    for n in range(values.shape[0]):
        exact = own[n]
        for s in range(count, known):
            exact += values[n, s] * values[n, s]
        for s in range(count):
            h = exact + values[n, s] * values[n, s]
            for j in range(right.shape[1]):
                out[s, j] += h * right[n, j]
