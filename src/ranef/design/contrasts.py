"""Contrasts: how the levels of a factor become columns, with R's values and R's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from ranef.table.table import FloatArray

Contrast: TypeAlias = Literal["treatment", "sum", "helmert", "poly"]
CONTRASTS: tuple[Contrast, ...] = ("treatment", "sum", "helmert", "poly")

# Equally spaced orthogonal polynomials lose their meaning in float64 beyond this many points; R's limit.
MOST_POLY_LEVELS = 95


def contrast_matrix(contrast: Contrast, levels: int, base: int = 0) -> FloatArray:
    """Columns of a factor's main effect beside an intercept.

    Parameters
    ----------
    contrast : {"treatment", "sum", "helmert", "poly"}
    levels : int
        Number of levels, at least 2; at most 95 for ``"poly"``.
    base : int
        Reference level of ``"treatment"``, counted from 0.

    Returns
    -------
    float64 array, shape (levels, levels - 1)
        Values of R's ``contr.treatment``, ``contr.sum``, ``contr.helmert``, ``contr.poly``.
    """
    if contrast == "treatment":
        return np.delete(np.eye(levels), base, axis=1)
    if contrast == "sum":
        return np.vstack([np.eye(levels - 1), -np.ones(levels - 1)])
    if contrast == "helmert":
        level, column = np.ogrid[:levels, 1:levels]
        return np.where(level < column, -1.0, np.where(level == column, column, 0.0))
    return _orthogonal_polynomials(levels)


def contrast_suffixes(contrast: Contrast, labels: Sequence[str], base: int = 0) -> tuple[str, ...]:
    """What R appends to the factor's name for each column of :func:`contrast_matrix`.

    Where R numbers the columns of a treatment contrast with another base, they have their levels' names here too.
    """
    if contrast == "treatment":
        return tuple(label for level, label in enumerate(labels) if level != base)
    if contrast == "poly":
        letters = {1: ".L", 2: ".Q", 3: ".C"}
        return tuple(letters.get(degree, f"^{degree}") for degree in range(1, len(labels)))
    return tuple(str(column) for column in range(1, len(labels)))


def _orthogonal_polynomials(levels: int) -> FloatArray:
    """Orthonormal polynomials of degree 1 ... levels - 1 on equally spaced points, leading coefficients positive."""
    points = np.linspace(-1.0, 1.0, levels)
    # Chebyshev polynomials span the same spaces as the powers and are far better conditioned
    q, r = np.linalg.qr(np.polynomial.chebyshev.chebvander(points, levels - 1))
    orthonormal: FloatArray = q * np.sign(np.diag(r))
    return orthonormal[:, 1:]
