"""Orthogonal polynomials of a column: learned on the fit's rows, evaluated on any rows."""

from __future__ import annotations

import numpy as np

from ranef.table.table import FloatArray


def polynomial_recurrence(x: FloatArray, degree: int) -> tuple[FloatArray, FloatArray]:
    """Coefficients of the monic polynomials that are orthogonal on the points ``x``.

    The polynomials obey ``p[k+1] = (x - alpha[k]) p[k] - norm2[k] / norm2[k-1] p[k-1]`` with ``p[0] = 1``
    (the Stieltjes procedure; Gautschi 2004, section 2.2). R's ``poly`` stores the same coefficients.

    Parameters
    ----------
    x : float64 array, shape (rows,)
        More distinct values than ``degree``; no missing ones.
    degree : int

    Returns
    -------
    alpha : float64 array, shape (degree,)
        Centres, in units of ``x``.
    norm2 : float64 array, shape (degree + 1,)
        Sums of squares of ``p[0]`` ... ``p[degree]`` over ``x``.
    """
    alpha, norm2 = np.empty(degree), np.empty(degree + 1)
    norm2[0] = len(x)
    before, now = np.zeros_like(x), np.ones_like(x)
    for k in range(degree):
        alpha[k] = x @ now**2 / norm2[k]
        before, now = now, _step(x, alpha, norm2, k, before, now)
        norm2[k + 1] = now @ now
    return alpha, norm2


def orthonormal_polynomials(x: FloatArray, alpha: FloatArray, norm2: FloatArray) -> FloatArray:
    """Columns of R's ``poly(x, degree)``: shape (rows, degree); NaN stays NaN.

    Parameters
    ----------
    x : float64 array, shape (rows,)
        Any values, not only those of the fit.
    alpha, norm2 : float64 arrays
        From :func:`polynomial_recurrence`.
    """
    degree = len(alpha)
    columns = np.empty((len(x), degree))
    before, now = np.zeros_like(x), np.ones_like(x)
    for k in range(degree):
        before, now = now, _step(x, alpha, norm2, k, before, now)
        columns[:, k] = now / np.sqrt(norm2[k + 1])
    return columns


def _step(
    x: FloatArray, alpha: FloatArray, norm2: FloatArray, k: int, before: FloatArray, now: FloatArray
) -> FloatArray:
    ratio = norm2[k] / norm2[k - 1] if k else 0.0
    following: FloatArray = (x - alpha[k]) * now - ratio * before
    return following
