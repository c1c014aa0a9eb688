"""Locked terms: the same as a fit without them whose offset holds their part; what is new, wrong, saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef import OptionError, UnknownLevelWarning

ROWS = 500
FORMULA = "y ~ x + (1 | user) + (1 + x | item) + (1 | day)"
OTHERS = "y ~ x + (1 | user) + (1 | day)"


def rows(seed: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    user, item, day = np.arange(ROWS) % 25, rng.integers(0, 15, ROWS), rng.integers(0, 6, ROWS)
    x = rng.normal(size=ROWS)
    b = rng.normal(size=(15, 2)) * [1.0, 0.6]
    eta = 0.3 + 0.5 * x + 0.8 * rng.normal(size=25)[user] + b[item, 0] + b[item, 1] * x + 0.5 * rng.normal(size=6)[day]
    liked = (rng.random(ROWS) < 1 / (1 + np.exp(-eta))).astype(int)
    data = pd.DataFrame({"y": eta + rng.normal(size=ROWS), "liked": liked, "x": x, "user": user, "item": item})
    return data.assign(day=day)


def with_part(data: pd.DataFrame, fit: ranef.Fit) -> pd.DataFrame:
    """The rows with what ``item`` adds to their linear predictor."""
    modes = fit.ranef("item").set_index("level").reindex(data["item"]).fillna(0.0)
    return data.assign(part=modes["(Intercept)"].to_numpy() + modes["x"].to_numpy() * data["x"].to_numpy())


@pytest.mark.parametrize("solver", ["exact", "stochastic"])
@pytest.mark.parametrize("family", ["gaussian", "bernoulli"])
def test_a_locked_fit_is_one_of_the_others_with_an_offset(family, solver):
    data = rows()
    response = "y" if family == "gaussian" else "liked"
    formula, others = FORMULA.replace("y", response, 1), OTHERS.replace("y", response, 1)
    start = ranef.fit(formula, data[:300], family=family)
    options = {"family": family, "solver": solver, "tolerance": 1e-9 if solver == "exact" else 1e-6}
    locked = ranef.fit(formula, data, start=start, lock=["item"], **options)
    apart = ranef.fit(others, with_part(data, start), offset="part", start=start, **options)
    np.testing.assert_allclose(locked.fixef()["estimate"], apart.fixef()["estimate"], rtol=1e-6)
    np.testing.assert_allclose(locked.fixef()["se"], apart.fixef()["se"], rtol=1e-6)
    assert locked.deviance == pytest.approx(apart.deviance, abs=1e-6)
    assert locked.df == apart.df
    for group in ("user", "day"):
        one, other = locked.ranef(group, sd=True), apart.ranef(group, sd=True)
        np.testing.assert_allclose(one.iloc[:, 1:], other.iloc[:, 1:], rtol=1e-5, atol=1e-8)
    pd.testing.assert_frame_equal(locked.ranef("item", sd=True), start.ranef("item", sd=True))
    np.testing.assert_allclose(locked.fitted(), apart.fitted(), rtol=1e-6, atol=1e-8)
    # the variances: those learned, and the locked ones as they were, in lme4's order
    table, own = locked.varcorr(), apart.varcorr()
    assert list(table["grp"].unique()) == ["user", "item", "day"] + ["Residual"] * (family == "gaussian")
    kept = table["grp"] == "item"
    np.testing.assert_allclose(table["vcov"][~kept], own["vcov"], rtol=1e-5)
    np.testing.assert_allclose(table["vcov"][kept], start.varcorr().query("grp == 'item'")["vcov"])
    assert table["se"][kept].isna().all()
    assert "Coefficients kept from an earlier fit: item" in str(locked)


@pytest.mark.parametrize("solver", ["exact", "stochastic"])
@pytest.mark.parametrize("family", ["gaussian", "bernoulli"])
def test_predictions_and_their_intervals_are_given_the_locked_coefficients(family, solver, tmp_path: Path):
    data = rows()
    response = "y" if family == "gaussian" else "liked"
    formula, others = FORMULA.replace("y", response, 1), OTHERS.replace("y", response, 1)
    start = ranef.fit(formula, data[:300], family=family)
    locked = ranef.fit(formula, data, family=family, start=start, lock="item", solver=solver)
    apart = ranef.fit(
        others, with_part(data, start), family=family, offset="part", start=start, solver=solver,
    )  # fmt: skip
    found = locked.predict(data, type="link", interval="confidence")
    want = apart.predict(with_part(data, start), type="link", interval="confidence")
    np.testing.assert_allclose(found.to_numpy(), want.to_numpy(), rtol=1e-4, atol=1e-5)
    locked.save(tmp_path / "model")
    loaded = ranef.load(tmp_path / "model")
    np.testing.assert_array_equal(
        np.column_stack(list(loaded.predict(data.to_dict("list"), type="link", interval="confidence").values())),
        found.to_numpy(),
    )
    assert loaded.model.info.locked == ("item",)
    if family != "gaussian":
        return
    limits = locked.confint().set_index("parameter")
    others_ = apart.confint().set_index("parameter")
    for name in others_.index:
        np.testing.assert_allclose(limits.loc[name].to_numpy(), others_.loc[name].to_numpy(), rtol=1e-4, atol=1e-6)
    assert limits.loc["sd_x|item", ["lower", "upper"]].isna().all()
    assert limits.loc["cor_x.(Intercept)|item", ["lower", "upper"]].isna().all()


def test_new_levels_stay_at_zero_and_are_counted():
    data = rows()
    start = ranef.fit(FORMULA, data[data["item"] < 12])
    count = int((data["item"] >= 12).sum())
    words = rf"{count} of 500 rows have a level of 'item' .* in start= lacks \(3 levels; the first is '1[234]'\)"
    with pytest.warns(UnknownLevelWarning, match=words):
        fit = ranef.fit(FORMULA, data, start=start, lock="item")
    modes = fit.ranef("item", sd=True)
    assert np.all(modes["(Intercept)"][12:] == 0)
    variances = start.varcorr().query("grp == 'item'")["vcov"]
    np.testing.assert_allclose(modes["sd_(Intercept)"][12:], np.sqrt(variances.iloc[0]))


def test_given_covariances_and_locked_terms_together():
    data = rows()
    sample = ranef.fit(FORMULA, data[:300])
    fit = sample.refit(data, covariance="keep", lock="item")
    assert fit.df == 2
    assert fit.model.info.held == ("user", "day", "Residual")
    assert fit.model.info.locked == ("item",)
    assert fit.iterations == 1
    again = fit.update(data=data[:400])
    assert again.model.info.locked == ("item",)
    with pytest.raises(OptionError, match=r"covariance: item is locked"):
        ranef.fit(FORMULA, data, start=sample, lock="item", covariance=sample.varcorr())
    with pytest.raises(OptionError, match=r"those of item are kept from an earlier fit"):
        fit.confint("profile")


def test_every_factor_locked_leaves_the_fixed_effects():
    data = rows()
    start = ranef.fit(FORMULA, data[:300])
    fit = ranef.fit(FORMULA, data, start=start, lock=["user", "item", "day"])
    part = data["y"] - start.predict(data) + start.predict(data, include="fixed")
    want = np.linalg.lstsq(np.column_stack([np.ones(ROWS), data["x"]]), part, rcond=None)[0]
    np.testing.assert_allclose(fit.fixef()["estimate"], want, rtol=1e-8)


CASES = {
    "no start": ({"lock": "item"}, r"lock= keeps coefficients of an earlier fit: give it as start="),
    "unknown": ({"lock": "itm", "start": FORMULA}, r"no grouping factor 'itm' in the formula; did you mean 'item'"),
    "not in start": ({"lock": "item", "start": OTHERS}, r"no grouping factor 'item' in the fit in start=. It has"),
    "other terms": (
        {"lock": "item", "start": "y ~ x + (1 | item)"},
        r"the terms of 'item' are \(1 \| item\) in the fit in start= and \(1 \+ x \| item\) here",
    ),
    "a number": ({"lock": [3], "start": FORMULA}, r"no grouping factor 3 in the formula"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_locked(case):
    options, words = CASES[case]
    data = rows()
    start = ranef.fit(options["start"], data) if "start" in options else None
    with pytest.raises(OptionError, match=words):
        ranef.fit(FORMULA, data, lock=options["lock"], start=start)
