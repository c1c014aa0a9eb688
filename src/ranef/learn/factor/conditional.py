"""Draws of what sweeps over latent terms are given: residual variance, covariances, and the vectors' prior means.

The vectors of a factor have a normal prior with independent numbers, each with its own variance and mean. A variance
has the prior of `ranef.learn.hyperprior`; the mean, given the variance, that of one more level. A covariance matrix in
the place of variances loses components: where one number of all vectors is small, its correlations with the others,
which the data do not tell, keep it so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine
from ranef.learn.factor.start import Problem, effects_back
from ranef.learn.gibbs import effect_scales
from ranef.learn.hyperprior import (
    DF,
    SCALES,
    Kind,
    Prior,
    Unit,
    draw_covariance,
    log_density,
    residual_unit,
    units_of,
)
from ranef.learn.sweep import unit_covariance, unit_square, with_unit
from ranef.solve.sweeps import Parameters, State, weighted_squares

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class VectorPrior:
    """Prior of the variances of one factor's vectors, internal coordinates.

    Attributes
    ----------
    kind : {"half-t", "inverse-wishart"}
    df, scale : float
        As of `ranef.learn.hyperprior.Unit`.
    centred : bool
        Their mean is zero, and not learned: increments of a walk.
    """

    kind: Kind
    df: float
    scale: float
    centred: bool


@dataclass(frozen=True, eq=False)
class Priors:
    """Of everything that is drawn.

    Attributes
    ----------
    units : tuple of Unit
        Of the effects, raw units; their ``block`` is the grouping factor.
    residual : Unit or None
        Raw units; only a Gaussian response has one.
    vectors : tuple of tuple of VectorPrior or None
        For each side and member; None where there are no vectors.
    places : tuple of (side, member)
        Of each grouping factor.
    """

    units: tuple[Unit, ...]
    residual: Unit | None
    vectors: tuple[tuple[VectorPrior | None, ...], ...]
    places: tuple[tuple[int, int], ...]


def priors_of(problem: Problem, prior: Prior) -> Priors:
    """The priors of a problem.

    The scale of the numbers of vectors is such that the products of a term have the standard deviation ``scale`` (2.5)
    times the spread of the response; ``sd`` is of random effects alone.
    """
    scaling, sides = problem.scaling, problem.sides
    units = units_of(problem.layout, prior, effect_scales(problem.design, scaling.y_scale))
    factor = SCALES[prior.covariance] if prior.scale is None else prior.scale
    vectors: list[tuple[VectorPrior | None, ...]] = []
    places: dict[int, tuple[int, int]] = {}
    for number, side in enumerate(sides.sides):
        of: list[VectorPrior | None] = []
        for m, member in enumerate(side.members):
            if member.group is not None:
                places[member.group] = (number, m)
            if side.term is None:
                of.append(None)
                continue
            term = sides.terms[side.term]
            pairs = len(term.sides) * (len(term.sides) - 1) / 2
            scale = float(np.sqrt(factor / np.sqrt(term.rank * pairs)))
            field = problem.design.latent[side.term].sides[term.sides.index(number)][m]
            of.append(VectorPrior(prior.covariance, prior.df or DF, scale, field.walk is not None))
        vectors.append(tuple(of))
    gaussian = problem.design.spec.kind == "number"
    residual = residual_unit(prior, scaling.y_scale) if gaussian else None
    return Priors(units, residual, tuple(vectors), tuple(places[g] for g in range(len(problem.design.groups))))


def raw_effects(problem: Problem, priors: Priors, state: State) -> list[FloatArray]:
    """The effects of each grouping factor, of a walk its increments, shape (levels, k), raw units."""
    y = problem.scaling.y_scale
    effects = [state.coefficients[side][m].effects for side, m in priors.places]
    return [y * of @ effects_back(problem, g).T for g, of in enumerate(effects)]


def raw_covariances(problem: Problem, priors: Priors, parameters: Parameters) -> tuple[FloatArray, ...]:
    """The covariance of the effects of each grouping factor, raw units."""
    out = []
    for g, (side, m) in enumerate(priors.places):
        back = effects_back(problem, g)
        whole, k = parameters.covariances[side][m], len(back)
        inside = whole[len(whole) - k :, len(whole) - k :]
        raw = problem.scaling.y_scale**2 * back @ inside @ back.T
        out.append((raw + raw.T) / 2)
    return tuple(out)


def draw_parameters(
    problem: Problem, priors: Priors, state: State, parameters: Parameters, engine: Engine, rng: np.random.Generator
) -> tuple[Parameters, float]:
    """Draw all parameters given the coefficients; also the logarithm of the joint density, up to a constant.

    Of another family than the Gaussian the density lacks the likelihood of the rows.
    """
    y2, n = problem.scaling.y_scale**2, len(state.residual)
    sigma2, density = parameters.sigma2, 0.0
    if priors.residual is not None:
        squares = weighted_squares(state, engine)
        current = np.array([[sigma2 * y2]])
        residual = draw_covariance(priors.residual, current, np.array([[squares * y2]]), n, rng)
        sigma2 = float(residual[0, 0]) / y2
        density = -0.5 * (n * np.log(sigma2) + squares / sigma2) + log_density(priors.residual, residual)
    effects, covariances = raw_effects(problem, priors, state), raw_covariances(problem, priors, parameters)
    for unit in priors.units:
        square, count = unit_square(unit, effects)
        drawn = draw_covariance(unit, unit_covariance(unit, covariances), square, count, rng)
        covariances = with_unit(unit, covariances, drawn)
        density -= 0.5 * (count * np.linalg.slogdet(drawn)[1] + np.sum(np.linalg.inv(drawn) * square))
        density += log_density(unit, drawn)
    new, means = [], []
    for number, members in enumerate(priors.vectors):
        pairs = []
        for m, prior in enumerate(members):
            whole = parameters.covariances[number][m].copy()
            mean = np.zeros(len(whole))
            group = problem.sides.sides[number].members[m].group
            if prior is not None:
                vectors = state.coefficients[number][m].vectors.astype(np.float64)
                k = vectors.shape[1]
                before = np.zeros(k) if parameters.means is None else parameters.means[number][m][:k]
                variance, mean[:k], value = _draw_vector_prior(prior, vectors, np.diag(whole)[:k], before, rng)
                whole[:k, :k] = np.diag(variance)
                density += value
            if group is not None:
                back = np.linalg.inv(effects_back(problem, group))
                k = len(back)
                inside = back @ covariances[group] @ back.T / y2
                whole[len(whole) - k :, len(whole) - k :] = (inside + inside.T) / 2
            pairs.append((whole, mean))
        new.append(tuple(whole for whole, _ in pairs))
        means.append(tuple(mean for _, mean in pairs))
    return replace(parameters, sigma2=sigma2, covariances=tuple(new), means=tuple(means)), float(density)


def _draw_vector_prior(
    prior: VectorPrior, vectors: FloatArray, current: FloatArray, mean: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, float]:
    """Variances and means of a factor's vectors given these, each of shape (k,), and the logarithm of the density."""
    square, count = np.sum((vectors - mean) ** 2, axis=0), len(vectors)
    if not prior.centred:
        square, count = square + mean**2, count + 1
    variance = draw_variances(prior, current, square, count, rng)
    density = float(np.sum(_log_densities(prior, variance)))
    if prior.centred:
        return variance, mean, density - 0.5 * float(np.sum(count * np.log(variance) + square / variance))
    drawn = vectors.sum(axis=0) / count + np.sqrt(variance / count) * rng.standard_normal(len(variance))
    square = np.sum((vectors - drawn) ** 2, axis=0) + drawn**2
    return variance, drawn, density - 0.5 * float(np.sum(count * np.log(variance) + square / variance))


def draw_variances(
    prior: VectorPrior, current: FloatArray, square: FloatArray, count: int, rng: np.random.Generator
) -> FloatArray:
    """`ranef.learn.hyperprior.draw_covariance` of independent numbers, shape (k,), all at once."""
    if prior.kind == "half-t":
        rate = prior.df / current + prior.scale**-2
        inverse_a = rng.standard_gamma((prior.df + 1) / 2, len(current)) / rate
        return np.asarray(
            (prior.df * inverse_a + square / 2) / rng.standard_gamma((prior.df + count) / 2, len(current))
        )
    return np.asarray(
        (prior.df * prior.scale**2 + square) / (2 * rng.standard_gamma((prior.df + count) / 2, len(current)))
    )


def _log_densities(prior: VectorPrior, variance: FloatArray) -> FloatArray:
    """`ranef.learn.hyperprior.log_density` of each variance."""
    out = -(prior.df + 2) / 2 * np.log(variance)
    if prior.kind == "half-t":
        return np.asarray(out - (prior.df + 1) / 2 * np.log(prior.df / variance + prior.scale**-2))
    return np.asarray(out - prior.df * prior.scale**2 / (2 * variance))
