"""Vector code on panels of sides against scalar arithmetic, on every number of sides and wherever memory begins."""

from __future__ import annotations

import numpy as np
import pytest

from ranef.kernel.panels import gather, scatter
from ranef.kernel.probes import add_signs, sign_words
from ranef.solve.panels import add_panels, aligned_zeros, panels

ROWS, ENTRIES, SIDES = 40, 13, (1, 2, 4, 5, 7, 8, 11, 12, 15, 16, 21)


@pytest.fixture(scope="module")
def row():
    rng = np.random.default_rng(0)
    # a part of longer arrays, with a column twice
    columns = rng.integers(0, ROWS, 3 + ENTRIES).astype(np.int32)
    columns[5] = columns[4]
    return columns, rng.normal(size=2 + ENTRIES)


@pytest.mark.parametrize("sides", SIDES)
def test_gather_and_scatter(row, sides):
    columns, values = row
    own, mine = columns[3:], values[2:]
    rng = np.random.default_rng(sides)
    # shifted by one number: no panel begins where a line of the cache does
    x = rng.normal(size=ROWS * sides + 1)[1:].reshape(ROWS, sides)
    before = rng.normal(size=sides)
    out = before.copy()
    gather(-1.0, 2, 3, ENTRIES, values, columns, x, out)
    np.testing.assert_allclose(out, before - mine @ x[own], rtol=1e-13, atol=1e-13)
    alone = before.copy()
    for s in range(sides):
        gather(-1.0, 2, 3, ENTRIES, values, columns, x[:, s : s + 1].copy(), alone[s : s + 1])
    # the same bits whatever stands beside a side
    np.testing.assert_array_equal(out, alone)
    to = x.copy()
    scatter(-1.0, 2, 3, ENTRIES, values, columns, before, to)
    expected = x.copy()
    np.subtract.at(expected, own, mine[:, None] * before)
    np.testing.assert_allclose(to, expected, rtol=1e-13, atol=1e-13)
    gather(1.0, 2, 3, 0, values, columns, x, out)
    np.testing.assert_array_equal(out, alone)


@pytest.mark.parametrize("sides", SIDES)
def test_panels(sides):
    x = np.random.default_rng(1).normal(size=(ROWS, sides))
    packed = panels(x)
    assert packed.ctypes.data % 64 == 0
    assert packed.shape == (-(-sides // 4) * 4, ROWS)
    back = x.copy()
    add_panels(packed, back)
    np.testing.assert_array_equal(back, 2 * x)
    assert not aligned_zeros((3, 5)).any()


@pytest.mark.parametrize("probes", [1, 8, 13, 32, 43, 64])
def test_signs(probes):
    rng = np.random.default_rng(2)
    words = np.empty((ROWS, -(-probes // 32)), np.int32)
    sign_words(np.arange(ROWS), np.uint64(7), words)
    levels, z = rng.integers(0, 3, ROWS).astype(np.int32), rng.normal(size=(ROWS, 2))
    out = np.zeros((3, 2, probes))
    add_signs(levels, words, z, out)
    bits = words.view(np.uint32)[:, np.arange(probes) // 32] >> (np.arange(probes) % 32).astype(np.uint32) & 1
    expected = np.zeros_like(out)
    np.add.at(expected, levels, z[:, :, None] * (2.0 * bits[:, None] - 1.0))
    np.testing.assert_array_equal(out, expected)
