"""Columns between Arrow and NumPy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ranef.table.arrow import from_numpy, from_texts, to_numpy

NUMBERS = ["int8", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("rows", [0, 1, 11])
def test_numbers_there_and_back(dtype: str, rows: int) -> None:
    values = np.arange(2 * rows).astype(dtype)[::2]
    array = from_numpy(values)
    array.validate(full=True)
    assert array.type == pa.from_numpy_dtype(values.dtype)
    for part in (slice(None), slice(3, 7)):
        back = to_numpy(array[part])
        assert back.dtype == values.dtype
        np.testing.assert_array_equal(back, values[part])


@pytest.mark.parametrize("dtype", NUMBERS)
def test_nulls(dtype: str) -> None:
    values = np.arange(20).astype(dtype)
    array = from_numpy(values, values > 5)
    array.validate(full=True)
    assert array.to_pylist() == [None] * 6 + list(range(6, 20))
    np.testing.assert_array_equal(to_numpy(array, 99)[4:8], [99, 99, 6, 7])
    np.testing.assert_array_equal(to_numpy(array[7:9]), [7, 8])


def test_booleans() -> None:
    array = pa.array([True, False, None, True])
    np.testing.assert_array_equal(to_numpy(array, 0), [True, False, False, True])
    np.testing.assert_array_equal(to_numpy(array[3:]), [True])
    assert to_numpy(array.is_valid()).dtype == np.bool_


def test_shared_memory_is_read_only() -> None:
    assert not to_numpy(pa.array([1, 2])).flags.writeable


@pytest.mark.parametrize("texts", [[], [""], ["a", "", "né", "a:b"]])
def test_texts(texts: list[str]) -> None:
    array = from_texts(texts)
    array.validate(full=True)
    assert array.type == pa.large_string()
    assert array.to_pylist() == texts
