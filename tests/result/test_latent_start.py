"""start= of latent terms: sweeps go on from an earlier fit, of the same rank, a lower or a higher one."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import ranef
from ranef.design.membership import Walk
from ranef.errors import ConvergenceWarning
from ranef.learn.factor.earlier import _increments

MIXED = "y ~ 1 + x + (1 | user) + (1 | item)"


def formula(rank):
    return f"{MIXED} + latent(user, item, rank={rank})"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(7)
    users, items, rows = 120, 60, 4000
    user, item, x = rng.integers(0, users, rows), rng.integers(0, items, rows), rng.standard_normal(rows)
    y = 10 + 2 * x + 2 * rng.standard_normal(users)[user] + rng.standard_normal(items)[item]
    y += np.sum(rng.standard_normal((users, 3))[user] * [3, 2, 1.5] * rng.standard_normal((items, 3))[item], axis=1)
    return {"y": y + rng.standard_normal(rows), "x": x, "user": user, "item": item, "job": user % 7}


@pytest.fixture(scope="module")
def fit(data):
    return ranef.fit(formula(3), data, tolerance=1e-6)


def first_sweep(formula, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ranef.fit(formula, data, max_iterations=1, **options)


def test_sweeps_go_on_where_they_ended(fit, data):
    again = ranef.fit(formula(3), data, start=fit, tolerance=1e-6)
    assert again.iterations <= 3 < fit.iterations
    assert again.elbo == pytest.approx(fit.elbo, abs=1)
    np.testing.assert_allclose(again.predict(data), fit.predict(data), atol=0.02)
    assert again.refit(tolerance=1e-6).iterations <= 3
    # a saved fit is as good
    first = first_sweep(formula(3), data, start=fit)
    assert first.elbo > first_sweep(formula(3), data).elbo + 1000


def test_a_lower_rank_begins_a_higher_one(data):
    low = ranef.fit(formula(2), data)
    high = ranef.fit(formula(4), data, start=low)
    assert high.elbo > low.elbo + 100
    # at the same optimum as from random vectors
    assert high.elbo == pytest.approx(ranef.fit(formula(4), data).elbo, abs=5)
    lower = ranef.fit(formula(2), data, start=high)
    assert lower.elbo == pytest.approx(low.elbo, abs=1)
    assert lower.iterations < low.iterations


def test_new_levels_fields_and_text_levels(fit, data):
    rows = len(data["y"]) // 2
    moved = {**data, "user": np.where(np.arange(rows * 2) < rows, data["user"], data["user"] + 1000)}
    moved = {name: column[rows // 2 :] for name, column in moved.items()}
    found = ranef.fit(formula(3), moved, start=fit)
    assert found.elbo == pytest.approx(ranef.fit(formula(3), moved).elbo, abs=3)
    sides = formula(3).replace("latent(user,", "latent(user + job,")
    assert first_sweep(sides, data, start=fit).elbo > first_sweep(sides, data).elbo + 1000
    text = {**data, "user": data["user"].astype(str), "item": data["item"].astype(str)}
    assert first_sweep(formula(3), text, start=fit).elbo > first_sweep(formula(3), text).elbo + 1000


def test_a_mixed_model_begins_one_with_latent_terms_and_back(fit, data):
    mixed = ranef.fit(MIXED, data)
    assert ranef.fit(formula(3), data, start=mixed).elbo == pytest.approx(fit.elbo, abs=8)
    assert ranef.fit(MIXED, data, start=fit).deviance == pytest.approx(mixed.deviance, abs=1e-5)


@pytest.mark.parametrize("penalty", [None, 2.0])
def test_modes(data, penalty):
    low = ranef.fit(formula(2), data, method="map", penalty=penalty)
    again = ranef.fit(formula(2), data, method="map", penalty=penalty, start=low)
    assert again.iterations < low.iterations
    assert again.history[-1].deviance <= low.history[-1].deviance * 1.001
    high = ranef.fit(formula(3), data, method="map", penalty=penalty, start=low)
    assert high.history[-1].deviance < low.history[-1].deviance
    assert np.mean((high.predict(data) - data["y"]) ** 2) < 0.8 * np.mean((low.predict(data) - data["y"]) ** 2)


def test_other_families(data):
    clicks = {**data, "y": (data["y"] > 10).astype(float)}
    fit = ranef.fit(formula(2), clicks, family="bernoulli")
    again = ranef.fit(formula(2), clicks, family="bernoulli", start=fit)
    assert again.iterations < fit.iterations / 2
    assert again.elbo == pytest.approx(fit.elbo, abs=5)


def test_chains_begin_at_an_earlier_fit(fit, data):
    def first_sigma(**options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = ranef.fit(formula(4), data, method="gibbs", warmup=0, draws=8, **options)
        return found.model.sample.parameters[0, 0, found.model.sample.names.index("sigma")]

    assert abs(first_sigma(start=fit) - fit.sigma) < 0.1
    assert first_sigma() > 2 * fit.sigma


def test_walks_begin_at_their_steps(data):
    rng = np.random.default_rng(0)
    week = rng.integers(0, 30, len(data["y"]))
    path = np.cumsum(rng.standard_normal((31, 2)), axis=0)[week]
    y = data["y"] + np.sum(path * rng.standard_normal((120, 2))[data["user"]], axis=1)
    timed = {**data, "y": y, "week": week}
    walk = "y ~ 1 + x + (1 | user) + latent(user, rw(week), rank=2)"
    fit = ranef.fit(walk, timed, tolerance=1e-6)
    again = ranef.fit(walk, timed, start=fit, tolerance=1e-6)
    assert again.iterations <= 10 < fit.iterations
    assert again.elbo == pytest.approx(fit.elbo, abs=2)


def test_increments_of_walks():
    walk = Walk(np.array([0, 1, 0, 0], np.int32), np.array([3.0, 0.0, 1.0, 2.0]))
    levels = np.array([[5.0], [7.0], [1.0], [2.0]])
    steps = _increments(walk, levels, np.ones(4, bool))
    np.testing.assert_allclose(walk.membership.sums(steps), levels)
    known = np.array([True, True, True, False])
    np.testing.assert_allclose(walk.membership.sums(_increments(walk, levels, known)).ravel(), [5, 7, 1, 1])
