"""Several sides as panels of a few, which the kernels take at a time: each panel's rows are lines of the cache."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import numpy.typing as npt

from ranef.kernel.panels import NARROW, WIDEST

FloatArray = npt.NDArray[np.float64]


def aligned_zeros(shape: tuple[int, ...]) -> FloatArray:
    """Zeros that begin where a line of the cache does."""
    size = prod(shape)
    buffer = np.zeros(size + WIDEST)
    skip = -buffer.ctypes.data % (8 * WIDEST) // 8
    return buffer[skip : skip + size].reshape(shape)


def panels(x: FloatArray) -> FloatArray:
    """``x`` (columns, sides) as `ranef.kernel.eliminate.apply_rest` takes it: (sides, columns), padded to four."""
    columns, sides = x.shape
    out = aligned_zeros((-(-sides // NARROW) * NARROW, columns))
    for s, panel in _each(out):
        own = x[:, s : s + panel.shape[1]]
        panel[:, : own.shape[1]] = own
    return out


def add_panels(total: FloatArray, out: FloatArray) -> None:
    """Add what `panels` made of sides to these, shape (columns, sides)."""
    for s, panel in _each(total):
        own = out[:, s : s + panel.shape[1]]
        own += panel[:, : own.shape[1]]


def _each(whole: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    """Each panel's first side, and itself as (columns, sides of the panel)."""
    sides, columns = whole.shape
    for s in range(0, sides, WIDEST):
        width = min(WIDEST, sides - s)
        yield s, whole.reshape(-1)[s * columns : (s + width) * columns].reshape(columns, width)
