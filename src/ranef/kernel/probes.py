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
def sign_words(rows, seed, out):
    """The bits of the rows of these numbers in words of 32, shape (rows, words): bit ``s`` is probe ``s``'s sign."""
    for n in range(rows.shape[0]):
        bits = signs(rows[n], seed)
        for w in range(out.shape[1]):
            out[n, w] = np.int32(np.uint32((bits >> np.uint64(32 * w)) & np.uint64(0xFFFFFFFF)))


@njit(nogil=True, cache=True)
def add_signs(levels, words, z, out):
    """Add ``z_n e_n'`` of every row to its level's ``out[level]``, shape (k, probes).

    Parameters
    ----------
    levels : int32 array, shape (rows,)
    words : int32 array, shape (rows, words)
        From `sign_words`.
    z : float64 array, shape (rows, k)
    out : float64 array, shape (levels, k, probes)
    """
    k = z.shape[1]
    probes = out.shape[2]
    for n in range(levels.shape[0]):
        sums = out[levels[n]]
        for a in range(k):
            value = z[n, a]
            for s in range(probes):
                # branch-free sign from one bit
                bit = (np.uint32(words[n, s >> 5]) >> np.uint32(s & 31)) & np.uint32(1)
                sums[a, s] += value * (2.0 * np.float64(bit) - 1.0)
