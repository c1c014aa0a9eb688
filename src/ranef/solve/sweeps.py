"""Sweeps: the coefficients of every factor in turn, given those of all others, covariances given.

A `State` holds the arrays that a sweep changes in place; what is learned between sweeps, `Parameters`, is made anew.
The same sweep finds modes, draws from the posterior, or moves a variational posterior's moments; see
`ranef.kernel.factor_rows`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from ranef.design.pieces import FloatColumns, is_constant
from ranef.engine.threads import Engine, Range
from ranef.errors import FitError
from ranef.kernel import factor_fields, factor_rows, factor_variance
from ranef.kernel.blocks import BLOCK
from ranef.solve.sides import Member, Side, Sides

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

ROWS_A_PIECE = 1 << 16
UNITS_A_PIECE = 1 << 12

# of a side's member: standard normal numbers, shape (levels, d); of the fixed effects, shape (p,), for side None
Noise = Callable[[tuple[int, int] | None, tuple[int, ...]], FloatArray]


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Those of one factor of a side.

    Attributes
    ----------
    vectors : float32 array, shape (levels, k)
    spread : float32 array, shape (levels, 0, k or k (k + 1) / 2)
        Their covariances, as `ranef.kernel.factor_rows` packs them.
    effects : float64 array, shape (levels, kx)
    extra : float64 array, shape (levels, kx, kx), or (0, kx, kx)
        Covariances of the effects.
    moments : float64 array, shape (levels, 3)
        Log-determinant of the covariances, and what uncertain vectors and effects add to the squares of the rows.
    """

    vectors: SingleArray
    spread: SingleArray
    effects: FloatArray
    extra: FloatArray
    moments: FloatArray


@dataclass(frozen=True, eq=False)
class State:
    """Where sweeps are; every array but those of the data changes in place.

    Attributes
    ----------
    sides : Sides
    x : columns, shape (rows, p)
    weights : float64 array, shape (rows or 1,)
    residual : float64 array, shape (rows,)
        Working response less linear predictor.
    beta : float64 array, shape (p,)
    vectors : tuple of float32 arrays, shape (units, k)
        For each latent term, of the units of all its sides.
    spreads : tuple of float32 arrays, shape (units, 0, k or k (k + 1) / 2)
    coefficients : tuple of tuple of Coefficients
        For each side, of its members; where a side is one factor, its vectors are those of the units.
    """

    sides: Sides
    x: FloatColumns
    weights: FloatArray
    residual: FloatArray
    beta: FloatArray
    vectors: tuple[SingleArray, ...]
    spreads: tuple[SingleArray, ...]
    coefficients: tuple[tuple[Coefficients, ...], ...]

    @property
    def uncertain(self) -> bool:
        """Whether moments are kept, not modes alone."""
        return any(len(one.extra) for members in self.coefficients for one in members)


@dataclass(frozen=True, eq=False)
class Parameters:
    """What sweeps are given.

    Attributes
    ----------
    sigma2 : float
        Residual variance.
    covariances : tuple of tuple of float64 arrays (d, d)
        For each side and each of its members, of one level's vector and effects.
    means : tuple of tuple of float64 arrays (d,), optional
        Likewise; zero if there are none.
    """

    sigma2: float
    covariances: tuple[tuple[FloatArray, ...], ...]
    means: tuple[tuple[FloatArray, ...], ...] | None = None


