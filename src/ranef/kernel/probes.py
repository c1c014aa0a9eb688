"""Random signs of the rows, summed by level. A row's signs depend on its number and the seed alone."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def signs(row, seed):
    """64 random bits of a row (SplitMix64; Steele, Lea and Flood 2014)."""
    h = np.uint64(row) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@njit(nogil=True, cache=True)
def sum_signs(first, last, origin, pointers, rows, z, seed, out):
    """``out[g] = sum over the level's rows of z_n e_n'``, shape (levels, k, probes), for ``first <= g < last``.

    ``rows`` and ``z`` hold the rows from ``origin`` on, sorted by level; ``rows`` are their numbers.
    """
    k = z.shape[1]
    probes = out.shape[2]
    for g in range(first, last):
        for a in range(k):
            for s in range(probes):
                out[g, a, s] = 0.0
        for n in range(pointers[g] - origin, pointers[g + 1] - origin):
            bits = signs(rows[n], seed)
            for a in range(k):
                value = z[n, a]
                for s in range(probes):
                    # branch-free sign from one bit
                    out[g, a, s] += value * (2.0 * np.float64((bits >> np.uint64(s)) & np.uint64(1)) - 1.0)
