"""Traces of the score by the law of total variance: what is exact, and what each probe says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranef.solve.cross_products import CrossProducts
from ranef.solve.elimination import times

FloatArray = npt.NDArray[np.float64]

# what is made of them on the way takes little room beside the vectors themselves
LEVELS_AT_ONCE = 65_536


def grams(cross: CrossProducts) -> tuple[FloatArray, ...]:
    """Raw products of each level with itself, shape (levels, k, k), levels in each block's own order of codes."""
    out: dict[int, FloatArray] = {kept.block: kept.gram for kept in cross.kept}
    for stage in cross.stages:
        out[stage.block] = np.empty_like(stage.gram)
        out[stage.block][stage.old] = stage.gram
    return tuple(out[b] for b in range(len(cross.sizes)))


def traces(
    own: FloatArray, factor: FloatArray, product: FloatArray, x: FloatArray, probes: int
) -> tuple[FloatArray, FloatArray]:
    """``sum_g Z_g' P Z_g`` of one block as an exact part less what each probe says.

    By the law of total variance ``Z_g'PZ_g = F H - F E[rest rest'] F'`` with ``F = (I + H Sigma)^-1``, where ``rest``
    is what the other columns contribute to the level's equations.

    Parameters
    ----------
    own : float64 array, shape (levels, k, k)
        ``H`` of each level.
    factor : float64 array, shape (k, k)
        ``Lambda``.
    product, x : float64 arrays, shape (levels, k, sides)
        The block's part of all cross products times a vector, and of the vector itself: each probe, and then each
        direction that is known exactly.
    probes : int

    Returns
    -------
    exact : float64 array, shape (k, k)
    each : float64 array, shape (probes, k, k)
    """
    k, sides = len(factor), x.shape[2]
    exact, each = np.zeros((k, k)), np.zeros((sides, k, k))
    for start in range(0, len(own), LEVELS_AT_ONCE):
        some = slice(start, start + LEVELS_AT_ONCE)
        f = np.asarray(np.linalg.inv(np.eye(k) + own[some] @ (factor @ factor.T)), np.float64)
        pulled = times(f, product[some] - times(own[some], x[some]))
        exact += (f @ own[some]).sum(axis=0)
        each += np.einsum("gas,gbs->sab", pulled, pulled)
    return exact - each[probes:].sum(axis=0), each[:probes]