def empty_state(
    sides: Sides, x: FloatColumns, weights: FloatArray, residual: FloatArray, *, widths: tuple[int, ...] | None
) -> State:
    """All coefficients zero and certain.

    Parameters
    ----------
    residual : float64 array, shape (rows,)
        The response; it becomes the state's.
    widths : tuple of int, optional
        How many numbers a spread of each latent term has; None keeps no moments.
    """
    width = [0 for _ in sides.terms] if widths is None else list(widths)
    vectors = tuple(np.zeros((term.units, term.rank), np.float32) for term in sides.terms)
    spreads = tuple(np.zeros((t.units, w), np.float32) for t, w in zip(sides.terms, width, strict=True))
    coefficients = []
    for side in sides.sides:
        rank = 0 if side.term is None else sides.terms[side.term].rank
        members = []
        for member in side.members:
            kx = len(member.columns) - rank
            if side.alone and side.term is not None:
                own = slice(side.at, side.at + side.units)
                pair = vectors[side.term][own], spreads[side.term][own]
            else:
                w = 0 if side.term is None else width[side.term]
                pair = np.zeros((member.levels, rank), np.float32), np.zeros((member.levels, w), np.float32)
            kept = 0 if widths is None else member.levels
            members.append(
                Coefficients(*pair, np.zeros((member.levels, kx)), np.zeros((kept, kx, kx)), np.zeros((kept, 3)))
            )
        coefficients.append(tuple(members))
    return State(sides, x, weights, residual, np.zeros(x.shape[1]), vectors, spreads, tuple(coefficients))


def sweep(state: State, parameters: Parameters, engine: Engine, noise: Noise | None = None) -> float:
    """Update everything once: fixed effects, then side after side.

    Parameters
    ----------
    noise : callable, optional
        Makes every update a draw.

    Returns
    -------
    float
        What uncertain coefficients add to the weighted squares of the rows; 0 where no moments are kept.
    """
    added = update_fixed(state, parameters, engine, noise)
    of_terms = [0.0] * len(state.vectors)
    for number, side in enumerate(state.sides.sides):
        of_vectors, of_effects = update_side(state, number, parameters, engine, noise)
        added += of_effects
        if side.term is not None:
            # all uncertainty of the term's products, seen from the side that moved last
            of_terms[side.term] = of_vectors
    for number, term in enumerate(state.sides.terms):
        if len(term.sides) > 2 and state.spreads[number].shape[1]:
            # what the side that moved last sees lacks the products among the others
            of_terms[number] = _spread_of_rows(state, number, engine)
    return added + sum(of_terms)


def _spread_of_rows(state: State, term: int, engine: Engine) -> float:
    """Weighted sum over the rows of the variance of a latent term's products."""
    partners, vectors, spread = state.sides.terms[term].partners, state.vectors[term], state.spreads[term]

    def total(first: int, last: int) -> float:
        out = np.zeros(last - first)
        factor_variance.row_variances(0, last - first, partners[first:last], vectors, spread, out)
        return float(np.sum(_weights(state, first, last)[:, 0] * out))

    return sum(engine.each(row_pieces(len(state.residual)), total))


def update_fixed(state: State, parameters: Parameters, engine: Engine, noise: Noise | None = None) -> float:
    """Fixed effects, flat prior; what their variance adds to the squares of the rows comes back."""
    p = len(state.beta)
    if p == 0:
        return 0.0
    pieces = row_pieces(len(state.residual))
    sums = engine.each(pieces, _fixed_sums, state)
    factor = cho_factor(np.sum([gram for gram, _ in sums], axis=0), lower=True)
    change = cho_solve(factor, np.sum([score for _, score in sums], axis=0))
    if noise is not None:
        drawn = solve_triangular(factor[0], noise(None, (p,)), lower=True, trans="T")
        change += np.sqrt(parameters.sigma2) * drawn
    state.beta[:] += change
    engine.each(pieces, _shift_fixed, state, change)
    return p * parameters.sigma2 if state.uncertain else 0.0


def update_side(
    state: State, number: int, parameters: Parameters, engine: Engine, noise: Noise | None = None
) -> tuple[float, float]:
    """Vectors and effects of one side; residuals follow.

    Returns
    -------
    tuple of float
        What uncertain products of vectors, and uncertain effects, add to the weighted squares of the rows.

    Raises
    ------
    FitError
        If a level's system is not positive definite to rounding.
    """
    side = state.sides.sides[number]
    precisions = [_inverse(covariance) for covariance in parameters.covariances[number]]
    if side.alone:
        _update_alone(state, number, side, parameters, precisions[0], engine, noise)
        moments = state.coefficients[number][0].moments
        return float(moments[:, 1].sum()), float(moments[:, 2].sum())
    return _update_members(state, number, side, parameters, precisions, engine, noise)


