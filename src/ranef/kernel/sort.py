"""Counting sort of rows by the level of a factor: O(rows + levels), stable."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def counting_order(codes, levels):
    """Order of the rows by code, and where each level's rows begin.

    Returns
    -------
    order : int64 array, shape (rows,)
    pointers : int64 array, shape (levels + 1,)
    """
    pointers = np.zeros(levels + 1, np.int64)
    for n in range(codes.shape[0]):
        pointers[codes[n] + 1] += 1
    for g in range(levels):
        pointers[g + 1] += pointers[g]
    place = pointers[:-1].copy()
    order = np.empty(codes.shape[0], np.int64)
    for n in range(codes.shape[0]):
        order[place[codes[n]]] = n
        place[codes[n]] += 1
    return order, pointers


@njit(nogil=True, cache=True)
def parents_of(codes, outer, levels):
    """For each level of ``codes`` the one level of ``outer`` it lies in; an empty array if it is not nested in it."""
    parent = np.full(levels, -1, np.int32)
    for n in range(codes.shape[0]):
        g = codes[n]
        if parent[g] < 0:
            parent[g] = outer[n]
        elif parent[g] != outer[n]:
            return np.empty(0, np.int32)
    return parent
