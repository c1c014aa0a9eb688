"""Where sweeps over latent terms begin: at the mixed model without them, with small random vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.engine.threads import Engine
from ranef.family import Family
from ranef.learn.scaling import Scaling, scale, scale_generalized, unit_variance
from ranef.prior import Layout
from ranef.solve.rows import Rows
from ranef.solve.sides import Side, Sides, make_sides
from ranef.solve.sweeps import Parameters, State, empty_state, products, refresh_units, row_pieces, unit_coefficients

FloatArray = npt.NDArray[np.float64]

# share of the residual variance that the prior gives each term's products at the start
PRODUCTS_SHARE = 0.3
# variance at the start, over the residual's, of an effect that begins at zero
EFFECTS_SHARE = 0.1

TakeOver = Callable[[State, Parameters], Parameters]


@dataclass(frozen=True, eq=False)
class Problem:
    """A design with latent terms, in internal coordinates; another family's response counts as zero there."""

    design: Design
    rows: Rows
    layout: Layout
    scaling: Scaling
    sides: Sides


def prepare(design: Design, ranks: Sequence[int], engine: Engine, family: Family | None = None) -> Problem:
    """Scale the design and find its sides; ``family`` if it is another one than the Gaussian."""
    rows, layout, scaling = (
        scale(design, engine) if family is None else scale_generalized(design, family.kind == "ordered", engine)
    )
    return Problem(design, rows, layout, scaling, make_sides(design, [b.covariates for b in rows.blocks], ranks))


def begin(
    problem: Problem,
    additive: Model,
    widths: tuple[int, ...] | None,
    seed: int,
    engine: Engine,
    earlier: TakeOver | None = None,
) -> tuple[State, Parameters]:
    """The first state and parameters.

    Parameters
    ----------
    additive : Model
        Of the design without its latent terms. The effects of factors that it does not have begin at zero.
    widths : tuple of int, optional
        Of the spreads; see `ranef.solve.sweeps.empty_state`.
    earlier : callable, optional
        Writes what an earlier fit knows over the first coefficients and parameters; see `ranef.learn.factor.earlier`.
    """
    rows, scaling, sides = problem.rows, problem.scaling, problem.sides
    residual = np.array(rows.y[0 : len(rows.y)])
    weights = np.ones(1) if rows.weights is None else np.array(rows.weights)
    state = empty_state(sides, rows.x, weights, residual, widths=widths)
    sigma2 = additive.info.sigma**2 / scaling.y_scale**2
    groups = {spec.name: group for spec, group in zip(additive.spec.groups, additive.groups, strict=True)}
    covariances = []
    for number, side in enumerate(sides.sides):
        of = []
        for m, member in enumerate(side.members):
            rank = 0 if side.term is None else sides.terms[side.term].rank
            covariance = np.zeros((len(member.columns),) * 2)
            if side.term is not None:
                pairs = len(sides.terms[side.term].sides) * (len(sides.terms[side.term].sides) - 1) / 2
                # variance of a product of two vectors is rank times the product of their variances
                one = np.sqrt(PRODUCTS_SHARE * sigma2 / (rank * pairs))
                variance = one / _mean_weight(side)
                covariance[:rank, :rank] = variance * np.eye(rank)
                rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, m)))
                state.coefficients[number][m].vectors[:] = np.sqrt(variance) * rng.standard_normal(
                    (member.levels, rank)
                )
            if member.group is not None:
                back = np.linalg.inv(effects_back(problem, member.group)) / scaling.y_scale
                group = groups.get(problem.design.spec.groups[member.group].name)
                if group is None:
                    covariance[rank:, rank:] = EFFECTS_SHARE * sigma2 * np.eye(len(back))
                else:
                    if group.walk is None:  # a walk's coefficients here are its increments
                        state.coefficients[number][m].effects[:] = group.modes @ back.T
                    covariance[rank:, rank:] = _positive(back @ group.covariance @ back.T, sigma2)
            of.append(covariance)
        covariances.append(tuple(of))
        refresh_units(state, number, engine)
    if len(state.beta):
        raw = additive.beta - scaling.least_squares
        state.beta[:] = np.linalg.solve(scaling.x_back, raw) / scaling.y_scale
    parameters = Parameters(sigma2, tuple(covariances))
    if earlier is not None:
        parameters = earlier(state, parameters)
        for number in range(len(sides.sides)):
            refresh_units(state, number, engine)
    restate_residual(problem, state, engine)
    return state, parameters


def restate_residual(problem: Problem, state: State, engine: Engine) -> None:
    """The residuals from the coefficients: free of what many sweeps have rounded off."""
    rows = problem.rows
    units = [unit_coefficients(state, number, engine) for number in range(len(state.sides.sides))]
    codes = [unit_codes(side) for side in state.sides.sides]

    def write(first: int, last: int) -> None:
        piece = slice(first, last)
        fitted = rows.x[piece] @ state.beta
        for side, of, code in zip(state.sides.sides, units, codes, strict=True):
            kx = side.covariates.shape[1]
            if kx:
                x = side.covariates if len(side.covariates) == 1 else side.covariates[piece]
                fitted = fitted + np.sum(x * of[code[piece], of.shape[1] - kx :], axis=1)
        for term in range(len(state.sides.terms)):
            fitted = fitted + products(state, term, piece)
        state.residual[piece] = rows.y[piece] - fitted

    engine.each(row_pieces(len(rows.y)), write)


def unit_codes(side: Side) -> npt.NDArray[np.int32]:
    """The unit of each row."""
    codes = np.empty(len(side.order), np.int32)
    codes[side.order] = np.repeat(np.arange(side.units, dtype=np.int32), np.diff(side.pointers))
    return codes


def _mean_weight(side: Side) -> float:
    """What the variance of a unit's vector is, if all levels have variance one."""
    return float(sum(np.sum(member.weight**2) / side.units for member in side.members))


def effects_back(problem: Problem, group: int) -> FloatArray:
    """From the effects of a grouping factor in sweeps to the covariates' own units, (k, k); the response's not counted.

    Sweeps have the weights of bags as they are; ``z_back`` is for such of one mean square.
    """
    return np.asarray(problem.scaling.z_back[group] * unit_variance(problem.design.groups[group])[1])


def _positive(covariance: FloatArray, sigma2: float) -> FloatArray:
    """A covariance that closed-form steps can leave: none of its variances is zero."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.maximum(values, 1e-3 * sigma2)) @ vectors.T)
