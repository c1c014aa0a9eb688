"""B-splines and natural cubic splines with the values of R's ``bs`` and ``ns``.

Method: de Boor, A Practical Guide to Splines (2001), chapters IX and X; the natural spline is the B-spline basis
restricted to the null space of the two conditions "second derivative zero at a boundary knot".
"""

from __future__ import annotations

import numpy as np

from ranef.table.table import FloatArray

CUBIC = 3


def quantile_knots(x: FloatArray, count: int) -> FloatArray:
    """``count`` interior knots at equally spaced quantiles (R's type 7) of ``x``, which has no missing values."""
    return np.asarray(np.quantile(x, np.linspace(0.0, 1.0, count + 2)[1:-1]), dtype=np.float64)


def knot_sequence(interior: FloatArray, low: float, high: float, degree: int) -> FloatArray:
    """The full sorted knot vector: each boundary knot ``degree + 1`` times around the interior ones."""
    ends = degree + 1
    return np.concatenate([np.full(ends, low), np.sort(interior), np.full(ends, high)])


def bspline_basis(x: FloatArray, knots: FloatArray, degree: int, derivative: int = 0) -> FloatArray:
    """All B-splines of a knot vector, or their derivatives, at ``x``.

    Parameters
    ----------
    x : float64 array, shape (rows,)
        Outside the boundary the outermost polynomial pieces go on, as in R; NaN gives NaN.
    knots : float64 array, shape (k,)
        As from :func:`knot_sequence`.
    degree : int
    derivative : int
        0 for the values.

    Returns
    -------
    float64 array, shape (rows, k - degree - 1)
    """
    from scipy.interpolate import BSpline  # a slow import that few models need

    splines = BSpline(knots, np.eye(len(knots) - degree - 1), degree, extrapolate=True)
    return np.asarray(splines(x, nu=derivative), dtype=np.float64)


def natural_projection(knots: FloatArray, first: int) -> FloatArray:
    """Combinations of cubic B-splines whose second derivative vanishes at both boundary knots.

    Parameters
    ----------
    knots : float64 array, shape (k,)
    first : int
        1 leaves out the first B-spline (no intercept in the span), 0 keeps it.

    Returns
    -------
    float64 array, shape (k - 4 - first, k - 6 - first)
        Orthonormal; the trailing columns of the full Householder Q, which makes the basis R's.
    """
    conditions = bspline_basis(knots[[0, -1]], knots, CUBIC, derivative=2)[:, first:]
    q, _ = np.linalg.qr(conditions.T, mode="complete")
    return np.asarray(q[:, 2:], dtype=np.float64)


def natural_basis(x: FloatArray, knots: FloatArray, projection: FloatArray) -> FloatArray:
    """Columns of R's ``ns`` at ``x``, straight lines outside the boundary knots; NaN gives NaN.

    Parameters
    ----------
    x : float64 array, shape (rows,)
    knots : float64 array, shape (k,)
    projection : float64 array, shape (splines used, columns)
        From :func:`natural_projection`; it tells how many of the first B-splines are left out.

    Returns
    -------
    float64 array, shape (rows, columns)
    """
    inside = np.clip(x, knots[0], knots[-1])
    basis = bspline_basis(inside, knots, CUBIC)
    outside = np.flatnonzero(x != inside)
    outside = outside[~np.isnan(x[outside])]
    if len(outside):
        slope = bspline_basis(inside[outside], knots, CUBIC, derivative=1)
        basis[outside] += (x - inside)[outside, None] * slope
    return np.asarray(basis[:, basis.shape[1] - len(projection) :] @ projection, dtype=np.float64)
