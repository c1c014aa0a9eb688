"""Combinations of levels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ranef.table import MISSING, UNKNOWN, Factor, Levels, encode_combination, interaction


def factor(codes: list[int], *labels: str) -> Factor:
    return Factor(np.array(codes, np.int32), Levels(pa.array(labels)))


def test_two_factors() -> None:
    a = factor([1, 0, 1, 0, MISSING, UNKNOWN, 1], "p", "q")
    b = factor([0, 2, 0, 0, 1, 1, UNKNOWN], "x", "y", "z")
    found, combination = interaction([a, b])
    assert found.levels.labels == ("p:x", "p:z", "q:x")
    assert found.codes.tolist() == [2, 1, 2, 0, MISSING, UNKNOWN, UNKNOWN]
    assert combination.parts.tolist() == [[0, 0], [0, 2], [1, 0]]
    assert found.codes.dtype == combination.parts.dtype == np.int32
    new = [np.array([0, 0, 1, 1, MISSING, UNKNOWN], np.int32), np.array([2, 1, 0, 2, UNKNOWN, 0], np.int32)]
    assert encode_combination(new, combination).tolist() == [1, UNKNOWN, 2, UNKNOWN, MISSING, UNKNOWN]


def test_one_factor_and_none_seen() -> None:
    alone, combination = interaction([factor([2, 0, 2], "a", "b", "c")])
    assert alone.levels.labels == ("a", "c")
    assert encode_combination([np.array([0, 1, 2], np.int32)], combination).tolist() == [0, UNKNOWN, 1]
    nothing, combination = interaction([factor([MISSING], "a"), factor([0], "x")])
    assert len(nothing.levels) == len(combination) == 0
    assert nothing.codes.tolist() == [MISSING]
    assert encode_combination([np.array([0], np.int32)] * 2, combination).tolist() == [UNKNOWN]


def test_many_levels_do_not_overflow() -> None:
    size = 100_000
    codes = np.arange(size, dtype=np.int32)
    big = Factor(codes, Levels(pa.array(codes)))
    found, combination = interaction([big] * 5)
    np.testing.assert_array_equal(found.codes, codes)
    np.testing.assert_array_equal(encode_combination([codes[::-1]] * 5, combination), codes[::-1])


@given(st.lists(st.tuples(*[st.integers(-2, 4)] * 3), min_size=1), st.lists(st.tuples(*[st.integers(-2, 4)] * 3)))
def test_against_tuples(rows: list[tuple[int, ...]], new: list[tuple[int, ...]]) -> None:
    factors = [factor(list(codes), *"abcde") for codes in zip(*rows, strict=True)]
    found, combination = interaction(factors)
    levels = sorted({row for row in rows if min(row) >= 0})

    def code(row: tuple[int, ...]) -> int:
        if MISSING in row:
            return MISSING
        return levels.index(row) if row in levels else UNKNOWN

    assert [tuple(row) for row in combination.parts.tolist()] == levels
    assert found.codes.tolist() == [code(row) for row in rows]
    again = [np.array([row[i] for row in new], np.int32) for i in range(3)]
    assert encode_combination(again, combination).tolist() == [code(row) for row in new]
