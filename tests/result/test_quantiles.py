"""Quantiles from pieces against NumPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranef.result.quantiles import quantiles

SHARES = (0, 0.1, 0.25, 0.5, 0.75, 0.99, 1)


def cut(values, size):
    return lambda: [values[start : start + size] for start in range(0, len(values), size)]


@given(
    st.lists(st.floats(-1e300, 1e300) | st.sampled_from([0.0, -0.0, 1.0]), min_size=1, max_size=60),
    st.integers(1, 7),
)
def test_any_numbers(values, size):
    array = np.array(values)
    found = quantiles(cut(array, size), SHARES)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(found, np.quantile(array, SHARES), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential", "standard_cauchy"])
def test_many_numbers(draw):
    array = getattr(np.random.default_rng(1), draw)(100_001)
    np.testing.assert_allclose(quantiles(cut(array, 7_919), SHARES), np.quantile(array, SHARES), rtol=1e-14)


def test_ties_and_nothing():
    assert quantiles(cut(np.repeat([2.0, -1.0], [3, 5]), 2), (0, 0.5, 1)).tolist() == [-1, -1, 2]
    assert np.isnan(quantiles(cut(np.empty(0), 2), (0.5,))).all()


def test_infinite_ones_are_at_the_ends():
    values = np.array([1.0, np.inf, 2.0, -np.inf, np.inf])
    assert quantiles(cut(values, 2), (0, 0.1, 0.25, 0.5, 0.75, 1)).tolist() == [-np.inf] * 2 + [1, 2, np.inf, np.inf]
