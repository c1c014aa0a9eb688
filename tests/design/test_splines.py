"""Polynomials and splines by what defines them; R's values are in test_matrix.py."""

from __future__ import annotations

import numpy as np
import pytest
from tabulate import matrix_of

from ranef.design.polynomials import orthonormal_polynomials, polynomial_recurrence
from ranef.design.splines import (
    CUBIC,
    bspline_basis,
    knot_sequence,
    natural_basis,
    natural_projection,
    quantile_knots,
)

X = np.random.default_rng(3).gamma(2.0, size=200)
# R 4.2.2: options(digits = 15); poly(1:10, 3)[1:3, ]
POLY_1_TO_10 = [
    [-0.495433694306862, 0.522232967867094, -0.453425192941907],
    [-0.385337317794226, 0.174077655955698, 0.151141730980635],
    [-0.275240941281590, -0.087038827977849, 0.377854327451589],
]


def test_poly_of_one_to_ten_is_r_s() -> None:
    x = np.arange(1.0, 11.0)
    np.testing.assert_allclose(orthonormal_polynomials(x, *polynomial_recurrence(x, 3))[:3], POLY_1_TO_10, atol=1e-14)


@pytest.mark.parametrize("shift", [0.0, 2000.0])
def test_polynomials_are_orthonormal_and_orthogonal_to_one(shift: float) -> None:
    x = X + shift
    columns = np.column_stack(
        [np.full(len(x), len(x) ** -0.5), orthonormal_polynomials(x, *polynomial_recurrence(x, 6))]
    )
    np.testing.assert_allclose(columns.T @ columns, np.eye(7), atol=1e-9)


def test_bsplines_sum_to_one_and_are_not_negative() -> None:
    knots = knot_sequence(quantile_knots(X, 4), X.min(), X.max(), CUBIC)
    basis = bspline_basis(X, knots, CUBIC)
    np.testing.assert_allclose(basis.sum(axis=1), 1.0)
    assert basis.min() > -1e-15


def test_bs_spans_the_cubics() -> None:
    basis = matrix_of("~ bs(x, df = 6)", {"x": X})
    for power in range(4):
        fitted = basis @ np.linalg.lstsq(basis, X**power, rcond=None)[0]
        np.testing.assert_allclose(fitted, X**power, rtol=1e-8, atol=1e-8)


def test_natural_splines_are_straight_outside_and_smooth_at_the_boundary() -> None:
    knots = knot_sequence(quantile_knots(X, 3), X.min(), X.max(), CUBIC)
    projection = natural_projection(knots, first=1)
    np.testing.assert_allclose(projection.T @ projection, np.eye(4), atol=1e-12)
    for edge, away in ((knots[0], -1.0), (knots[-1], 1.0)):
        outside = natural_basis(edge + away * np.arange(5.0), knots, projection)
        np.testing.assert_allclose(np.diff(outside, 2, axis=0), 0, atol=1e-9)
        step = 1e-5
        around = natural_basis(edge + step * np.array([-1.0, 0.0, 1.0]), knots, projection)
        np.testing.assert_allclose(np.diff(around, 2, axis=0), 0, atol=1e-8)


def test_natural_splines_span_the_straight_lines() -> None:
    basis = matrix_of("~ ns(x, df = 4)", {"x": X})
    np.testing.assert_allclose(basis @ np.linalg.lstsq(basis, X, rcond=None)[0], X, rtol=1e-9)
