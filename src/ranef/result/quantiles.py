"""Exact quantiles of numbers that come in pieces, in the memory of a few of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# bits that say which bin a number is in: sign, exponent and the eight highest of the fraction
BITS = 20


def quantiles(pieces: Callable[[], Iterable[FloatArray]], shares: Sequence[float]) -> FloatArray:
    """Quantiles as `numpy.quantile` computes them, from two passes; infinite numbers are larger than all others.

    Parameters
    ----------
    pieces : callable
        Gives the numbers, in arrays of any lengths; called twice. None may be NaN.
    shares : sequence of float
        Between 0 and 1.

    Returns
    -------
    float64 array, shape (shares,)
        NaN if there are no numbers.
    """
    counts = np.zeros(1 << BITS, np.int64)
    for piece in pieces():
        counts += np.bincount(_bins(piece), minlength=len(counts))
    last = int(counts.sum()) - 1
    if last < 0:
        return np.full(len(shares), np.nan)
    at = last * np.asarray(shares, np.float64)
    low = np.floor(at).astype(np.int64)
    wanted = np.unique(np.concatenate([low, np.minimum(low + 1, last)]))
    end = np.cumsum(counts)
    bins = np.searchsorted(end, wanted, side="right")
    of_bin = np.zeros(1 << BITS, np.bool_)
    of_bin[bins] = True
    # the numbers of these bins, in ascending order: bins ascend with the numbers
    near = np.sort(np.concatenate([piece[of_bin[_bins(piece)]] for piece in pieces()]))
    held = np.unique(bins)
    before = np.concatenate([[0], np.cumsum(counts[held])])[np.searchsorted(held, bins)]
    found = near[before + wanted - (end - counts)[bins]]
    left = found[np.searchsorted(wanted, low)]
    right = found[np.searchsorted(wanted, np.minimum(low + 1, last))]
    part = at - low
    # infinity does not interpolate
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where((part == 0) | np.isinf(left), left, left + (right - left) * part))


def _bins(values: FloatArray) -> IntArray:
    """Which bin each number is in; bins ascend with the numbers."""
    bits = np.ascontiguousarray(values).view(np.uint64)
    # a negative number's bits descend, and its sign bit must be the lower one
    keys = np.where(bits >> 63, ~bits, bits | np.uint64(1 << 63))
    return (keys >> np.uint64(64 - BITS)).astype(np.int64)
