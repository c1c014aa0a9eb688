"""Gibbs sampling of latent terms: conditional distributions written out, and the joint one by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from ranef.artifact.latent import FieldDraws
from ranef.design.build import build_design
from ranef.engine.threads import engine
from ranef.formula import parse
from ranef.learn.factor.chains import noise_of
from ranef.learn.factor.conditional import VectorPrior, draw_parameters, draw_variances, priors_of, raw_effects
from ranef.learn.factor.gibbs import turns_of
from ranef.learn.factor.start import effects_back, prepare, restate_residual
from ranef.learn.hyperprior import Unit, draw_covariance, inverse_wishart, read_prior
from ranef.solve.sweeps import Parameters, empty_state, refresh_units, sweep, update_side
from ranef.table import open_source

ROWS = 40
FORMULA = "y ~ 0 + x + (1 + x | user) + latent(user + job, item + bag(genres), rank=2)"


def problem_of(formula, pool):
    rng = np.random.default_rng(2)
    user, item = np.repeat(np.arange(5), 8), rng.permutation(np.repeat(np.arange(4), 10))
    data = {
        "y": 2 * rng.standard_normal(ROWS),
        "x": rng.standard_normal(ROWS),
        "w": rng.uniform(0.5, 2.0, ROWS),
        "user": user,
        "item": item,
        "job": np.array(list("pq"))[user % 2],
        "genres": np.array(["a|b", "a", "b|c", "c"])[item],
        "week": rng.integers(0, 5, ROWS),
    }
    design = build_design(parse(formula), open_source(data), kind="number", weights="w")
    return prepare(design, [term.rank for term in design.latent], pool)


def begun(problem, pool, seed=3):
    """State and parameters at random values."""
    state = empty_state(
        problem.sides, problem.rows.x, np.array(problem.rows.weights), np.array(problem.rows.y[:]), widths=None
    )
    rng = np.random.default_rng(seed)
    covariances, means = [], []
    for number, members in enumerate(state.coefficients):
        for own in members:
            own.vectors[:] = rng.standard_normal(own.vectors.shape)
            own.effects[:] = rng.standard_normal(own.effects.shape)
        widths = [own.vectors.shape[1] + own.effects.shape[1] for own in members]
        priors = [
            np.append(rng.standard_normal(own.vectors.shape[1]), np.zeros(own.effects.shape[1])) for own in members
        ]
        covariances.append(tuple(np.diag(rng.uniform(0.5, 2.0, d)) for d in widths))
        means.append(tuple(priors))
        refresh_units(state, number, pool)
    restate_residual(problem, state, pool)
    return state, Parameters(0.7, tuple(covariances), tuple(means))


def test_levels_are_drawn_around_the_prior_mean():
    """Of the last member of a side, the last level: everything else is as it was when it was drawn."""
    with engine(1) as pool:
        problem = problem_of(FORMULA, pool)
        state, parameters = begun(problem, pool)
        number, draws = len(state.sides.sides) - 1, 1000
        side, own = state.sides.sides[number], state.coefficients[number][-1]
        member = side.members[-1]
        level = member.levels - 1
        units = member.units[member.pointers[level] : member.pointers[level + 1]]
        weights = member.weights[member.pointers[level] : member.pointers[level + 1]]
        noise = np.random.default_rng(7)
        precision = np.linalg.inv(parameters.covariances[number][-1])
        mean = parameters.means[number][-1]
        scores = np.empty((draws, 2))
        for draw in range(draws):
            update_side(state, number, parameters, pool, lambda _, shape: noise.standard_normal(shape))
            square, score = np.zeros((2, 2)), np.zeros(2)
            for unit, weight in zip(units, weights, strict=True):
                for place in range(side.pointers[unit], side.pointers[unit + 1]):
                    row = side.order[place]
                    z = weight * state.vectors[0][side.partners[place, 0]].astype(float)
                    square += state.weights[row] * np.outer(z, z)
                    score += state.weights[row] * z * (state.residual[row] + z @ own.vectors[level])
            total = square / parameters.sigma2 + precision
            centre = np.linalg.solve(total, score / parameters.sigma2 + precision @ mean)
            # standard normal if the draw has the conditional distribution
            scores[draw] = np.linalg.cholesky(total).T @ (own.vectors[level] - centre)
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=5 / np.sqrt(draws))
    np.testing.assert_allclose(np.cov(scores.T), np.eye(2), atol=8 / np.sqrt(draws))


@pytest.mark.parametrize("kind", ["half-t", "inverse-wishart"])
def test_variances_are_drawn_as_covariances_of_one(kind):
    prior, unit = VectorPrior(kind, 3.0, 0.7, False), Unit(0, slice(0, 1), False, kind, 3.0, np.array([0.7]))
    current, square, count = np.array([0.5]), np.array([4.0]), 6
    one = np.log(
        draw_variances(prior, np.repeat(current, 20_000), np.repeat(square, 20_000), count, np.random.default_rng(1))
    )
    rng = np.random.default_rng(2)
    other = np.log([draw_covariance(unit, current[None], square[None], count, rng)[0, 0] for _ in range(5_000)])
    np.testing.assert_allclose(one.mean(), other.mean(), atol=5 * other.std() / np.sqrt(5_000))
    np.testing.assert_allclose(one.std(), other.std(), rtol=0.06)


def prior_draw(problem, priors, state, pool, rng):
    """Parameters and coefficients from their priors, in place; residuals are noise."""
    y = problem.scaling.y_scale
    sigma2, spread = 1.0, priors.residual
    if spread is not None:
        sigma2 = inverse_wishart(spread.df, np.array([[spread.df * spread.scale[0] ** 2]]), rng)[0, 0] / y**2
    covariances, means = [], []
    for number, members in enumerate(priors.vectors):
        pairs = []
        for m, prior in enumerate(members):
            own = state.coefficients[number][m]
            k, kx = own.vectors.shape[1], own.effects.shape[1]
            whole, mean = np.zeros((k + kx, k + kx)), np.zeros(k + kx)
            if prior is not None:
                variance = prior.df * prior.scale**2 / (2 * rng.standard_gamma(prior.df / 2, k))
                whole[:k, :k] = np.diag(variance)
                if not prior.centred:
                    mean[:k] = np.sqrt(variance) * rng.standard_normal(k)
                own.vectors[:] = mean[:k] + np.sqrt(variance) * rng.standard_normal(own.vectors.shape)
            group = problem.sides.sides[number].members[m].group
            if group is not None:
                raw = np.zeros((kx, kx))
                for unit in priors.units:
                    if unit.block == group:
                        raw[unit.own, unit.own] = inverse_wishart(unit.df, unit.df * np.diag(unit.scale**2), rng)
                back = np.linalg.inv(effects_back(problem, group))
                inside = back @ raw @ back.T / y**2
                whole[k:, k:] = (inside + inside.T) / 2
                own.effects[:] = rng.standard_normal(own.effects.shape) @ np.linalg.cholesky(whole[k:, k:]).T
            pairs.append((whole, mean))
        covariances.append(tuple(whole for whole, _ in pairs))
        means.append(tuple(mean for _, mean in pairs))
        refresh_units(state, number, pool)
    return Parameters(float(sigma2), tuple(covariances), tuple(means))


def told(problem, priors, state, parameters):
    """Numbers whose distributions are compared."""
    out = [np.log(parameters.sigma2)]
    for members, of, centres in zip(state.coefficients, parameters.covariances, parameters.means, strict=True):
        for own, whole, centre in zip(members, of, centres, strict=True):
            k = own.vectors.shape[1]
            out += [*np.log(np.diag(whole)), np.log(np.sum(own.vectors.astype(float) ** 2) + 1e-9)]
            out += [*np.log(np.abs(centre[:k]) + 1e-3)]
    out += [np.log(np.mean(b**2)) for b in raw_effects(problem, priors, state)]
    return out


@pytest.mark.long
@pytest.mark.parametrize(
    "formula",
    [
        "y ~ 0 + (1 + x | user) + latent(user + job, item + bag(genres), rank=2)",
        "y ~ 0 + (1 | bag(genres)) + fm(user, item, rw(week), rank=1)",
    ],
)
def test_sweeps_leave_the_joint_distribution_as_it_is(formula):
    """Geweke (2004): of parameters and coefficients from the prior, and data from these, sweeps keep the joint law."""
    prior, rng = read_prior({"covariance": "inverse-wishart", "df": 8, "scale": 0.7}), np.random.default_rng(5)
    moves = []
    with engine(1) as pool:
        problem = problem_of(formula, pool)
        priors = priors_of(problem, prior)
        state, _ = begun(problem, pool)
        for _ in range(1_500):
            parameters = prior_draw(problem, priors, state, pool, rng)
            before = told(problem, priors, state, parameters)
            state.residual[:] = np.sqrt(parameters.sigma2 / state.weights) * rng.standard_normal(ROWS)
            for _ in range(3):
                sweep(state, parameters, pool, lambda _, shape: rng.standard_normal(shape))
                parameters, _ = draw_parameters(problem, priors, state, parameters, pool, rng)
            moves.append(np.subtract(told(problem, priors, state, parameters), before))
    every = np.array(moves)[:, np.std(moves, axis=0) > 0]
    z = every.mean(axis=0) / (every.std(axis=0) / np.sqrt(len(every)))
    assert np.max(np.abs(z)) < 4, z


def test_draws_of_parameters_are_proper_and_come_from_the_stream():
    with engine(1) as pool:
        problem = problem_of(FORMULA, pool)
        priors = priors_of(problem, read_prior(None))
        state, parameters = begun(problem, pool)
        new, density = draw_parameters(problem, priors, state, parameters, pool, np.random.default_rng(1))
        again, same = draw_parameters(problem, priors, state, parameters, pool, np.random.default_rng(1))
    assert density == same
    assert new.sigma2 == again.sigma2
    assert all(np.all(np.linalg.eigvalsh(c) > 0) for of in new.covariances for c in of)


def test_draws_are_turned_to_agree():
    rng = np.random.default_rng(4)
    vectors = [rng.standard_normal((30, 3)) * [2.0, 1.0, 0.5], rng.standard_normal((12, 3)) * [2.0, 1.0, 0.5]]
    turns = [np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(5)]
    draws = [
        FieldDraws(np.stack([v @ t for t in turns]).astype(np.float32), np.zeros((5, 3)), np.ones((5, 3)))
        for v in vectors
    ]
    found = turns_of(draws)
    for of in draws:
        turned = [vectors @ turn for vectors, turn in zip(of.vectors, found, strict=True)]
        np.testing.assert_allclose(turned, np.broadcast_to(turned[-1], np.shape(turned)), atol=1e-5)
    np.testing.assert_allclose(found @ found.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (5, 3, 3)), atol=1e-12)


def test_noise_has_a_stream_for_every_place():
    places = [None, (0, 0), (0, 1), (1, 0)]
    seen = [
        noise_of(seed, chain, number)(key, (2,))
        for seed, chain, number in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
        for key in places
    ]
    assert len({one.tobytes() for one in seen}) == len(seen)
    assert np.array_equal(noise_of(0, 0, 0)((0, 1), (2,)), noise_of(0, 0, 0)((0, 1), (2,)))
