"""Two stages: latent terms of a mixed model's residuals."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.errors import DataError, FormulaError, OptionError

MIXED = "y ~ x + (1 | user) + (1 | item)"
TERM = "latent(user, item, rank=2)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    users, items, rows = 80, 40, 3000
    user, item = rng.integers(0, users, rows), rng.integers(0, items, rows)
    x = rng.standard_normal(rows)
    eta = 3 + 0.5 * x + 0.5 * rng.standard_normal(users)[user] + 0.6 * rng.standard_normal(items)[item]
    eta += np.sum(rng.standard_normal((users, 2))[user] * rng.standard_normal((items, 2))[item], axis=1)
    return {"y": eta + 0.5 * rng.standard_normal(rows), "x": x, "user": user, "item": item, "w": np.ones(rows)}


def part(data, rows):
    return {name: column[rows] for name, column in data.items()}


@pytest.fixture(scope="module")
def mixed(data):
    return ranef.fit(MIXED, part(data, slice(2500)))


@pytest.fixture(scope="module")
def fit(mixed):
    return mixed.extend(TERM)


def test_predictions_are_sums_and_the_mixed_model_stays(fit, mixed, data):
    test = part(data, slice(2500, None))
    parts = mixed.predict(test) + fit.predict(test, include="latent")
    np.testing.assert_allclose(fit.predict(test), parts, rtol=1e-12)
    np.testing.assert_array_equal(fit.predict(test, exclude="latent"), mixed.predict(test))
    for table in ("fixef", "ranef"):
        ask = {"group": "user"} if table == "ranef" else {}
        one, two = (getattr(each, table)(**ask) for each in (fit, mixed))
        for name in one:
            np.testing.assert_array_equal(np.asarray(one[name]), np.asarray(two[name]))
    assert fit.formula == f"{MIXED} + {TERM}"
    np.testing.assert_allclose(fit.fitted(), fit.predict(part(data, slice(2500))), rtol=1e-12)


def test_the_second_stage_is_a_fit_to_the_residuals(fit, mixed, data):
    rows = part(data, slice(2500))
    alone = ranef.fit(f"r ~ 0 + {TERM}", {**rows, "r": mixed.residuals()})
    np.testing.assert_allclose(fit.predict(rows, include="latent"), alone.predict(rows), rtol=1e-6, atol=1e-8)
    assert fit.sigma == pytest.approx(alone.sigma)
    assert fit.elbo == pytest.approx(alone.elbo)
    assert fit.sigma < 0.7 * mixed.sigma
    assert fit.varcorr()["vcov"][-1] == pytest.approx(fit.sigma**2)


def test_it_is_nearly_as_good_as_both_together(fit, mixed, data):
    test = part(data, slice(2500, None))
    joint = mixed.update(f". ~ . + {TERM}", method="vb")
    errors = [np.sqrt(np.mean((each.predict(test) - test["y"]) ** 2)) for each in (joint, fit, mixed)]
    assert errors[0] < errors[1] + 0.005
    assert errors[1] < 0.6 * errors[2]
    again = fit.update()
    np.testing.assert_allclose(again.predict(test), joint.predict(test), rtol=1e-10)


def test_saved_and_loaded(fit, mixed, data, tmp_path):
    test = part(data, slice(2500, 2550))
    fit.save(tmp_path / "model")
    again = ranef.load(tmp_path / "model")
    for name, values in fit.predict(test, interval="prediction").items():
        np.testing.assert_array_equal(again.predict(test, interval="prediction")[name], values)
    assert "fit by two stages" in str(again)
    # a loaded mixed model is extended by its rows
    mixed.save(tmp_path / "mixed")
    loaded = ranef.load(tmp_path / "mixed")
    both = loaded.extend(TERM, part(data, slice(2500)))
    np.testing.assert_allclose(both.predict(test), fit.predict(test), rtol=1e-9)
    with pytest.raises(DataError, match="pass the data of the fit"):
        loaded.extend(TERM, part(data, slice(2000)))
    with pytest.raises(OptionError, match="pass data="):
        loaded.extend(TERM)


def test_intervals_hold(fit, data):
    test = part(data, slice(2500, None))
    limits = fit.predict(test, interval="prediction")
    assert 0.92 < np.mean((limits["lwr"] <= test["y"]) & (test["y"] <= limits["upr"])) < 0.98


def test_weights_validation_and_callbacks(data, mixed):
    rows, test = part(data, slice(2500)), part(data, slice(2500, None))
    heard = []
    fit = mixed.extend(TERM, validation=test, callbacks=heard.append)
    assert fit.model.info.validation_rows == 500
    scores = [one.score for one in heard]
    assert fit.model.info.score == min(scores)
    # it is the sum that is scored
    assert fit.model.info.score == pytest.approx(np.sqrt(np.mean((fit.predict(test) - test["y"]) ** 2)), abs=1e-5)
    weighted = ranef.fit(MIXED, rows, weights="w").extend(TERM)
    np.testing.assert_allclose(weighted.predict(test), mixed.extend(TERM).predict(test), rtol=1e-4)


def test_what_cannot_be_is_an_error(fit, mixed, data):
    with pytest.raises(OptionError, match="adds latent"):
        mixed.extend("x2")
    with pytest.raises(OptionError, match="nothing else"):
        mixed.extend(f"{TERM} + (1 | w)")
    with pytest.raises(FormulaError):
        mixed.extend("latent(user")
    with pytest.raises(OptionError, match="has latent terms already"):
        fit.extend(TERM)
    with pytest.raises(OptionError, match="give a table here"):
        mixed.extend(TERM, validation=0.1)
    with pytest.raises(OptionError, match="no argument rank="):
        mixed.extend(TERM, rank=3)
    with pytest.raises(OptionError, match="terms such as"):
        mixed.extend(3)
