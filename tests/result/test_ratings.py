"""Ratings: predictions within their range, and rounded to the nearest one."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.errors import ConvergenceWarning, OptionError
from ranef.evaluate import evaluate_fit

FORMULA = "rating ~ 1 + (1 | user) + (1 | item)"
LATENT = f"{FORMULA} + latent(user, item, rank=2)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    users, items, rows = 60, 40, 1500
    user, item = rng.integers(0, users, rows), rng.integers(0, items, rows)
    eta = 4.2 + 0.8 * rng.standard_normal(users)[user] + 0.8 * rng.standard_normal(items)[item]
    eta += np.sum(rng.standard_normal((users, 2))[user] * 0.5 * rng.standard_normal((items, 2))[item], axis=1)
    rating = np.clip(np.round(2 * (eta + 0.5 * rng.standard_normal(rows))) / 2, 0.5, 5)
    return {"rating": rating, "user": user, "item": item}


@pytest.fixture(scope="module")
def fit(data):
    return ranef.fit(LATENT, data)


def test_predictions_are_clipped_beside_latent_terms(fit, data):
    eta = fit.predict(data, type="link")
    assert eta.max() > 5
    np.testing.assert_array_equal(fit.predict(data), np.clip(eta, 0.5, 5))
    limits = fit.predict(data, interval="prediction")
    assert limits["upr"].max() == 5
    assert np.all((limits["lwr"] <= limits["fit"]) & (limits["fit"] <= limits["upr"]))
    np.testing.assert_array_equal(fit.fitted(), eta)


def test_clipping_is_asked_for_or_left_out(fit, data):
    for clip, low, high in (((1, 4), 1, 4), (None, -np.inf, np.inf)):
        other = ranef.fit(LATENT, data, clip=clip)
        np.testing.assert_array_equal(other.predict(data, type="link"), fit.predict(data, type="link"))
        np.testing.assert_array_equal(other.predict(data), np.clip(fit.predict(data, type="link"), low, high))
    mixed = ranef.fit(FORMULA, data)
    assert mixed.predict(data).max() > 5
    assert mixed.update(clip=(0.5, 5)).predict(data).max() == 5
    # halves are no ratings on a scale of whole numbers and thirds
    uneven = {**data, "rating": np.where(data["rating"] == 3.5, 3.3, data["rating"])}
    assert ranef.fit(LATENT, uneven).model.info.clip is None


def test_ratings_are_the_nearest_ones(fit, data):
    rated = fit.predict(data, type="rating")
    assert set(rated) <= set(np.arange(1, 11) / 2)
    assert np.max(np.abs(rated - fit.predict(data))) <= 0.25
    mixed = ranef.fit(FORMULA, data)
    np.testing.assert_allclose(
        mixed.predict(data, type="rating"), np.clip(np.round(2 * mixed.predict(data)) / 2, 0.5, 5)
    )


def test_ratings_of_draws_and_of_categories(data):
    with pytest.warns(ConvergenceWarning):
        drawn = ranef.fit(LATENT, data, method="gibbs", draws=20, warmup=10)
    assert drawn.predict(data).max() == 5
    assert set(drawn.predict(data, type="rating")) <= set(np.arange(1, 11) / 2)
    ordinal = ranef.fit(FORMULA, data, family="ordinal")
    chances = np.column_stack(list(ordinal.predict(data, type="probabilities").values()))
    mean = chances @ (np.arange(1, 11) / 2)
    assert np.max(np.abs(ordinal.predict(data, type="rating") - mean)) <= 0.25


def test_a_saved_fit_and_an_evaluation_clip_too(fit, data, tmp_path):
    fit.save(tmp_path / "model")
    again = ranef.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(data), fit.predict(data))
    np.testing.assert_array_equal(again.predict(data, type="rating"), fit.predict(data, type="rating"))
    found = evaluate_fit(fit, data, baselines=(), replicates=10)
    expected = np.sqrt(np.mean((fit.predict(data) - data["rating"]) ** 2))
    assert found.estimate("RMSE").value == pytest.approx(expected)


def test_early_stopping_and_two_stages_clip_too(data):
    held = {name: column[:300] for name, column in data.items()}
    rest = {name: column[300:] for name, column in data.items()}
    both = ranef.fit(FORMULA, rest).extend("latent(user, item, rank=2)", validation=held)
    assert both.model.info.clip == (0.5, 5)
    error = np.sqrt(np.mean((both.predict(held) - held["rating"]) ** 2))
    assert both.model.info.score == pytest.approx(error, abs=1e-6)


def test_refusals(fit, data):
    with pytest.raises(OptionError, match=r"give the smallest and the largest rating"):
        ranef.fit(LATENT, data, clip=5)
    with pytest.raises(OptionError, match=r"first number must be below the second"):
        ranef.fit(LATENT, data, clip=(5, 1))
    with pytest.raises(OptionError, match=r"is for a Gaussian response"):
        ranef.fit(FORMULA, data, family="ordinal", clip=(1, 5))
    with pytest.raises(OptionError, match=r"rounded rating has no interval"):
        fit.predict(data, type="rating", interval="prediction")
    slept = ranef.data.sleepstudy()
    with pytest.raises(OptionError, match=r"the response Reaction is none: use type='response'"):
        ranef.fit("Reaction ~ Days + (1 | Subject)", slept).predict(slept, type="rating")
