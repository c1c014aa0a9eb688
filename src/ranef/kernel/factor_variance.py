"""The variance of each row's products of vectors."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, fastmath=True)
def _quadratic(spread, u, x):
    """``x' V x`` of the unit ``u``."""
    k = x.shape[0]
    total = 0.0
    if spread.shape[1] == k:
        for i in range(k):
            total += spread[u, i] * x[i] * x[i]
        return total
    at = 0
    for i in range(k):
        row = np.float32(0.0)
        for j in range(i):
            row += spread[u, at + j] * x[j]
        total += x[i] * (2.0 * row + spread[u, at + i] * x[i])
        at += i + 1
    return total


@njit(nogil=True, cache=True, fastmath=True)
def _trace(spread, u, v, k):
    """``tr(V_u V_v)``."""
    size = spread.shape[1]
    total = np.float32(0.0)
    for j in range(size):
        total += spread[u, j] * spread[v, j]
    if size == k:
        return float(total)
    diagonal = 0.0
    for i in range(k):
        j = i * (i + 3) // 2
        diagonal += spread[u, j] * spread[v, j]
    return 2.0 * total - diagonal


@njit(nogil=True, cache=True, fastmath=True)
def row_variances(first, last, partners, vectors, spread, out):
    """Add to ``out`` the variance of the sum over all pairs of sides of the products of their units' vectors.

    Parameters
    ----------
    first, last : int
        Rows.
    partners : int32 array, shape (rows, sides)
        Where the unit of every side is in ``vectors``, in the order of the rows.
    vectors : float32 array, shape (units of all sides, k)
    spread : float32 array, shape (units of all sides, k or k (k + 1) / 2)
    out : float64 array, shape (rows,)

    Notes
    -----
    ``sum_s g_s' V_s g_s + sum_{s < t} tr(V_s V_t)``, with ``g_s`` the sum of the other sides' vectors.
    """
    k = vectors.shape[1]
    sides = partners.shape[1]
    g = np.empty(k, np.float32)
    for n in range(first, last):
        total = 0.0
        for s in range(sides):
            g[:] = 0.0
            for t in range(sides):
                if t != s:
                    v = partners[n, t]
                    for j in range(k):
                        g[j] += vectors[v, j]
            total += _quadratic(spread, partners[n, s], g)
            for t in range(s):
                total += _trace(spread, partners[n, s], partners[n, t], k)
        out[n] += total


@njit(nogil=True, cache=True)
def quadratic_forms(first, last, at, vectors, spread):
    """Sum of ``v' E v`` over the units ``first <= u < last``; ``spread``, shape (units, width), has ``E``."""
    k = vectors.shape[1]
    v = np.empty(k, np.float32)
    total = 0.0
    for u in range(first, last):
        for j in range(k):
            v[j] = vectors[at + u, j]
        total += _quadratic(spread, u, v)
    return total
