"""With one side's vectors held fixed they are covariates: learned variances are those of the mixed model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ranef.design.build import build_design
from ranef.engine.threads import engine
from ranef.family import family
from ranef.formula import parse
from ranef.learn.chains import Lengths
from ranef.learn.convergence import mean_error
from ranef.learn.factor.chains import noise_of
from ranef.learn.factor.conditional import draw_parameters, priors_of
from ranef.learn.factor.priors import closed_form
from ranef.learn.factor.start import prepare, restate_residual
from ranef.learn.gaussian import fit_gaussian
from ranef.learn.gibbs import fit_gibbs
from ranef.learn.hyperprior import Prior
from ranef.solve.sweeps import Parameters, empty_state, refresh_units, update_side, weighted_squares
from ranef.table import open_source

USERS, ITEMS, ROWS, RANK = 12, 10, 240, 2
LATENT = "y ~ 0 + latent(user, item, rank=2)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(8)
    user, item = rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS)
    items = rng.standard_normal((ITEMS, RANK)).astype(np.float32)
    p = rng.standard_normal((USERS, RANK)) @ np.array([[0.9, 0.3], [0.0, 0.5]])
    y = np.sum(p[user] * items[item], axis=1) + 0.7 * rng.standard_normal(ROWS)
    return {"y": y, "user": user, "item": item, "a": items[item, 0], "b": items[item, 1]}, items


def held(data, pool, widths):
    """Problem and state with the items' vectors, which ``a`` and ``b`` of the rows are, and users' at zero."""
    table, items = data
    problem = prepare(build_design(parse(LATENT), open_source(table), kind="number"), [RANK], pool)
    weights, residual = np.ones(1), np.array(problem.rows.y[0:ROWS])
    state = empty_state(problem.sides, problem.rows.x, weights, residual, widths=widths)
    # products are of two vectors with the root of the response's scale each
    state.coefficients[1][0].vectors[:] = items / np.sqrt(problem.scaling.y_scale)
    refresh_units(state, 1, pool)
    restate_residual(problem, state, pool)
    return problem, state


def test_variational_variances_are_those_of_maximum_likelihood(data):
    """The posterior is not factorised then, and the bound the likelihood: sweeps are its EM algorithm."""
    with engine(1) as pool:
        problem, state = held(data, pool, (RANK * (RANK + 1) // 2,))
        parameters = Parameters(0.5, ((np.eye(RANK),), (np.eye(RANK),)))
        for _ in range(400):
            added = sum(update_side(state, 0, parameters, pool))
            squares = weighted_squares(state, pool) + added
            parameters = closed_form(state, problem.layout, parameters, squares)
        design = build_design(parse("y ~ 0 + (0 + a + b | user)"), open_source(data[0]), kind="number")
        exact = fit_gaussian(design, "ml", pool)
    y = problem.scaling.y_scale
    np.testing.assert_allclose(y * parameters.covariances[0][0], exact.groups[0].covariance, atol=2e-4)
    np.testing.assert_allclose(y * np.sqrt(parameters.sigma2), exact.info.sigma, rtol=1e-4)
    modes = np.sqrt(y) * state.coefficients[0][0].vectors
    np.testing.assert_allclose(modes, exact.groups[0].modes, atol=2e-3)


@pytest.mark.long
def test_drawn_variances_are_those_of_the_mixed_model(data):
    """Posterior means by both samplers, which share the prior and nothing else, within 3 Monte-Carlo errors."""
    sweeps, warmup = 4000, 100
    prior = Prior("half-t", df=3.0, sd=0.8, residual=0.8)
    with engine(1) as pool:
        design = build_design(parse("y ~ 0 + diag(0 + a + b | user)"), open_source(data[0]), kind="number")
        exact = fit_gibbs(design, family("gaussian", None), pool, prior, Lengths(2, 200, 2000, 1), seed=3).sample
        problem, state = held(data, pool, None)
        y = problem.scaling.y_scale
        priors = priors_of(problem, prior)
        ours = tuple(
            tuple(replace(one, scale=0.8 / np.sqrt(y), df=3.0, centred=True) for one in of) for of in priors.vectors
        )
        priors = replace(priors, vectors=ours)
        parameters = Parameters(0.5, ((np.eye(RANK),), (np.eye(RANK),)))
        drawn = np.empty((1, sweeps, RANK + 1))
        for number in range(-warmup, sweeps):
            update_side(state, 0, parameters, pool, noise_of(5, 0, number + warmup))
            rng = np.random.default_rng((5, number + warmup))
            parameters, _ = draw_parameters(problem, priors, state, parameters, pool, rng)
            if number >= 0:
                drawn[0, number, :RANK] = np.sqrt(y * np.diag(parameters.covariances[0][0]))
                drawn[0, number, RANK] = y * np.sqrt(parameters.sigma2)
    names = ["sd_a|user", "sd_b|user", "sigma"]
    for place, name in enumerate(names):
        other = exact.parameters[:, :, exact.names.index(name)]
        error = np.hypot(mean_error(drawn[:, :, place]), mean_error(other))
        assert abs(drawn[:, :, place].mean() - other.mean()) < 3 * error, name
        # the errors are small enough to tell
        assert error < 0.02 * other.mean()
