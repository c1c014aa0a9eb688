"""The ML deviance as a function of the covariances in response units and the residual variance, and paths on it.

Covariances are given by roots, ``Sigma = root root'``: a standard deviation or correlation that is held fixed is then
a linear constraint on the root, and what is left is free to be minimised over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.design.spec import GroupSpec, TermSpec
from ranef.learn.assemble import Problem
from ranef.learn.held import Given, nothing_given
from ranef.prior import Structure, factor_of
from ranef.result.parameters import Parameter
from ranef.solve.elimination import by_block, multiply
from ranef.solve.inverse import invert
from ranef.solve.system import factorise

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Slope:
    """The deviance at a point with its derivatives by each root, shape (k, k), and by the log residual sd."""

    deviance: float
    roots: tuple[FloatArray, ...]
    log_sigma: float


def deviance_of(problem: Problem, roots: Sequence[FloatArray], sigma: float) -> Slope:
    """The ML deviance, profiled over the fixed effects only.

    Parameters
    ----------
    problem : Problem
        Prepared with ``"ml"``.
    roots : sequence of float64 arrays (k, k)
        A square root of each factor's covariance, response units over the covariates'.
    sigma : float
        Residual standard deviation, response units.

    Raises
    ------
    FitError
    """
    criterion, scaling = problem.criterion, problem.scaling
    cross = criterion.cross
    sides = [np.linalg.solve(back, root) / sigma for back, root in zip(scaling.z_back, roots, strict=True)]
    # any square root has the lower triangular one of the same product
    factors = [np.ascontiguousarray(np.linalg.qr(side.T)[1].T) for side in sides]
    system = factorise(cross, factors, criterion.engine)
    sigma2 = (sigma / scaling.y_scale) ** 2
    ratio = system.residual / sigma2
    value = system.logdet_random + cross.rows * math.log(2 * math.pi * sigma2) + ratio
    traces = invert(system, fixed=False).trace
    scores = by_block(cross, multiply(cross, system.solution, criterion.engine))
    by_root: list[FloatArray] = []
    shrinking = 0.0
    for trace, score, back, side in zip(traces, scores, scaling.z_back, sides, strict=True):
        g = score[:, :, 0]
        slope = trace - g.T @ g / sigma2
        by_root.append(np.asarray(2 * np.linalg.solve(back.T, slope @ side) / sigma, dtype=np.float64))
        shrinking += float(np.sum(slope * (side @ side.T)))
    log_sigma = 2 * (cross.rows - ratio - shrinking)
    return Slope(value - cross.log_weights + criterion.log_scale, tuple(by_root), log_sigma)


@dataclass(frozen=True, eq=False)
class Path:
    """Coordinates ``u`` of everything but one parameter that is held at a value.

    ``root = base + sum_p u_p directions_p`` for each factor, and ``log sigma`` last in ``u`` if it is free. Units are
    about a standard error.

    Attributes
    ----------
    bases : tuple of float64 arrays (k, k)
    directions : tuple of float64 arrays (coordinates of the factor, k, k)
    start : float64 array, shape (coordinates,)
    bounds : tuple of (lowest, highest)
    sigma : float or None
        Held fixed, or free.
    log_sigma_unit : float
    """

    bases: tuple[FloatArray, ...]
    directions: tuple[FloatArray, ...]
    start: FloatArray
    bounds: tuple[tuple[float | None, float | None], ...]
    sigma: float | None
    log_sigma_unit: float

    def evaluate(self, problem: Problem, u: FloatArray) -> tuple[float, FloatArray]:
        """Deviance and its gradient by ``u``."""
        roots, at = [], 0
        for base, directions in zip(self.bases, self.directions, strict=True):
            roots.append(base + np.tensordot(u[at : at + len(directions)], directions, 1))
            at += len(directions)
        sigma = math.exp(u[at] * self.log_sigma_unit) if self.sigma is None else self.sigma
        slope = deviance_of(problem, roots, sigma)
        parts = [np.tensordot(d, g, 2) for d, g in zip(self.directions, slope.roots, strict=True)]
        last = [slope.log_sigma * self.log_sigma_unit] if self.sigma is None else []
        return slope.deviance, np.concatenate([*parts, last])


def path_of(
    problem: Problem,
    covariances: Sequence[FloatArray],
    sigma: float,
    held: Parameter,
    value: float,
    given: Given | None = None,
) -> Path:
    """The path on which ``held`` (not a fixed effect) is ``value``, starting near given estimates.

    What was ``given`` stays there.
    """
    known = (nothing_given(problem.layout) if given is None else given).covariances
    bases, directions, start = [], [], []
    bounds: list[tuple[float | None, float | None]] = []
    for g, (spec, group, covariance) in enumerate(
        zip(problem.design.spec.groups, problem.design.groups, covariances, strict=True)
    ):
        back = problem.scaling.z_back[g]
        unit = sigma * np.linalg.norm(back, axis=1)
        own = held if held.group == g else None
        base, moves, at, low = group_path(spec, covariance, unit, own, value, known[g])
        # coordinates in units of about a standard error of a relative size
        scale = np.maximum(np.abs(moves).max(axis=2) @ np.maximum(np.sqrt(np.diag(covariance)), 0.1 * unit), 1e-300)
        scale /= np.sqrt(len(group.levels))
        bases.append(base)
        directions.append(moves * scale[:, None, None])
        start.append(at / scale)
        bounds += [(bound, None) for bound in low]
    held_sigma = value if held.kind == "sigma" else sigma if given is not None and given.sigma2 is not None else None
    rate = 1 / math.sqrt(problem.criterion.cross.rows)
    if held_sigma is None:
        start.append(np.array([math.log(sigma) / rate]))
        bounds.append((None, None))
    coordinates = np.concatenate([*start, np.zeros(0)])
    return Path(tuple(bases), tuple(directions), coordinates, tuple(bounds), held_sigma, rate)


def group_path(
    spec: GroupSpec,
    covariance: FloatArray,
    unit: FloatArray,
    held: Parameter | None,
    value: float,
    given: Sequence[FloatArray | None],
) -> tuple[FloatArray, FloatArray, FloatArray, list[float | None]]:
    """Base, directions, starting coordinates and lower bounds of one factor, all its terms together.

    A term whose covariance is ``given`` does not move.
    """
    k = len(covariance)
    base = np.zeros((k, k))
    directions: list[FloatArray] = [np.zeros((0, k, k))]
    start: list[FloatArray] = []
    bounds: list[float | None] = []
    for t, term in enumerate(spec.terms):
        own = slice(term.start, term.start + term.size)
        known = given[t]
        if known is not None:
            base[own, own] = factor_of(known)
            continue
        mine = held if held is not None and held.term == t else None
        term_base, moves, at, low = _term_path(term, covariance[own, own], unit[own], mine, value)
        base[own, own] = term_base
        wide = np.zeros((len(moves), k, k))
        wide[:, own, own] = moves
        directions.append(wide)
        start.append(at)
        bounds += low
    return base, np.concatenate(directions), np.concatenate([*start, np.zeros(0)]), bounds


def _term_path(
    term: TermSpec, covariance: FloatArray, unit: FloatArray, held: Parameter | None, value: float
) -> tuple[FloatArray, FloatArray, FloatArray, list[float | None]]:
    k = term.size
    # a coordinate at zero has no slope, so none starts there
    inside = covariance + np.diag(np.maximum(1e-4 * unit**2 - np.diag(covariance), 0) + 1e-6 * unit**2)
    base = np.zeros((k, k))
    if term.covariance != "full":
        moves = Structure(term.covariance, k).basis
        at = np.array([math.sqrt(inside[np.argmax(np.diag(move)), np.argmax(np.diag(move))]) for move in moves])
        if held is not None:
            which = 0 if term.covariance == "identity" else held.i - term.start
            base = value * moves[which]
            moves, at = np.delete(moves, which, axis=0), np.delete(at, which)
        return base, moves, at, [None] * len(at)
    # the coefficients of the held parameter first: its part of the triangular root is then by itself
    first = [] if held is None else list(dict.fromkeys([held.i - term.start, held.j - term.start]))
    order = [*first, *(i for i in range(k) if i not in first)]
    factor = factor_of(inside[np.ix_(order, order)])
    places = [(i, j) for i in range(k) for j in range(i + 1)]
    moves = np.zeros((len(places), k, k))
    at = np.empty(len(places))
    for p, (i, j) in enumerate(places):
        moves[p, order[i], j] = 1.0
        at[p] = factor[i, j]
    low: list[float | None] = [None] * len(places)
    if held is not None and held.kind == "sd":
        base = value * moves[0]
        moves, at, low = moves[1:], at[1:], low[1:]
    elif held is not None:
        # the second row is a length times (correlation, rest)
        moves[2] = value * moves[1] + math.sqrt(max(1 - value**2, 0.0)) * moves[2]
        at[2] = math.hypot(factor[1, 0], factor[1, 1])
        moves, at, low = np.delete(moves, 1, axis=0), np.delete(at, 1), [0.0, 0.0, *low[3:]]
    return base, moves, at, low
