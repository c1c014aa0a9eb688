"""Gibbs sampling of latent terms of other families: latent variables, thresholds, constants, and the joint law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from ranef.design.build import build_design
from ranef.engine.threads import engine
from ranef.family import family as family_of
from ranef.formula import parse
from ranef.learn.factor.augmented import Augmented
from ranef.learn.factor.centring import draw_constants
from ranef.learn.factor.conditional import draw_parameters, priors_of, raw_covariances, raw_effects
from ranef.learn.factor.response import response_of
from ranef.learn.factor.start import prepare, restate_residual
from ranef.learn.hyperprior import read_prior
from ranef.solve.sweeps import Parameters, empty_state, refresh_units, sweep
from ranef.table import open_source
from tests.learn.test_factor_gibbs import prior_draw, told

ROWS = 40
FAMILIES = {
    "logit": ("b", "bernoulli", "logit"),
    "probit": ("b", "bernoulli", "probit"),
    "trials": ("cbind(s, f)", "binomial", "logit"),
    "ordinal": ("o", "ordinal", "probit"),
}


def posed(name, right, pool, **options):
    """Problem, response and a state at random coefficients."""
    left, family, link = FAMILIES[name]
    rng = np.random.default_rng(2)
    user, item = np.arange(ROWS) % 5, rng.permutation(np.arange(ROWS) % 4)
    data = {
        "b": rng.integers(0, 2, ROWS),
        "s": rng.integers(0, 4, ROWS),
        "f": rng.integers(1, 3, ROWS),
        "o": np.arange(ROWS) % 3,
        "x": rng.standard_normal(ROWS),
        "w": rng.integers(1, 4, ROWS),
        "h": 0.5 * rng.standard_normal(ROWS),
        "user": user,
        "item": item,
        "job": np.array(list("pq"))[user % 2],
    }
    of = family_of(family, link)
    design = build_design(parse(f"{left} ~ {right}"), open_source(data), kind=of.kind, **options)
    problem = prepare(design, [term.rank for term in design.latent], pool, of)
    state = empty_state(problem.sides, problem.rows.x, np.ones(1), np.zeros(ROWS), widths=None)
    covariances = []
    for number, members in enumerate(state.coefficients):
        for own in members:
            own.vectors[:] = rng.standard_normal(own.vectors.shape)
            own.effects[:] = rng.standard_normal(own.effects.shape)
        covariances.append(tuple(np.eye(own.vectors.shape[1] + own.effects.shape[1]) for own in members))
        refresh_units(state, number, pool)
    restate_residual(problem, state, pool)
    return problem, response_of(design, of), state, Parameters(1.0, tuple(covariances))


@pytest.mark.parametrize("name", ["logit", "probit", "trials"])
def test_latent_variables_have_their_conditional_means(name):
    weights = None if name == "trials" else "w"
    with engine(1) as pool:
        _, response, state, _ = posed(name, "x + latent(user, item, rank=2)", pool, weights=weights, offset="h")
        rows, draws = Augmented(state, response, np.zeros(0), pool), 3000
        eta = rows.eta()
        np.testing.assert_allclose(eta, response.offset - state.residual)
        weight, sums = np.zeros(ROWS), np.zeros(ROWS)
        for draw in range(draws):
            rows.renew(np.random.SeedSequence(1, spawn_key=(draw,)))
            np.testing.assert_allclose(rows.eta(), eta, atol=1e-10)
            weight += rows.state.weights / draws
            sums += rows.state.weights * (rows.state.residual + eta) / draws
    if name == "probit":
        sign = np.where(response.y > 0.5, 1.0, -1.0)
        mean = eta + sign * norm.pdf(eta) / norm.cdf(sign * eta)
        np.testing.assert_allclose(weight, response.weights)
        np.testing.assert_allclose(sums / weight, mean, atol=0.08)
    else:
        np.testing.assert_allclose(weight, response.weights * np.tanh(eta / 2) / (2 * eta), rtol=0.05)
        np.testing.assert_allclose(sums, response.weights * (response.y - 0.5), atol=1e-9)


def test_thresholds_have_their_conditional_distribution():
    """Without the latent normals: on a grid."""
    with engine(1) as pool:
        _, response, state, _ = posed("ordinal", "x + latent(user, item, rank=1)", pool, weights="w")
        rows = Augmented(state, response, np.array([-0.4, 0.4]), pool)
        eta, draws = rows.eta(), []
        for draw in range(800):
            rows.renew(np.random.SeedSequence(4, spawn_key=(draw,)))
            draws.append(rows.phi)
    grid = np.linspace(-3, 3, 81)

    def log_density(a, b):
        if a >= b:
            return -np.inf
        return response.family.loglik(response.y, eta, response.weights, np.array([a, b])).sum()

    log = np.array([[log_density(a, b) for b in grid] for a in grid])
    density = np.exp(log - log.max())
    density /= density.sum()
    for values, marginal in zip(np.transpose(draws), (density.sum(axis=1), density.sum(axis=0)), strict=True):
        mean = marginal @ grid
        sd = np.sqrt(marginal @ (grid - mean) ** 2)
        assert abs(values.mean() - mean) < 0.15 * sd
        assert abs(values.std() / sd - 1) < 0.12


@pytest.mark.parametrize("name", ["logit", "ordinal"])
def test_constants_leave_every_row_as_it_is_and_effects_around_zero(name):
    with engine(1) as pool:
        problem, response, state, parameters = posed(name, "x + (1 + x | user) + latent(user, item, rank=2)", pool)
        priors, rng = priors_of(problem, read_prior(None)), np.random.default_rng(3)
        side, m = priors.places[0]
        parameters.covariances[side][m][2:, 2:] = [[0.5, 0.2], [0.2, 0.4]]
        rows = Augmented(state, response, np.array([-0.5, 0.5]) if name == "ordinal" else np.zeros(0), pool)
        before, raw, means = rows.loglik(), raw_effects(problem, priors, state)[0], []
        eta = rows.eta()
        for _ in range(2000):
            rows.lower(draw_constants(problem, priors, state, parameters, rng))
            means.append(raw_effects(problem, priors, state)[0].mean(axis=0))
        moved = raw_effects(problem, priors, state)[0] - raw
        np.testing.assert_allclose(moved, np.column_stack([np.full(5, moved[0, 0]), np.zeros(5)]), atol=1e-9)
        np.testing.assert_allclose(rows.eta() - eta, moved[0, 0] if name == "ordinal" else 0.0, atol=1e-9)
        np.testing.assert_allclose(rows.loglik(), before, atol=1e-9)
        # the linear predictor is that of the coefficients
        at = rows.eta()
        restate_residual(problem, state, pool)
        np.testing.assert_allclose(-state.residual, at, atol=1e-5)
        ((a, c), (_, b)) = raw_covariances(problem, priors, parameters)[0]
    drawn, slope = np.transpose(means)
    sd = np.sqrt((a - c**2 / b) / 5)
    np.testing.assert_allclose(drawn.mean(), c / b * slope[0], atol=5 * sd / np.sqrt(2000))
    np.testing.assert_allclose(drawn.std(), sd, rtol=0.08)


@pytest.mark.long
@pytest.mark.parametrize("name", ["logit", "probit", "trials"])
def test_sweeps_leave_the_joint_distribution_as_it_is(name):
    """Geweke (2004): of parameters and coefficients from the prior, and data from these, sweeps keep the joint law."""
    prior, rng = read_prior({"covariance": "inverse-wishart", "df": 8, "scale": 0.7}), np.random.default_rng(5)
    moves = []
    with engine(1) as pool:
        right = "0 + (1 + x | user) + latent(user + job, item, rank=2)"
        problem, response, state, _ = posed(name, right, pool, offset="h")
        priors = priors_of(problem, prior)
        for draw in range(1_500):
            parameters = prior_draw(problem, priors, state, pool, rng)
            before = told(problem, priors, state, parameters)
            restate_residual(problem, state, pool)
            eta = response.offset - state.residual
            y = response.family.simulate(rng, eta, response.weights, np.zeros(0))
            rows = Augmented(state, replace(response, y=y), np.zeros(0), pool)
            for number in range(3):
                rows.renew(np.random.SeedSequence(6, spawn_key=(draw, number)))
                sweep(rows.state, parameters, pool, lambda _, shape: rng.standard_normal(shape))
                rows.lower(draw_constants(problem, priors, rows.state, parameters, rng))
                parameters, _ = draw_parameters(problem, priors, rows.state, parameters, pool, rng)
            moves.append(np.subtract(told(problem, priors, state, parameters), before))
    every = np.array(moves)[:, np.std(moves, axis=0) > 0]
    z = every.mean(axis=0) / (every.std(axis=0) / np.sqrt(len(every)))
    assert np.max(np.abs(z)) < 4, z
