"""Draws and upper limits for recommendations that explore."""

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

import ranef
from ranef.errors import OptionError
from ranef.score.explore import drawn_model

pytestmark = pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    user, item = rng.integers(0, 25, 400), rng.integers(0, 12, 400)
    y = rng.normal(size=25)[user] + rng.normal(size=12)[item] + 0.5 * rng.normal(size=400)
    return pl.DataFrame({"y": y, "x": rng.normal(size=25)[user], "user": user, "item": item})


def test_draws_vary_as_the_posterior_says(data):
    fit = ranef.fit("y ~ 1 + (1 | user) + (1 | item)", data)
    draws = [drawn_model(fit.model, seed) for seed in range(400)]
    level = fit.ranef("user", sd=True, kind="prediction")
    modes = np.stack([one.groups[0].modes[:, 0] for one in draws])
    assert_allclose(modes.std(0), level["sd_(Intercept)"], rtol=0.15)
    assert_allclose(modes.mean(0), level["(Intercept)"], atol=0.2 * modes.std(0).max())
    beta = np.stack([one.beta for one in draws])
    assert_allclose(beta.std(0), np.sqrt(np.diag(fit.model.vcov)), rtol=0.15)


def test_thompson_is_a_draw_for_a_seed(data):
    fit = ranef.fit("y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank = 2)", data, max_iterations=4)
    once, again, other = (fit.recommend(k=12, explore="thompson", seed=seed) for seed in (1, 1, 2))
    assert once.equals(again)
    assert not once.equals(other)
    assert not np.allclose(once["score"], fit.recommend(k=12)["score"])


def test_upper_limits_are_those_of_intervals(data):
    fit = ranef.fit("y ~ x + (1 | user) + (1 | item)", data)
    attributes = {"user": data.select("user", "x").unique()}
    found = fit.recommend(
        [3, 99], k=12, explore="ucb", level=0.9, tables=attributes, exclude={"user": [3], "item": [5]}
    )
    own = found.filter(pl.col("user") == 3)
    rows = own.select("user", "item").join(attributes["user"], on="user")
    assert_allclose(own["score"], fit.predict(rows, interval="confidence", level=0.9)["upr"], rtol=1e-9)
    assert own["score"].is_sorted(descending=True)
    assert 5 not in own["item"].to_list()
    # where the fit read a column from its rows, a new user has none
    assert len(found) == 11
    fit = ranef.fit("y ~ 1 + (1 | user) + (1 | item)", data)
    new = fit.recommend([99], k=1, explore="ucb")["score"][0] - fit.recommend([99], k=1)["score"][0]
    sd = np.sqrt(fit.varcorr()["vcov"][0])
    assert new > 1.96 * sd


def test_bayesian_fits_and_wrong_options(data):
    fit = ranef.fit("y ~ 1 + (1 | user) + (1 | item)", data, method="gibbs", chains=1, warmup=5, draws=16)
    assert len(fit.recommend(3, k=4, explore="thompson", seed=3)) == 4
    upper = fit.recommend(3, k=4, explore="ucb")
    rows = upper.select("user", "item")
    assert_allclose(upper["score"], fit.predict(rows, interval="confidence", type="link")["upr"], rtol=1e-9)
    with pytest.raises(OptionError, match="explore='greedy'"):
        fit.recommend(explore="greedy")
    implicit = ranef.fit("1 ~ latent(user, item, rank = 2)", data, family="implicit", unobserved=0.2, penalty=0.02)
    with pytest.raises(OptionError, match="needs a posterior"):
        implicit.recommend(explore="ucb")
