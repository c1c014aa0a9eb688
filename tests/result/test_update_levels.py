"""Levels after new rows: day by day against all days at once, against dense posteriors, and what a fit keeps."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import ranef
from ranef.errors import ConvergenceWarning, DroppedRowsWarning, OptionError
from ranef.score.level_state import Events, absorb
from ranef.score.merged import level_state, level_states, merged_factor, partner_spreads
from tests.result.test_fold_in import NEW_ITEM, NEW_USER, TABLE, TRAIN, fitted, group_of, take

# what comes after the fit: more rows of its users, and new ones
LATER = take(TABLE, np.flatnonzero(~NEW_ITEM & (NEW_USER | (TABLE["user"] < "u10"))))
DAYS = np.array_split(np.random.default_rng(3).permutation(len(LATER["y"])), 3)
MIXED = "y ~ x + (1 + x | user) + (1 | item)"


def by_day(fit, **options):
    for day in DAYS:
        fit = fit.update_levels(take(LATER, day), **options)
    return fit


def states(fit, name="user"):
    factor = merged_factor(fit.model, name)
    levels = np.arange(len(group_of(fit.model, name).levels))
    return level_states(fit.model, factor, levels)


def in_order(fit, name="user"):
    """By label: new levels stand in the order in which they came."""
    return np.argsort(group_of(fit.model, name).levels.labels)


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        (MIXED, {"weights": "w"}),
        ("y ~ x + (1 | user) + (1 | item) + latent(user, item, rank=2)", {"max_iterations": 20}),
        ("y ~ (1 | user) + (1 | item) + latent(user, item, rank=2)", {"max_iterations": 20, "method": "map"}),
    ],
    ids=["mixed", "vb", "map"],
)
def test_days_are_one_batch_of_a_gaussian_model(formula, options):
    fit = fitted(formula, **options)
    days, batch = by_day(fit), fit.update_levels(LATER)
    one, other = in_order(days), in_order(batch)
    for own, all_at_once in zip(states(days), states(batch), strict=True):
        np.testing.assert_allclose(own[one], all_at_once[other], rtol=1e-8, atol=1e-8)
    users = group_of(days.model, "user"), group_of(batch.model, "user")
    for name in ("modes", "conditional", "sensitivity"):
        np.testing.assert_allclose(getattr(users[0], name)[one], getattr(users[1], name)[other], rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(group_of(days.model, "item").modes, group_of(fit.model, "item").modes)
    tolerance = 1e-5 if fit.model.latent else 1e-8
    np.testing.assert_allclose(days.predict(LATER), batch.predict(LATER), rtol=0, atol=tolerance)
    assert np.std(batch.predict(LATER) - LATER["y"]) < np.std(fit_at(fit) - LATER["y"])


def fit_at(fit):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit.predict(LATER)


def test_a_level_is_its_dense_posterior():
    fit = fitted(MIXED)
    rows = take(LATER, LATER["user"] == "u03")
    updated = fit.update_levels(rows)
    before, after = group_of(fit.model, "user"), group_of(updated.model, "user")
    level = before.levels.labels.index("u03")
    z = np.column_stack([np.ones(len(rows["y"])), rows["x"]])
    rest = fit.predict(rows) - z @ before.modes[level]
    precision = np.linalg.inv(before.conditional[level])
    right = precision @ before.modes[level] + z.T @ (rows["y"] - rest) / fit.sigma**2
    covariance = np.linalg.inv(precision + z.T @ z / fit.sigma**2)
    np.testing.assert_allclose(after.modes[level], covariance @ right, rtol=0, atol=1e-8)
    np.testing.assert_allclose(after.conditional[level], covariance, rtol=1e-7)
    others = np.arange(len(before.modes)) != level
    np.testing.assert_array_equal(after.modes[others], before.modes[others])
    # new levels are folded in
    new = take(LATER, LATER["user"] == "u57")
    one, other = fit.update_levels(new), fit.fold_in(new)
    np.testing.assert_allclose(
        group_of(one.model, "user").modes[-1], group_of(other.model, "user").modes[-1], rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("method", ["vb", "map"])
def test_states_of_single_levels_are_the_same(method):
    """As a service updates them, event by event."""
    fit = fitted("y ~ x + (1 | user) + (1 | item) + latent(user, item, rank=2)", method=method, max_iterations=20)
    model, rows = fit.model, take(LATER, LATER["user"] == "u03")
    user, items = merged_factor(model, "user"), group_of(model, "item")
    level = group_of(model, "user").levels.labels.index("u03")
    item = np.array([items.levels.labels.index(str(one)) for one in rows["item"]])
    h = np.column_stack([np.ones(len(item)), model.latent[0].sides[1][0].vectors[item].astype(float)])
    state = level_state(model, user, level)
    offset = fit.predict(rows, type="link") - h @ state.mean
    spread = partner_spreads(model, user, "item", item)
    assert (spread is None) == (method == "map")
    phi = np.array([2 * np.log(fit.sigma)])
    for row in range(len(item)):
        own = None if spread is None else spread[row : row + 1]
        event = Events(h[row : row + 1], rows["y"][row : row + 1], offset[row : row + 1], None, own)
        state = absorb(state, event, model.family, phi)
    later = level_state(fit.update_levels(rows).model, user, level)
    np.testing.assert_allclose(state.mean, later.mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(state.precision, later.precision, rtol=1e-9)


@pytest.mark.parametrize("family", ["bernoulli", "poisson", "ordinal"])
def test_days_of_other_families_come_near_one_batch(family):
    response = {"bernoulli": "click", "poisson": "count", "ordinal": "grade"}[family]
    fit = fitted(f"{response} ~ x + (1 + x | user) + (1 | item)", family=family)
    days, batch = by_day(fit), fit.update_levels(LATER)
    one, other = in_order(days), in_order(batch)
    modes = group_of(days.model, "user").modes[one], group_of(batch.model, "user").modes[other]
    sds = np.sqrt(np.diagonal(group_of(batch.model, "user").conditional[other], axis1=1, axis2=2))
    away = np.abs(modes[0] - modes[1]) / sds
    moved = np.abs(modes[1][:10] - group_of(fit.model, "user").modes[:10]) / sds[:10]
    assert 0 < away.max() < 0.6
    assert away.mean() < 0.06
    assert moved.mean() > 3 * away[:10].mean()


def test_forgetting_goes_back_to_new_levels():
    fit = fitted(MIXED)
    rows = take(LATER, LATER["user"] == "u03")
    again = {**rows, "user": np.full(len(rows["user"]), "new")}
    gone = fit.update(rows, forget=1.0)
    as_new = group_of(fit.fold_in(again).model, "user").modes[-1]
    level = group_of(fit.model, "user").levels.labels.index("u03")
    np.testing.assert_allclose(group_of(gone.model, "user").modes[level], as_new, rtol=0, atol=1e-8)
    kept = group_of(fit.update(data=rows, forget=0.0).model, "user").modes[level]
    some = group_of(fit.update(rows, forget=0.3).model, "user")
    assert np.trace(some.conditional[level]) > np.trace(group_of(fit.update(rows).model, "user").conditional[level])
    assert not np.allclose(some.modes[level], kept)
    # lme4's update is what it was
    assert fit.update(". ~ . - (1 + x | user) + (1 | user)").model.spec.formula.count("(1 | user)") == 1


def test_saved_states_go_on(tmp_path):
    fit = fitted("y ~ x + (1 | user) + (1 | item) + latent(user, item, rank=2)", max_iterations=20)
    first = fit.update_levels(take(LATER, DAYS[0]))
    first.save(tmp_path / "model")
    loaded = ranef.load(tmp_path / "model")
    rows = take(LATER, DAYS[1])
    np.testing.assert_array_equal(loaded.update_levels(rows).predict(rows), first.update_levels(rows).predict(rows))
    assert first.predict(take(rows, np.arange(5)), interval="prediction")["lwr"].shape == (5,)


def test_which_levels_change():
    fit = fitted(MIXED)
    items = fit.update_levels(LATER, "item")
    assert np.all(group_of(items.model, "item").modes != group_of(fit.model, "item").modes)
    np.testing.assert_array_equal(
        group_of(items.model, "user").modes[: len(fit.model.groups[0].levels)], group_of(fit.model, "user").modes
    )
    both = fit.update_levels(LATER, ["user", "item"])
    assert np.all(group_of(both.model, "item").modes != group_of(items.model, "item").modes)
    three = ranef.fit("y ~ x + (1 | user) + (1 | item) + (1 | job)", {**TRAIN, "job": TRAIN["item"] % 3})
    with pytest.raises(OptionError, match="groups= says whose"):
        three.update_levels({**LATER, "job": LATER["item"] % 3})
    with pytest.raises(OptionError, match="no factor 'itm'"):
        fit.update_levels(LATER, "itm")
    with pytest.raises(OptionError, match="share between"):
        fit.update_levels(LATER, forget=2)
    with pytest.warns(DroppedRowsWarning, match="1 row left out"):
        fit.update_levels({**LATER, "x": np.where(np.arange(len(LATER["x"])) == 0, np.nan, LATER["x"])})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        drawn = ranef.fit("y ~ x + (1 | user)", TRAIN, method="gibbs", chains=1, draws=8, warmup=5)
    with pytest.raises(OptionError, match="Bayesian fit is its draws"):
        drawn.update_levels(LATER)
