"""Which columns of a matrix depend on those before them, and the triangle that makes the others orthonormal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from ranef.design.pieces import FloatColumns

FloatArray = npt.NDArray[np.float64]

# R's lm and lme4: a column is aliased if less than this share of its length is left after projection
ALIASED = 1e-7
ROWS_A_CHUNK = 65_536


def triangle(
    parts: Sequence[FloatColumns], root_weights: FloatColumns | None = None, rows: range | None = None
) -> FloatArray:
    """``R`` of the QR factorisation, chunk by chunk (TSQR); columns may be dependent.

    Parameters
    ----------
    parts : sequence of columns, shape (rows, some columns)
        Side by side they are the matrix.
    root_weights : columns, shape (rows, 1), optional
        Multiplies the rows.
    rows : range, optional
        Of these rows only.

    Returns
    -------
    float64 array, shape (columns, columns)
    """
    columns = sum(part.shape[1] for part in parts)
    rows = range(len(parts[0])) if rows is None else rows
    r = np.zeros((0, columns))
    for start in range(rows.start, rows.stop, ROWS_A_CHUNK):
        piece = slice(start, min(start + ROWS_A_CHUNK, rows.stop))
        chunk = np.concatenate([part[piece] for part in parts], axis=1)
        if root_weights is not None:
            chunk *= root_weights[piece]
        r = upper(np.concatenate([r, chunk]))
    return np.concatenate([r, np.zeros((columns - len(r), columns))])


def upper(matrix: FloatArray) -> FloatArray:
    """``R`` of the QR factorisation, with a diagonal that is not negative."""
    r: FloatArray = np.asarray(np.linalg.qr(matrix, mode="r"))
    return r * np.where(np.diag(r) < 0, -1.0, 1.0)[:, None]


def independent(r: FloatArray) -> list[int]:
    """Columns of a triangle (or any matrix) that do not depend on those kept before them; R's rule and tolerance."""
    kept: list[int] = []
    basis = np.zeros((len(r), 0))
    for j in range(r.shape[1]):
        column = r[:, j]
        length = float(np.linalg.norm(column))
        if length == 0:
            continue
        left = column / length
        for _ in range(2):
            left = left - basis @ (basis.T @ left)
        remaining = float(np.linalg.norm(left))
        if remaining >= ALIASED:
            kept.append(j)
            basis = np.concatenate([basis, (left / remaining)[:, None]], axis=1)
    return kept


def orthonormalise(matrix: FloatArray, r: FloatArray) -> FloatArray:
    """``matrix @ inv(r)``, shape (rows, columns)."""
    return np.ascontiguousarray(solve_triangular(r, matrix.T, trans=1, check_finite=False).T)