def _update_alone(
    state: State,
    number: int,
    side: Side,
    parameters: Parameters,
    precision: FloatArray,
    engine: Engine,
    noise: Noise | None,
) -> None:
    vectors, spread = _of_term(state, side)
    own, member = state.coefficients[number][0], side.members[0]
    codes = engine.each(
        side.partitions,
        factor_rows.update_levels,
        side.at,
        side.pointers,
        side.order,
        side.partners,
        vectors,
        spread,
        side.covariates,
        state.weights,
        state.residual,
        1 / parameters.sigma2,
        precision,
        _mean(parameters, number, 0, member),
        _noise(noise, number, 0, member),
        own.effects,
        own.extra,
        own.moments,
    )
    _check(codes, member.name)


def _update_members(
    state: State,
    number: int,
    side: Side,
    parameters: Parameters,
    precisions: list[FloatArray],
    engine: Engine,
    noise: Noise | None,
) -> tuple[float, float]:
    vectors, spread = _of_term(state, side)
    k, width = vectors.shape[1], spread.shape[1]
    d = k + side.covariates.shape[1]
    grams = np.empty((side.units, factor_fields.blocks_of(d), BLOCK), np.float32)
    scores = np.empty((side.units, d))
    moved = np.zeros((side.units, (d + BLOCK - 1) // BLOCK, BLOCK), np.float32)
    excess = np.zeros((side.units, width))
    engine.each(
        side.partitions,
        factor_fields.accumulate_units,
        side.at,
        side.pointers,
        side.order,
        side.partners,
        vectors,
        spread,
        side.covariates,
        state.weights,
        state.residual,
        grams,
        scores,
        excess,
    )
    change = -unit_coefficients(state, number, engine)
    of_vectors = of_effects = 0.0
    for m, (member, own, precision) in enumerate(
        zip(side.members, state.coefficients[number], precisions, strict=True)
    ):
        codes = engine.each(
            member.partitions,
            factor_fields.update_field,
            member.pointers,
            member.units,
            member.weights,
            member.columns,
            grams,
            scores,
            moved,
            1 / parameters.sigma2,
            precision,
            _mean(parameters, number, m, member),
            _noise(noise, number, m, member),
            own.vectors,
            own.effects,
            own.spread,
            own.extra,
            own.moments,
        )
        _check(codes, member.name)
        of_vectors += float(own.moments[:, 1].sum())
        of_effects += float(own.moments[:, 2].sum())
    refresh_units(state, number, engine)
    change += unit_coefficients(state, number, engine)
    engine.each(
        side.partitions,
        factor_fields.shift_units,
        side.pointers,
        side.order,
        side.partners,
        vectors,
        side.covariates,
        change,
        state.residual,
    )
    if width:
        of_vectors += sum(
            engine.each(unit_pieces(side.units), factor_variance.quadratic_forms, side.at, vectors, excess)
        )
    return of_vectors, of_effects


def refresh_units(state: State, number: int, engine: Engine) -> None:
    """The vectors and spreads of a side's units from those of its members' levels."""
    side = state.sides.sides[number]
    if side.term is None or side.alone:
        return
    own = slice(side.at, side.at + side.units)
    vectors, spread = np.zeros_like(state.vectors[side.term][own]), state.spreads[side.term][own]
    total = np.zeros(vectors.shape)
    spread[:] = 0.0
    for member, of in zip(side.members, state.coefficients[number], strict=True):
        engine.each(
            unit_pieces(side.units),
            factor_fields.add_members,
            member.start,
            member.level,
            member.weight,
            of.vectors,
            of.spread,
            total,
            spread,
        )
    state.vectors[side.term][own] = total


def unit_coefficients(state: State, number: int, engine: Engine) -> FloatArray:
    """Vector, then effects, of each unit of a side, shape (units, d)."""
    side = state.sides.sides[number]
    k = 0 if side.term is None else state.vectors[side.term].shape[1]
    out = np.zeros((side.units, k + side.covariates.shape[1]))
    if side.term is not None:
        out[:, :k] = state.vectors[side.term][side.at : side.at + side.units]
    none = np.zeros((0, 0))
    for member, of in zip(side.members, state.coefficients[number], strict=True):
        effects = np.zeros((side.units, of.effects.shape[1]))
        engine.each(
            unit_pieces(side.units),
            factor_fields.add_members,
            member.start,
            member.level,
            member.weight,
            of.effects,
            none,
            effects,
            none,
        )
        out[:, member.columns[k:]] = effects
    return out


def products(state: State, term: int, rows: slice) -> FloatArray:
    """A latent term's part of the linear predictor on some rows."""
    vectors, partners = state.vectors[term], state.sides.terms[term].partners[rows]
    total = np.zeros((len(partners), vectors.shape[1]))
    squares = np.zeros(len(partners))
    for s in range(partners.shape[1]):
        own = vectors[partners[:, s]].astype(np.float64)
        squares += np.einsum("nk,nk->n", own, total)
        total += own
    return squares


def weighted_squares(state: State, engine: Engine) -> float:
    """Weighted sum of the squared residuals."""

    def squares(first: int, last: int) -> float:
        return float(np.sum(_weights(state, first, last)[:, 0] * state.residual[first:last] ** 2))

    return sum(engine.each(row_pieces(len(state.residual)), squares), 0.0)


def row_pieces(rows: int) -> list[Range]:
    """Ranges of rows, from the data alone."""
    return [(start, min(start + ROWS_A_PIECE, rows)) for start in range(0, rows, ROWS_A_PIECE)]


def unit_pieces(units: int) -> list[Range]:
    """Ranges of units, from the data alone."""
    return [(start, min(start + UNITS_A_PIECE, units)) for start in range(0, units, UNITS_A_PIECE)]


def _of_term(state: State, side: Side) -> tuple[SingleArray, SingleArray]:
    if side.term is None:
        none = np.zeros((side.units, 0), np.float32)
        return none, none
    return state.vectors[side.term], state.spreads[side.term]


def _fixed_sums(first: int, last: int, state: State) -> tuple[FloatArray, FloatArray]:
    x = _fixed(state.x, first, last)
    weighted = x * _weights(state, first, last)
    return weighted.T @ x, weighted.T @ state.residual[first:last]


def _shift_fixed(first: int, last: int, state: State, change: FloatArray) -> None:
    state.residual[first:last] -= _fixed(state.x, first, last) @ change


def _fixed(x: FloatColumns, first: int, last: int) -> FloatArray:
    return np.asarray(np.repeat(x[0:1], last - first, axis=0) if is_constant(x) else x[first:last])


def _weights(state: State, first: int, last: int) -> FloatArray:
    return state.weights[:, None] if len(state.weights) == 1 else state.weights[first:last, None]


def _inverse(covariance: FloatArray) -> FloatArray:
    d = len(covariance)
    inverse = cho_solve(cho_factor(covariance, lower=True), np.eye(d))
    return np.ascontiguousarray((inverse + inverse.T) / 2)


def _mean(parameters: Parameters, side: int, member: int, of: Member) -> FloatArray:
    return np.zeros(len(of.columns)) if parameters.means is None else parameters.means[side][member]


def _noise(noise: Noise | None, side: int, member: int, of: Member) -> FloatArray:
    d = len(of.columns)
    return np.empty((0, d)) if noise is None else noise((side, member), (of.levels, d))


def _check(codes: list[int], name: str) -> None:
    if any(codes):
        raise FitError(
            f"the coefficients of {name!r} could not be solved for: a system is not positive definite. Are there "
            "columns of very different sizes, or weights near zero?"
        )
