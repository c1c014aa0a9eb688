"""Columns between Arrow and NumPy by the memory they share.

Arrow's own conversions (``to_numpy``, ``pyarrow.array``, ``pyarrow.scalar``) import pandas wherever it is installed,
which takes longer than a small fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def to_numpy(values: pa.Array, null: float | None = None) -> npt.NDArray[Any]:
    """Booleans or numbers as an array of the same type, read-only where it shares memory.

    Parameters
    ----------
    values : pyarrow.Array, shape (rows,)
        Of booleans, integers or floating-point numbers.
    null : float, optional
        What takes the place of nulls; needed if there are any.
    """
    if pa.types.is_boolean(values.type):
        return to_numpy(values.cast(pa.uint8()), null).astype(np.bool_)
    if values.null_count:
        values = values.fill_null(from_numpy(np.array([null])).cast(values.type)[0])
    found: npt.NDArray[Any] = np.from_dlpack(values)
    return found


def from_numpy(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Integers or floating-point numbers as an Arrow array of the same type.

    Parameters
    ----------
    values : array, shape (rows,)
    valid : bool array, shape (rows,), optional
        False for null; default: no nulls.
    """
    mask = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [mask, data])


def from_texts(texts: Sequence[str]) -> pa.Array:
    """Texts as an Arrow array of type large_string."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return pa.Array.from_buffers(
        pa.large_string(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    )
