"""One sweep of the Gibbs sampler: every parameter of a mixed model is drawn anew.

All coefficients, fixed and random, are one draw from their joint normal distribution given latent variables and
covariances, by perturbing the right-hand side of the mixed-model system and solving it (Papandreou and Yuille 2010).
Before it come moves that do without the latent variables (`ranef.learn.moves`): what these variables hold in place
moves freely there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ranef.design.build import Group
from ranef.learn.augment import Augmentation, latent_rows
from ranef.learn.hyperprior import Unit, draw_covariance, log_density
from ranef.learn.likelihood import Likelihood, eta, part
from ranef.learn.mode import Solver
from ranef.learn.scaling import Scaling
from ranef.prior import factor_of
from ranef.solve.cross_products import CrossProducts
from ranef.solve.elimination import Coefficients, by_block, from_blocks
from ranef.solve.reweigh import reweigh
from ranef.solve.weighted import flat, response_of, sums, sums_of_rows

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FixedPrior:
    """Normal prior with mean zero of the fixed effects and thresholds, raw units; a precision of zero is a flat one.

    Attributes
    ----------
    beta : float64 array, shape (p,)
        Precisions.
    phi : float64 array, shape (thresholds' parameters,)
    """

    beta: FloatArray
    phi: FloatArray


@dataclass(frozen=True, eq=False)
class Target:
    """The posterior that is drawn from.

    Attributes
    ----------
    of : Likelihood
        Rows in internal coordinates. Of an ordinal family the first fixed column is constant, see ``shift``.
    augmentation : {"none", "polya-gamma", "normal"}
    scaling : Scaling
        Its ``x_back`` lacks that constant column.
    units : tuple of Unit
    residual : Unit or None
    fixed : FixedPrior
    shift : float64 array, shape (parameters of the family,), or None
        Of an ordinal family: what moves all thresholds up by one. Coefficients are drawn together with an intercept,
        by which the thresholds are then lowered.
    intercept : int
        Which fixed effect is the intercept; -1 if none is.
    solver : Exact or ConjugateGradients
    cross : CrossProducts or None
        Of a Gaussian response: the cross products, weighed once and for all.
    groups : tuple of Group
        Of the design: what is drawn of a walk are its increments.
    """

    of: Likelihood
    augmentation: Augmentation
    scaling: Scaling
    units: tuple[Unit, ...]
    residual: Unit | None
    fixed: FixedPrior
    shift: FloatArray | None
    intercept: int
    solver: Solver
    cross: CrossProducts | None
    groups: tuple[Group, ...]

    @property
    def to_raw(self) -> FloatArray:
        """Raw fixed effects are ``scaling.least_squares`` plus this times internal ones."""
        return self.scaling.y_scale * self.scaling.x_back

    def raw_beta(self, beta: FloatArray) -> FloatArray:
        return self.scaling.least_squares + self.to_raw @ beta


@dataclass(frozen=True, eq=False)
class State:
    """Where a chain stands.

    Attributes
    ----------
    beta : float64 array, shape (p,)
        Internal coordinates.
    blocks : tuple of float64 arrays (levels, k)
        Random effects, raw units.
    covariances : tuple of float64 arrays (k, k)
        Raw units.
    phi : float64 array
        The family's parameters; of a Gaussian one ``log sigma^2``, internal units.
    eta : float64 array, shape (rows,)
        Linear predictor with the offset, rows in the order of the pattern.
    value : float
        Log-likelihood without its constant.
    """

    beta: FloatArray
    blocks: tuple[FloatArray, ...]
    covariances: tuple[FloatArray, ...]
    phi: FloatArray
    eta: FloatArray
    value: float


@dataclass(frozen=True)
class Streams:
    """Random numbers of one chain; each generator serves one purpose and piece of work, so that their order is free.

    Attributes
    ----------
    rows : tuple of numpy.random.Generator
        One for each piece of rows.
    coefficients, parameters : numpy.random.Generator
    """

    rows: tuple[np.random.Generator, ...]
    coefficients: np.random.Generator
    parameters: np.random.Generator


def streams(seed: np.random.SeedSequence, pieces: int) -> Streams:
    coefficients, parameters, *rows = (np.random.default_rng(one) for one in seed.spawn(pieces + 2))
    return Streams(tuple(rows), coefficients, parameters)


def loglik(target: Target, at: FloatArray, phi: FloatArray) -> float:
    """Log-likelihood at a linear predictor, without its constant."""
    of = target.of

    def piece(first: int, last: int) -> tuple[float]:
        values = of.family.loglik(of.y[first:last], at[first:last], part(of.weights, first, last), phi)
        return (float(values.sum()),)

    (value,) = sums_of_rows(of.pattern, piece)
    return float(value)


def linear(target: Target, beta: FloatArray, blocks: Sequence[FloatArray], offset: bool = True) -> FloatArray:
    """Linear predictor of all rows from internal fixed effects and raw random effects."""
    of, cross = target.of, target.of.pattern.cross
    internal: list[FloatArray] = [
        np.asarray(np.linalg.solve(back, b.T).T[:, :, None] / target.scaling.y_scale, np.float64)
        for back, b in zip(target.scaling.z_back, blocks, strict=True)
    ]
    x = from_blocks(cross, internal, 1)
    x.rest[cross.random + (cross.fixed - len(beta)) : cross.random + cross.fixed, 0] = beta
    return _predictor(of if offset else replace(of, offset=None), flat(cross, x)[:, 0])


def _predictor(of: Likelihood, coefficients: FloatArray) -> FloatArray:
    out = np.empty(len(of.y))

    def piece(first: int, last: int) -> None:
        out[first:last] = eta(of, coefficients, first, last)

    of.pattern.engine.each(of.pattern.pieces, piece)
    return out


def placed(target: Target, state: State) -> State:
    """The state with ``eta`` and ``value`` of its coefficients."""
    at = linear(target, state.beta, state.blocks)
    return replace(state, eta=at, value=loglik(target, at, state.phi))


def draw_coefficients(target: Target, state: State, random: Streams) -> State:
    """Draw all coefficients, and what moves the thresholds, given covariances and fresh latent variables.

    Raises
    ------
    FitError
        If the system is singular in floating point.
    """
    of, pattern = target.of, target.of.pattern
    engine = pattern.engine
    weight, right_side = np.empty(len(of.y)), np.empty(len(of.y))

    def piece(number: int) -> None:
        first, last = pattern.pieces[number]
        own = slice(first, last)
        rng = random.rows[number]
        if target.augmentation == "none":
            weight[own] = 1.0 if of.weights is None else of.weights[own]
            right_side[own] = 0.0
        else:
            weight[own], right_side[own] = _latent(target, state, first, last, rng)
            if of.offset is not None:
                right_side[own] -= weight[own] * of.offset[own]
        right_side[own] += np.sqrt(weight[own]) * rng.standard_normal(last - first)

    engine.map(piece, [(number,) for number in range(len(pattern.pieces))])
    sigma = 1.0
    if target.cross is None:
        cross = reweigh(pattern, weight, right_side)
        right = response_of(cross)
    else:
        cross = target.cross
        sigma = float(np.exp(state.phi[0] / 2))
        known, perturbed = response_of(cross), sums(pattern, right_side[:, None])
        right = Coefficients(
            tuple(a + sigma * b for a, b in zip(known.stages, perturbed.stages, strict=True)),
            known.rest + sigma * perturbed.rest,
        )
    precision, pull = _fixed_prior(target, state, random.coefficients)
    p, r = cross.fixed, cross.random
    dense = cross.dense.copy()
    dense[:p, :p] += sigma**2 * precision
    right.rest[r : r + p, 0] += sigma**2 * pull
    noise = from_blocks(cross, [sigma * random.coefficients.standard_normal((*b.shape, 1)) for b in state.blocks], 1)
    factors = tuple(
        _internal_factor(back, covariance, target.scaling.y_scale * sigma)
        for back, covariance in zip(target.scaling.z_back, state.covariances, strict=True)
    )
    system = target.solver.prepare(replace(cross, dense=dense), factors, engine, True)
    x = target.solver.solve(system, right, True, noise)
    x.rest[-1] = 0.0
    phi, fixed = state.phi, x.rest[r : r + p, 0].copy()
    if target.shift is not None:
        phi, fixed = phi - fixed[0] * target.shift, fixed[1:]
        x.rest[r] = 0.0
    at = _predictor(of, flat(cross, x)[:, 0])
    return State(
        beta=fixed,
        blocks=tuple(
            target.scaling.y_scale * b[:, :, 0] @ back.T
            for b, back in zip(by_block(cross, x), target.scaling.z_back, strict=True)
        ),
        covariances=state.covariances,
        phi=phi,
        eta=at,
        value=loglik(target, at, phi),
    )


def _latent(
    target: Target, state: State, first: int, last: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    of = target.of
    weights = part(of.weights, first, last)
    return latent_rows(of.family, state.phi, of.y[first:last], state.eta[first:last], weights, rng)


def _fixed_prior(target: Target, state: State, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Precision of the fixed columns by their prior, and its share of the perturbed right-hand side."""
    raw, back = target.fixed.beta, target.to_raw
    precision = back.T @ (raw[:, None] * back)
    pull = back.T @ (np.sqrt(raw) * rng.standard_normal(len(raw)) - raw * target.scaling.least_squares)
    if target.shift is None:
        return precision, pull
    own = target.fixed.phi * target.shift
    both = np.zeros((len(pull) + 1, len(pull) + 1))
    both[0, 0] = own @ target.shift
    both[1:, 1:] = precision
    first = own @ state.phi + np.sqrt(both[0, 0]) * rng.standard_normal()
    return both, np.concatenate([[first], pull])


def _internal_factor(back: FloatArray, covariance: FloatArray, scale: float) -> FloatArray:
    inverse = np.linalg.inv(back) / scale
    return factor_of(inverse @ covariance @ inverse.T)


def unit_covariance(unit: Unit, covariances: Sequence[FloatArray]) -> FloatArray:
    """The covariance of a unit, shape (size, size)."""
    own = covariances[unit.block][unit.own, unit.own]
    return own[:1, :1] if unit.common else own


def unit_square(unit: Unit, blocks: Sequence[FloatArray]) -> tuple[FloatArray, int]:
    """Sum of ``b b'`` of a unit's coefficients, and of how many."""
    b = blocks[unit.block][:, unit.own]
    return (np.array([[np.sum(b * b)]]), b.size) if unit.common else (b.T @ b, len(b))


def with_unit(unit: Unit, covariances: tuple[FloatArray, ...], value: FloatArray) -> tuple[FloatArray, ...]:
    """The covariances with that of a unit replaced."""
    changed = covariances[unit.block].copy()
    width = unit.own.stop - unit.own.start
    changed[unit.own, unit.own] = value[0, 0] * np.eye(width) if unit.common else value
    return (*covariances[: unit.block], changed, *covariances[unit.block + 1 :])


def draw_covariances(target: Target, state: State, random: Streams) -> State:
    """Draw every covariance given the coefficients, and a residual variance given the rows."""
    covariances = state.covariances
    for unit in target.units:
        square, count = unit_square(unit, state.blocks)
        drawn = draw_covariance(unit, unit_covariance(unit, covariances), square, count, random.parameters)
        covariances = with_unit(unit, covariances, drawn)
    state = replace(state, covariances=covariances)
    if target.residual is None:
        return state
    of, y2 = target.of, target.scaling.y_scale**2

    def piece(first: int, last: int) -> tuple[float]:
        square = (of.y[first:last] - state.eta[first:last]) ** 2
        return (float(square.sum() if of.weights is None else square @ of.weights[first:last]),)

    (residual,) = sums_of_rows(of.pattern, piece)
    current = np.array([[np.exp(state.phi[0]) * y2]])
    drawn = draw_covariance(target.residual, current, np.array([[float(residual) * y2]]), len(of.y), random.parameters)
    phi = np.log(drawn[0] / y2)
    return replace(state, phi=phi, value=loglik(target, state.eta, phi))


def log_posterior(target: Target, state: State) -> float:
    """Logarithm of the joint density of data, coefficients and parameters, up to a constant."""
    out = state.value
    for unit in target.units:
        covariance = unit_covariance(unit, state.covariances)
        square, count = unit_square(unit, state.blocks)
        logdet = float(np.linalg.slogdet(covariance)[1])
        out -= (count * logdet + float(np.sum(np.linalg.inv(covariance) * square))) / 2
        out += log_density(unit, covariance)
    beta = target.raw_beta(state.beta)
    out -= float(target.fixed.beta @ beta**2) / 2
    if target.residual is not None:
        out += log_density(target.residual, np.array([[np.exp(state.phi[0]) * target.scaling.y_scale**2]]))
    elif target.shift is not None:
        out -= float(target.fixed.phi @ state.phi**2) / 2
    return out
