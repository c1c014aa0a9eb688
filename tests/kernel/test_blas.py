"""SciPy's BLAS and LAPACK from kernels, against NumPy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ranef.kernel import blas


@pytest.fixture(params=[np.float64, np.float32], ids=["double", "single"])
def number(request):
    return request.param


@pytest.fixture
def near(number):
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if number is np.float64 else {"rtol": 2e-4, "atol": 2e-4}
    return lambda got, expected: np.testing.assert_allclose(got, expected, **tolerance)


def normal(shape, number, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(number)


def positive(k, number):
    half = normal((3 * k, k), np.float64, 5)
    return (half.T @ half / (3 * k) + np.eye(k)).astype(number)


def test_rank_update_touches_the_lower_triangle_only(number, near):
    panel, out = normal((7, 4), number), normal((4, 4), number, 1)
    expected = np.tril(2.0 * panel.T @ panel + 0.5 * out) + np.triu(out, 1)
    blas.rank_update(2.0, panel, 0.5, out)
    near(out, expected)


def test_products(number, near):
    a, b = normal((3, 5), number), normal((5, 4), number, 1)
    for call, left, right in [
        (blas.multiply, a, b),
        (blas.multiply_transposed, a, np.ascontiguousarray(b.T)),
        (blas.transposed_multiply, np.ascontiguousarray(a.T), b),
    ]:
        out = normal((3, 4), number, 2)
        expected = 1.5 * a @ b - out
        call(1.5, left, right, -1.0, out)
        near(out, expected)


def test_products_with_vectors(number, near):
    a, x = normal((3, 5), number), normal(5, number, 1)
    for call, matrix in [(blas.multiply_vector, a), (blas.transposed_vector, np.ascontiguousarray(a.T))]:
        out = np.ones(3, number)
        call(2.0, matrix, x, 3.0, out)
        near(out, 2.0 * a @ x + 3.0)
    whole = positive(5, number)
    out = np.zeros(5, number)
    blas.symmetric_vector(1.0, np.tril(whole), x, 0.0, out)
    near(out, whole @ x)


def test_cholesky_solves_and_inverse(number, near):
    whole, b = positive(6, number), normal((2, 6), number)
    factor = np.tril(whole)
    if blas.cholesky(factor) != 0:
        pytest.fail("a positive definite matrix has a factor")
    lower = np.tril(factor)
    near(lower @ lower.T, whole)
    for call, expected in [
        (blas.cholesky_solve, np.linalg.solve(whole, b.T).T),
        (blas.solve_lower, np.linalg.solve(lower, b.T).T),
        (blas.solve_lower_transposed, np.linalg.solve(lower.T, b.T).T),
    ]:
        x = b.copy()
        call(factor, x)
        near(x, expected)
    # the leading part of the factor alone
    for call, part in [(blas.solve_lower, lower[:4, :4]), (blas.solve_lower_transposed, lower[:4, :4].T)]:
        x = b[:, :4].copy()
        call(factor, x)
        near(x, np.linalg.solve(part, b[:, :4].T).T)
    blas.cholesky_inverse(factor)
    near(np.tril(factor), np.tril(np.linalg.inv(whole)))


def test_cholesky_tells_where_it_fails():
    matrix = np.diag([1.0, -1.0, 1.0])
    assert blas.cholesky(matrix) == 2


def test_arrays_of_two_kinds_are_refused_when_compiled():
    with pytest.raises(Exception, match="all float32"):
        blas.rank_update(1.0, np.ones((2, 2)), 0.0, np.ones((2, 2), np.float32))


def test_cached_machine_code_finds_the_routines_in_a_new_process():
    script = (
        "import numpy as np; from ranef.kernel import blas; a = np.array([[4.0]]); blas.cholesky(a); "
        "print(a[0, 0], sum(blas.cholesky.stats.cache_hits.values()))"
    )
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True) for _ in range(2)]
    assert runs[1].stdout.split() == ["2.0", "1"], runs[1].stderr
