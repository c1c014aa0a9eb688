"""Held-out rows, and what plain averages make of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
CodeArray = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


def hold_out(rows: int, share: float, seed: int) -> Mask:
    """A random ``share`` of the rows, at least one, as a mask of shape (rows,)."""
    held = np.zeros(rows, dtype=np.bool_)
    held[np.random.default_rng(seed).permutation(rows)[: max(1, round(share * rows))]] = True
    return held


def averages(y: FloatArray, codes: Sequence[CodeArray], held: Mask) -> FloatArray:
    """Biases without shrinkage: the mean, then for each factor in turn the average of what the others left.

    Parameters
    ----------
    y : float64 array, shape (rows,)
        The response; only rows outside ``held`` are looked at.
    codes : sequence of int32 array, shape (rows,)
        One a factor. A level without such rows counts as an average one.
    held : bool array, shape (rows,)

    Returns
    -------
    float64 array, shape (rows held,)
        In the order of the rows.
    """
    mean = y[~held].mean()
    rest = y[~held] - mean
    predicted = np.full(int(held.sum()), mean)
    for code in codes:
        levels = int(code.max()) + 1
        counts = np.bincount(code[~held], minlength=levels)
        deviation = np.bincount(code[~held], weights=rest, minlength=levels) / np.maximum(counts, 1)
        rest = rest - deviation[code[~held]]
        predicted += deviation[code[held]]
    return predicted
