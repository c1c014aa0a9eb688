"""Coordinates in which the numerics are well conditioned, and the way back.

The fixed part is made orthonormal, the response becomes its least-squares residual over its own root mean square,
and the covariates of a random term are whitened (full covariance), scaled one by one (diagonal) or together
(identity), so that covariates in millions, or years around 2000, cost no digits and no iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from ranef.design.build import Design, Group
from ranef.design.membership import Membership
from ranef.design.pieces import Derived, FloatColumns, Numbers, is_constant
from ranef.design.rank import ROWS_A_CHUNK, independent, orthonormalise, triangle, upper
from ranef.design.spec import GroupSpec
from ranef.engine.threads import Engine, Range
from ranef.errors import FitError
from ranef.prior import Layout, Structure
from ranef.solve.rows import Block, Rows

FloatArray = npt.NDArray[np.float64]

ROWS_A_TRIANGLE = 1 << 19
# wider fixed parts are stored
MOST_DERIVED = 8


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


def scale(design: Design, engine: Engine) -> tuple[Rows, Layout, Scaling]:
    """The design's rows in internal coordinates.

    Raises
    ------
    FitError
        If the fixed effects alone reproduce the response.
    """
    n = len(design.y)
    root = None if design.weights is None else Derived((n, 1), partial(_root, design.weights))
    y = Derived((n, 1), partial(_response, design))
    r = _triangle([design.x, y], root, engine)
    kept = independent(r[:, :-1])
    if len(kept) >= n:
        raise FitError(f"the fixed part has {len(kept):,} columns but there are only {n:,} rows; use fewer terms")
    rk = upper(np.column_stack([r[:, kept], r[:, -1]]))
    p = len(kept)
    least_squares = solve_triangular(rk[:p, :p], rk[:p, p]) if p else np.zeros(0)
    raw: FloatColumns = design.x if p == design.x.shape[1] else Derived((n, p), lambda rows: design.x[rows][:, kept])
    residual = Derived((n, 1), lambda rows: y[rows] - _fitted(raw, least_squares, rows))
    square, total = _square(residual, root, engine), _square(y, root, engine)
    if square <= 1e-24 * total:
        raise FitError(
            "the fixed effects reproduce the response exactly, so there is nothing left to model: is the response "
            f"{design.spec.response_label} computed from the columns on the right?"
        )
    y_scale = float(np.sqrt(square / n))
    x_back, x = _fixed_part(raw, rk[:p, :p], engine)
    blocks, backs, layout = _random_part(design, root, engine)
    log_y = 2 * np.log(y_scale)
    log_r = 2 * float(np.log(np.diag(rk)[:p]).sum()) - p * np.log(n)
    scaling = Scaling(
        columns=tuple(kept),
        x_back=x_back,
        least_squares=least_squares,
        y_scale=y_scale,
        z_back=backs,
        log_scale_ml=n * log_y,
        log_scale_reml=(n - p) * log_y + log_r,
    )
    response = Derived((n,), lambda rows: residual[rows][:, 0] / y_scale)
    return Rows(response, x, blocks, design.weights), layout, scaling


def scale_generalized(design: Design, ordered: bool, engine: Engine) -> tuple[Rows, Layout, Scaling]:
    """The rows of a generalized model in internal coordinates: its columns alone, its response as it is.

    Parameters
    ----------
    ordered : bool
        Thresholds stand for the intercept: a constant column is then aliased.
    """
    n = len(design.y)
    root = None if design.weights is None else Derived((n, 1), partial(_root, design.weights))
    constant = np.broadcast_to(np.ones(1), (n, 1))
    if ordered:
        kept = tuple(j - 1 for j in independent(_triangle([constant, design.x], root, engine)) if j)
    else:
        kept = tuple(independent(_triangle([design.x], root, engine)))
    p = len(kept)
    if p >= n:
        raise FitError(f"the fixed part has {p:,} columns but there are only {n:,} rows; use fewer terms")
    raw: FloatColumns = design.x if p == design.x.shape[1] else Derived((n, p), lambda rows: design.x[rows][:, kept])
    x_back, x = _fixed_part(raw, upper(_triangle([raw], root, engine)), engine)
    blocks, backs, layout = _random_part(design, root, engine)
    scaling = Scaling(kept, x_back, np.zeros(p), 1.0, backs, 0.0, 0.0)
    return Rows(np.broadcast_to(0.0, n), x, blocks, None), layout, scaling


def _fixed_part(raw: FloatColumns, r: FloatArray, engine: Engine) -> tuple[FloatArray, FloatColumns]:
    """``x_back``, and the columns with their triangular factor ``r`` divided out."""
    n, p = raw.shape
    x_back = np.sqrt(n) * solve_triangular(r, np.eye(p)) if p else np.zeros((0, 0))
    if p and not np.allclose(r, np.sqrt(n) * np.eye(p), rtol=1e-14, atol=1e-14 * np.sqrt(n)):
        return x_back, _orthonormal(raw, r / np.sqrt(n), engine)
    return x_back, raw


def _random_part(
    design: Design, root: FloatColumns | None, engine: Engine
) -> tuple[tuple[Block, ...], tuple[FloatArray, ...], Layout]:
    """Blocks with whitened covariates, the ways back, and the layout of their parameters."""
    blocks, backs, structures = [], [], []
    for spec, group in zip(design.spec.groups, design.groups, strict=True):
        back = _whitening(spec, group.covariates, root, engine)
        covariates: FloatColumns = group.covariates
        if not np.array_equal(back, np.eye(len(back))):
            covariates = Derived(group.covariates.shape, partial(_turned, group.covariates, back))
        membership, scale = unit_variance(group)
        blocks.append(Block(group.codes, len(group.levels), covariates, membership))
        backs.append(back / scale)
        structures.append(tuple(Structure(term.covariance, term.size) for term in spec.terms))
    return tuple(blocks), tuple(backs), Layout(tuple(structures))


def unit_variance(group: Group) -> tuple[Membership | None, float]:
    """The levels of each unit, or a walk's increments, with weights whose squares sum to one in the mean row.

    Also what the weights were divided by: a walk whose time is in seconds has the scale of one in weeks.
    """
    membership = group.membership if group.walk is None else group.walk.membership
    if membership is None:
        return None, 1.0
    rows = np.bincount(group.codes, minlength=membership.units)
    mean = float(rows @ membership.squares) / max(len(group.codes), 1)
    scale = float(np.sqrt(mean)) if mean > 0 else 1.0
    return replace(membership, weight=membership.weight / scale), scale


def _root(weights: FloatArray, rows: Numbers) -> FloatArray:
    return np.sqrt(weights[rows])[:, None]


def _response(design: Design, rows: Numbers) -> FloatArray:
    y = design.y[rows] if design.offset is None else design.y[rows] - design.offset[rows]
    return y[:, None]


def _turned(columns: FloatArray, back: FloatArray, rows: Numbers) -> FloatArray:
    return columns[rows] @ back


def _fitted(x: FloatColumns, least_squares: FloatArray, rows: Numbers) -> FloatArray:
    return (x[0:1] if is_constant(x) else x[rows]) @ least_squares[:, None]


def _orthonormal(x: FloatColumns, r: FloatArray, engine: Engine) -> FloatColumns:
    """``x @ inv(r)``: a few columns are computed when they are read, more are worth their room."""
    derived = Derived(x.shape, lambda rows: orthonormalise(x[rows], r))
    if x.shape[1] <= MOST_DERIVED:
        return derived
    stored = engine.storage.empty((len(x), x.shape[1]))

    def write(first: int, last: int) -> None:
        stored[first:last] = derived[first:last]

    engine.each(_chunks(len(x), ROWS_A_CHUNK), write)
    return stored


def _square(columns: FloatColumns, root: FloatColumns | None, engine: Engine) -> float:
    """Weighted sum of squares."""

    def square(first: int, last: int) -> float:
        piece = columns[first:last] if root is None else columns[first:last] * root[first:last]
        return float(np.sum(piece**2))

    return sum(engine.each(_chunks(len(columns), ROWS_A_CHUNK), square), 0.0)


def _triangle(parts: Sequence[FloatColumns], root: FloatColumns | None, engine: Engine) -> FloatArray:
    """`ranef.design.rank.triangle` of all rows, large pieces of them side by side."""

    def part(first: int, last: int) -> FloatArray:
        return triangle(parts, root, range(first, last))

    return upper(np.concatenate(engine.each(_chunks(len(parts[0]), ROWS_A_TRIANGLE), part)))


def _chunks(rows: int, size: int) -> list[Range]:
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]


def _whitening(spec: GroupSpec, covariates: FloatArray, root: FloatColumns | None, engine: Engine) -> FloatArray:
    k = covariates.shape[1]
    back = np.eye(k)
    if spec.intercept_only:
        return back
    weight = float(len(covariates)) if root is None else _square(root, None, engine)
    r = _triangle([covariates], root, engine) / np.sqrt(weight)
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
