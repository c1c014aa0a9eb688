"""Contrast matrices against R 4.2.2 and their defining properties."""

from __future__ import annotations

import numpy as np
import pytest

from ranef.design.contrasts import CONTRASTS, Contrast, contrast_matrix, contrast_suffixes

# R 4.2.2: options(digits = 15); contr.poly(4); contr.poly(5), with its rounding errors of 1e-16 as 0
POLY_4 = [
    [-0.670820393249937, 0.5, -0.223606797749979],
    [-0.223606797749979, -0.5, 0.670820393249937],
    [0.223606797749979, -0.5, -0.670820393249937],
    [0.670820393249937, 0.5, 0.223606797749979],
]
POLY_5 = [
    [-0.632455532033676, 0.534522483824849, -0.316227766016838, 0.119522860933439],
    [-0.316227766016838, -0.267261241912424, 0.632455532033676, -0.478091443733758],
    [0.0, -0.534522483824849, 0.0, 0.717137165600636],
    [0.316227766016838, -0.267261241912424, -0.632455532033676, -0.478091443733757],
    [0.632455532033676, 0.534522483824849, 0.316227766016838, 0.119522860933439],
]


def test_poly_is_r_s() -> None:
    np.testing.assert_allclose(contrast_matrix("poly", 4), POLY_4, atol=1e-14)
    np.testing.assert_allclose(contrast_matrix("poly", 5), POLY_5, atol=1e-14)


def test_helmert_sum_and_treatment_are_r_s() -> None:
    np.testing.assert_array_equal(contrast_matrix("helmert", 4), [[-1, -1, -1], [1, -1, -1], [0, 2, -1], [0, 0, 3]])
    np.testing.assert_array_equal(contrast_matrix("sum", 3), [[1, 0], [0, 1], [-1, -1]])
    np.testing.assert_array_equal(contrast_matrix("treatment", 3, base=1), [[1, 0], [0, 0], [0, 1]])


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("levels", [2, 3, 7])
def test_with_a_constant_contrasts_span_all_levels(contrast: Contrast, levels: int) -> None:
    matrix = contrast_matrix(contrast, levels, 1 if contrast == "treatment" else 0)
    assert matrix.shape == (levels, levels - 1)
    assert np.linalg.matrix_rank(np.column_stack([np.ones(levels), matrix])) == levels
    if contrast != "treatment":
        np.testing.assert_allclose(matrix.sum(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("levels", [2, 10, 40, 95])
def test_poly_is_orthonormal(levels: int) -> None:
    matrix = contrast_matrix("poly", levels)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(levels - 1), atol=1e-12)
    np.testing.assert_allclose(matrix.sum(axis=0), 0, atol=1e-12)
    # beyond, the last value of the highest degrees is below rounding
    assert (matrix[-1, :30] > 0).all()


def test_suffixes_are_r_s() -> None:
    labels = ("p", "q", "r", "s", "t")
    assert contrast_suffixes("treatment", labels, 1) == ("p", "r", "s", "t")
    assert contrast_suffixes("sum", labels) == ("1", "2", "3", "4")
    assert contrast_suffixes("helmert", labels) == ("1", "2", "3", "4")
    assert contrast_suffixes("poly", labels) == (".L", ".Q", ".C", "^4")
