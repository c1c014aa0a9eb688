"""Bringing the rows of each partition of a factor's levels together, in their order."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def count_codes(codes, counts):
    """Add the number of rows of each code to ``counts``, shape (levels,)."""
    for n in range(codes.shape[0]):
        counts[codes[n]] += 1


@njit(nogil=True, cache=True)
def count_partitions(codes, partition, counts):
    """Add the number of rows of each partition to ``counts``; ``partition`` has that of each level."""
    for n in range(codes.shape[0]):
        counts[partition[codes[n]]] += 1


@njit(nogil=True, cache=True)
def find_parents(codes, outer, parent):
    """The one level of ``outer`` that each level of ``codes`` lies in; False if a level lies in two.

    ``parent``, shape (levels,), is -1 where no row has told yet; it is carried from piece to piece of the rows.
    """
    for n in range(codes.shape[0]):
        g = codes[n]
        if parent[g] < 0:
            parent[g] = outer[n]
        elif parent[g] != outer[n]:
            return False
    return True


@njit(nogil=True, cache=True)
def choose(codes, start, partition, first, last, place, chosen, to):
    """Which rows have levels ``first <= g < last``, and where they go.

    Parameters
    ----------
    codes : int32 array, shape (rows,)
        Of the rows from number ``start`` on.
    partition : int32 array, shape (levels,)
        Each level's partition.
    place : int64 array, shape (partitions,)
        Where the next row of each partition goes; moved on.
    chosen, to : int64 arrays, shape (rows,)
        Overwritten: numbers of the rows, and their places.

    Returns
    -------
    int
        How many.
    """
    count = 0
    for n in range(codes.shape[0]):
        # no branch: which way it goes cannot be foretold
        chosen[count] = start + n
        count += (codes[n] >= first) & (codes[n] < last)
    for i in range(count):
        p = partition[codes[chosen[i] - start]]
        to[i] = place[p]
        place[p] += 1
    return count


@njit(nogil=True, cache=True)
def put(source, to, out, column):
    """Copy the rows of ``source`` (rows, width) to the places ``to`` of ``out``, from ``column`` on."""
    for n in range(source.shape[0]):
        for j in range(source.shape[1]):
            out[to[n], column + j] = source[n, j]


@njit(nogil=True, cache=True)
def counting_order(codes, levels):
    """Order of the rows by code, and where each level's rows begin: int32 (rows,) and int64 (levels + 1,) arrays."""
    pointers = np.zeros(levels + 1, np.int64)
    for n in range(codes.shape[0]):
        pointers[codes[n] + 1] += 1
    for g in range(levels):
        pointers[g + 1] += pointers[g]
    place = pointers[:-1].copy()
    order = np.empty(codes.shape[0], np.int32)
    for n in range(codes.shape[0]):
        order[place[codes[n]]] = n
        place[codes[n]] += 1
    return order, pointers
