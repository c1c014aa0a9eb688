"""Addends sum to scores, of every class of model; what a saved model keeps of its rows."""

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import ranef
from ranef.errors import OptionError
from ranef.score.explain import past_shares

pytestmark = pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
MODELS = {
    "mixed": ("y ~ age * price + job + (1 + price | user) + (1 | item)", {}),
    "pairs": ("y ~ 1 + offset(price) + (1 | user) + (1 | job:item) + (1 | bag(tags)) + (1 | user:rw(week))", {}),
    "binary": ("good ~ price + (1 | user) + (1 | item)", {"family": "binomial"}),
    "ordinal": ("stars ~ price + (1 | user) + (1 | item)", {"family": "ordinal"}),
    "latent": ("y ~ 1 + (1 | user) + (1 | item) + latent(user + job, item + bag(tags), rank = 2)", {}),
    "fm": ("y ~ 1 + fm(user, item, job, rank = 2)", {}),
    "gibbs": ("y ~ price + (1 | user) + (1 | item)", {"method": "gibbs", "chains": 1, "warmup": 5, "draws": 8}),
    "gibbs latent": (
        "y ~ 1 + (1 | user) + latent(user, item, rank = 2)",
        {"method": "gibbs", "chains": 1, "warmup": 5, "draws": 8},
    ),
    "implicit": ("1 ~ latent(user, item, rank = 2)", {"family": "implicit", "unobserved": 0.2, "penalty": 0.02}),
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    user, item = rng.integers(0, 30, 500), rng.integers(0, 20, 500)
    liking = rng.normal(size=30)[user] + rng.normal(size=20)[item] + rng.normal(size=(30, 20))[user, item]
    y = liking + 0.4 * rng.normal(size=500)
    return pl.DataFrame(
        {
            "y": y,
            "user": [f"u{u:02d}" for u in user],
            "item": item,
            "age": rng.normal(40, 10, 30)[user],
            "job": np.array(list("xyz"))[rng.integers(0, 3, 30)[user]],
            "price": rng.normal(size=20)[item],
            "tags": np.array(["a", "a|b", "b|c"])[rng.integers(0, 3, 20)[item]],
            "week": rng.integers(0, 4, 500),
            "good": (y > 0).astype(int),
            "stars": np.array(["bad", "fair", "good"])[np.digitize(y, [-1, 1])],
        }
    )


@pytest.fixture(scope="module")
def fits(data):
    made = {}

    def fit(name):
        if name not in made:
            formula, options = MODELS[name]
            own = {"max_iterations": 4} if "latent" in formula and not options else {}
            made[name] = ranef.fit(formula, data, **options, **own)
        return made[name]

    return fit


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(MODELS)), seed=st.integers(0, 1000))
def test_addends_sum_to_the_score(fits, data, name, seed):
    fit = fits(name)
    rng = np.random.default_rng(seed)
    rows = data[rng.choice(len(data), 7)]
    new = pl.Series([rng.random() < 0.2 for _ in range(7)])
    rows = rows.with_columns(user=pl.when(new).then(pl.lit("nobody")).otherwise(rows["user"]))
    table = fit.explain(rows)
    total = table.group_by("row").agg(pl.col("addend").sum()).sort("row")["addend"]
    assert_allclose(total, fit.predict(rows, type="link") if name != "implicit" else fit.predict(rows), atol=1e-6)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_addends_sum_in_every_class(fits, data, name):
    fit = fits(name)
    table = fit.explain(data[:9])
    total = table.group_by("row").agg(pl.col("addend").sum()).sort("row")["addend"]
    want = fit.predict(data[:9]) if name == "implicit" else fit.predict(data[:9], type="link")
    assert_allclose(total, want, atol=1e-6)


def test_one_score_with_counts_shrinkage_and_past_items(fits, data):
    fit = fits("latent")
    users, items = data.select("user", "job").unique(), data.select("item", "tags").unique()
    found = fit.explain("u03", 5, tables={"user": users, "item": items}, past=3)
    assert_allclose(found.score, found.addends["addend"].sum(), atol=1e-12)
    own = found.addends.filter((pl.col("group") == "user") & (pl.col("kind") == "random"))
    mine = data.filter(pl.col("user") == "u03")
    assert own["n"].to_list() == [len(mine)]
    assert own["level"].to_list() == ["u03"]
    effects = fit.ranef("user", sd=True).filter(pl.col("level") == "u03")
    variance = fit.varcorr().filter(pl.col("grp") == "user")["vcov"][0]
    assert_allclose(own["shrinkage"], effects["sd_(Intercept)"] ** 2 / variance, rtol=1e-8)
    assert set(found.past["item"]) <= set(mine["item"]) - {5}
    assert len(found.past) == 3
    assert found.past["addend"].abs().is_sorted(descending=True)
    unknown = fit.explain("nobody", 5, tables={"user": users, "item": items})
    assert unknown.addends.filter(pl.col("group") == "user")["shrinkage"].to_list() == [1.0]
    assert len(unknown.past) == 0


def test_past_items_that_span_the_vector_sum_to_the_product():
    rng = np.random.default_rng(0)
    vector, target, past = rng.normal(size=3), rng.normal(size=3), rng.normal(size=(8, 3))
    assert_allclose(past_shares(vector, target, past).sum(), vector @ target, rtol=1e-10)


@pytest.mark.parametrize("name", ["mixed", "implicit"])
def test_a_saved_model_keeps_pairs_and_counts(fits, data, tmp_path, name):
    fit = fits(name)
    tables = None
    if name == "mixed":
        tables = {
            "user": data.select("user", "age", "job").unique(),
            "item": data.select("item", "price").unique(),
        }
    fit.save(tmp_path / "with", seen=True)
    fit.save(tmp_path / "without")
    want = fit.recommend(k=20, exclude="seen", tables=tables)
    loaded = ranef.load(tmp_path / "with")
    got = loaded.recommend(k=20, exclude="seen", tables=tables)
    assert np.asarray(got["item"]).tolist() == want["item"].to_list()
    assert np.asarray(got["user"]).tolist() == want["user"].to_list()
    # saved again, they are still there
    loaded.save(tmp_path / "again")
    again = ranef.load(tmp_path / "again").recommend(k=20, exclude="seen", tables=tables)
    assert len(again) == len(want)
    bare = ranef.load(tmp_path / "without")
    with pytest.raises(OptionError, match="save it with seen=True"):
        bare.recommend(exclude="seen", tables=tables)
    pair = {"entity": "user", "target": "item", "tables": tables}
    counts = [list(one.explain("u03", 5, **pair).addends["n"]) for one in (fit, loaded)]
    assert counts[0] == counts[1]


def test_wrong_uses(fits, data, tmp_path):
    with pytest.raises(OptionError, match="leave out context"):
        fits("mixed").explain(data, context={"week": 1})
    with pytest.raises(OptionError, match="takes one 'user'"):
        fits("implicit").explain(["u01", "u02"], 3)
    with pytest.raises(OptionError, match="seen='all'"):
        fits("implicit").save(tmp_path / "x", seen="all")
