"""Coordinates in which the numerics are well conditioned, and the way back.

The fixed part is made orthonormal, the response becomes its least-squares residual over its own root mean square,
and the covariates of a random term are whitened (full covariance), scaled one by one (diagonal) or together
(identity), so that covariates in millions, or years around 2000, cost no digits and no iterations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from ranef.design.build import Design
from ranef.design.rank import independent, orthonormalise, triangle, upper
from ranef.design.spec import GroupSpec
from ranef.errors import FitError
from ranef.prior import Layout, Structure
from ranef.solve.cross_products import Block, Rows

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scaling:
    """From internal to raw coordinates.

    Attributes
    ----------
    columns : tuple of int
        Fixed-effect columns that are kept.
    x_back : float64 array, shape (p, p)
        ``beta_raw = least_squares + y_scale * x_back @ beta``.
    least_squares : float64 array, shape (p,)
    y_scale : float
        Response units.
    z_back : tuple of float64 arrays (k, k)
        ``b_raw = y_scale * z_back @ b`` for each group.
    log_scale_ml, log_scale_reml : float
        What the internal deviance lacks.
    """

    columns: tuple[int, ...]
    x_back: FloatArray
    least_squares: FloatArray
    y_scale: float
    z_back: tuple[FloatArray, ...]
    log_scale_ml: float
    log_scale_reml: float


def scale(design: Design) -> tuple[Rows, Layout, Scaling]:
    """The design's rows in internal coordinates.

    Raises
    ------
    FitError
        If the fixed effects alone reproduce the response.
    """
    n = len(design.y)
    root = None if design.weights is None else np.sqrt(design.weights)
    y = design.y if design.offset is None else design.y - design.offset
    r = triangle([design.x, y[:, None]], root)
    kept = independent(r[:, :-1])
    if len(kept) >= n:
        raise FitError(f"the fixed part has {len(kept):,} columns but there are only {n:,} rows; use fewer terms")
    rk = upper(np.column_stack([r[:, kept], r[:, -1]]))
    p = len(kept)
    least_squares = solve_triangular(rk[:p, :p], rk[:p, p]) if p else np.zeros(0)
    x = design.x if p == design.x.shape[1] else design.x[:, kept]
    residual = y - x @ least_squares
    square = float(np.sum(residual**2 if root is None else (root * residual) ** 2))
    total = float(np.sum(y**2 if root is None else (root * y) ** 2))
    if square <= 1e-24 * total:
        raise FitError(
            "the fixed effects reproduce the response exactly, so there is nothing left to model: is the response "
            f"{design.spec.response_label} computed from the columns on the right?"
        )
    y_scale = float(np.sqrt(square / n))
    x_back = np.sqrt(n) * solve_triangular(rk[:p, :p], np.eye(p)) if p else np.zeros((0, 0))
    if p and not np.allclose(rk[:p, :p], np.sqrt(n) * np.eye(p), rtol=1e-14, atol=1e-14 * np.sqrt(n)):
        x = orthonormalise(x, rk[:p, :p] / np.sqrt(n))
    blocks, backs, structures = [], [], []
    for spec, group in zip(design.spec.groups, design.groups, strict=True):
        back = _whitening(spec, group.covariates, root)
        covariates = group.covariates if np.array_equal(back, np.eye(len(back))) else group.covariates @ back
        blocks.append(Block(group.codes, len(group.levels), covariates))
        backs.append(back)
        structures.append(tuple(Structure(term.covariance, term.size) for term in spec.terms))
    log_y = 2 * np.log(y_scale)
    log_r = 2 * float(np.log(np.diag(rk)[:p]).sum()) - p * np.log(n)
    scaling = Scaling(
        columns=tuple(kept),
        x_back=x_back,
        least_squares=least_squares,
        y_scale=y_scale,
        z_back=tuple(backs),
        log_scale_ml=n * log_y,
        log_scale_reml=(n - p) * log_y + log_r,
    )
    return Rows(residual / y_scale, x, tuple(blocks), design.weights), Layout(tuple(structures)), scaling


def _whitening(spec: GroupSpec, covariates: FloatArray, root: FloatArray | None) -> FloatArray:
    k = covariates.shape[1]
    back = np.eye(k)
    if spec.intercept_only:
        return back
    n = len(covariates)
    r = triangle([covariates], root) / np.sqrt(n if root is None else float(np.sum(root**2)))
    lengths = np.linalg.norm(r, axis=0)
    for term in spec.terms:
        own = slice(term.start, term.start + term.size)
        length = np.where(lengths[own] > 0, lengths[own], 1.0)
        if term.covariance == "identity":
            back[own, own] /= float(np.sqrt(np.mean(length**2)))
        elif term.covariance == "full" and len(independent(r[:, own])) == term.size:
            back[own, own] = solve_triangular(upper(r[:, own]), np.eye(term.size))
        else:
            back[own, own] = np.diag(1 / length)
    return back
