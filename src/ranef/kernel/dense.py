"""The dense system of the factors that are not eliminated: to and from spherical coordinates.

``Lambda`` of all of them together is block-diagonal with small blocks. Scalar column ``i`` has its block's first
column in ``start[i]``, the block's width in ``width[i]`` and ``i - start[i]`` as its place in it; ``factor[i]`` holds
row ``i`` of the block. Fixed effects are blocks of width one with factor one.
"""

from __future__ import annotations

from numba import njit


@njit(nogil=True, cache=True)
def to_spherical(lowest, highest, random, start, width, factor, raw, out):
    """Rows ``lowest <= i < highest`` of ``Lambda' A Lambda``, plus one on the diagonal of the first ``random``.

    Only the lower triangles of ``raw`` and ``out`` are read and written; ``out`` may lack the last column.
    """
    for i in range(lowest, highest):
        si, wi, pi = start[i], width[i], i - start[i]
        for j in range(min(i + 1, out.shape[1])):
            if wi == 1 and width[j] == 1:
                out[i, j] = factor[i, 0] * raw[i, j] * factor[j, 0]
                continue
            sj, wj, pj = start[j], width[j], j - start[j]
            s = 0.0
            for a in range(wi):
                t = 0.0
                for b in range(wj):
                    if sj + b <= si + a:
                        t += raw[si + a, sj + b] * factor[sj + b, pj]
                    else:
                        t += raw[sj + b, si + a] * factor[sj + b, pj]
                s += factor[si + a, pi] * t
            out[i, j] = s
        if i < random:
            out[i, i] += 1.0


@njit(nogil=True, cache=True)
def to_raw(lowest, highest, start, width, factor, spherical, out):
    """Rows ``lowest <= i < highest`` of ``Lambda S Lambda'``, both triangles, from the lower triangle of ``S``."""
    for i in range(lowest, highest):
        si, wi = start[i], width[i]
        for j in range(i + 1):
            if wi == 1 and width[j] == 1:
                s = factor[i, 0] * spherical[i, j] * factor[j, 0]
            else:
                sj, wj = start[j], width[j]
                s = 0.0
                for a in range(wi):
                    t = 0.0
                    for b in range(wj):
                        if sj + b <= si + a:
                            t += spherical[si + a, sj + b] * factor[j, b]
                        else:
                            t += spherical[sj + b, si + a] * factor[j, b]
                    s += factor[i, a] * t
            out[i, j] = s
            out[j, i] = s
