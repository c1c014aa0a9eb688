"""Directions in which the covariances of a layout can move, orthogonal to each other: derivatives by covariances.

``theta`` has none at a zero variance, where everything is even in it; a covariance has.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranef.prior import Layout

FloatArray = npt.NDArray[np.float64]


def directions(layout: Layout) -> tuple[FloatArray, ...]:
    """For each block the symmetric matrices that its covariance is a sum of, shape (directions, k, k)."""
    out = []
    for terms, k in zip(layout.blocks, layout.sizes, strict=True):
        found = []
        first = 0
        for structure in terms:
            size = structure.size
            own = [(i, j) for i in range(size) for j in range(i, size) if structure.kind == "full" or i == j]
            parts = np.zeros((len(own), k, k))
            for part, (i, j) in zip(parts, own, strict=True):
                part[first + i, first + j] = part[first + j, first + i] = 1.0
            found.append(parts.sum(axis=0, keepdims=True) if structure.kind == "identity" else parts)
            first += size
        out.append(np.concatenate(found))
    return tuple(out)


def components(of_block: FloatArray, change: FloatArray) -> FloatArray:
    """A symmetric matrix in one block's directions, shape (directions,)."""
    return np.asarray(np.einsum("dij,ij->d", of_block, change) / _squares(of_block))


def along(of_block: FloatArray, derivatives: FloatArray) -> FloatArray:
    """The derivative by the covariance from those along the directions: shape (..., directions) to (..., k, k)."""
    return np.asarray(np.tensordot(derivatives / _squares(of_block), of_block, 1))


def _squares(of_block: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("dij,dij->d", of_block, of_block))
