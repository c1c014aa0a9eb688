"""Two towers against predictions, pair by pair."""

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ranef
from ranef.errors import OptionError
from ranef.score import pair_terms, predict
from ranef.score.towers import compile_towers
from ranef.table import open_source

USERS, ITEMS, ROWS = 30, 20, 600


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    user, item = rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS)
    age, job = rng.normal(40, 10, USERS), rng.integers(0, 3, USERS)
    price, genre = rng.normal(5, 1, ITEMS), rng.integers(0, 4, ITEMS)
    tags = np.array(["a", "a|b", "b|c", "c"])[rng.integers(0, 4, ITEMS)]
    bias, liking = rng.normal(size=ITEMS), rng.normal(size=(USERS, 4))
    y = 0.02 * age[user] + bias[item] + liking[user, genre[item]] + rng.normal(size=ROWS)
    return pl.DataFrame(
        {
            "y": y,
            "user": [f"u{u:02d}" for u in user],
            "item": item + 100,
            "age": age[user],
            "job": np.array(["x", "y", "z"])[job[user]],
            "price": price[item],
            "genre": np.array(list("abcd"))[genre[item]],
            "tags": tags[item],
            "hour": rng.integers(0, 3, ROWS).astype(float),
            "week": rng.integers(0, 5, ROWS),
            "good": (y > np.median(y)).astype(int),
        }
    )


def attributes(data):
    users = data.select("user", "age", "job").unique("user", maintain_order=True)
    items = data.select("item", "price", "genre", "tags").unique("item", maintain_order=True)
    return {"user": users, "item": items}


def check(fit, data, context=None, tolerance=1e-10):
    towers = compile_towers(fit.model, "user", "item", attributes(data), context)
    tables = attributes(data)
    grid = tables["user"].join(tables["item"], how="cross")
    for name, value in (context or {}).items():
        grid = grid.with_columns(pl.lit(value).alias(name))
    want = predict(fit.model, open_source(grid), kind="link").fit
    u = {level: place for place, level in enumerate(towers.entities.values.to_pylist())}
    i = {level: place for place, level in enumerate(towers.targets.values.to_pylist())}
    users = np.array([u[one] for one in grid["user"]])
    items = np.array([i[one] for one in grid["item"]])
    assert_allclose(towers.scores(users, items), want, rtol=tolerance, atol=tolerance)
    assert towers.known_entities.all()
    assert towers.known_targets.all()
    return towers


MIXED = [
    ("y ~ 1 + (1 | user) + (1 | item)", {}, 2),
    ("y ~ age * price + genre + (1 + price | user) + (1 + age | item)", {}, None),
    ("y ~ age:genre + I(price > 5) + poly(age, 2) + (0 + genre || user) + (job | item)", {}, None),
    ("y ~ hour * price + (1 | user) + (1 + hour | item) + (1 | hour:item)", {"hour": 2.0}, None),
    ("y ~ 1 + offset(price) + offset(age / 10) + (1 | user:genre) + (1 | job) + (1 | item)", {}, None),
    ("y ~ 1 + (1 | user) + (0 + price | user:item) + (1 | item)", {}, None),
    ("y ~ 1 + (1 | user) + (1 | item) + (1 | bag(tags)) + (1 | user:rw(week))", {"week": 3}, None),
]


@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
@pytest.mark.parametrize(("formula", "context", "width"), MIXED)
def test_towers_of_mixed_models_are_their_predictions(data, formula, context, width, monkeypatch):
    fit = ranef.fit(formula, data)
    towers = check(fit, data, context)
    if "user:item" in formula:
        # written out as columns before, as pairs now
        monkeypatch.setattr(pair_terms, "MOST_COLUMNS", 1)
        assert check(fit, data, context).pairs is not None
    if width is not None:
        assert towers.width <= width


@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
@pytest.mark.parametrize(
    "formula",
    [
        "y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank = 2)",
        "y ~ price + latent(user + job, item + bag(tags), rank = 2)",
        "y ~ 1 + fm(user, item, job, genre, rank = 2)",
        "y ~ 1 + latent(user + bag(history(item)), item, rank = 2)",
        "y ~ 1 + latent(user + genre, item + job, rank = 2)",
    ],
)
def test_towers_of_latent_terms_are_their_predictions(data, formula):
    check(ranef.fit(formula, data, max_iterations=5), data)


@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_towers_of_draws_are_their_predictions(data):
    options = {"method": "gibbs", "chains": 1, "warmup": 5, "draws": 8}
    check(ranef.fit("y ~ price + (1 | user) + (1 | item)", data, **options), data)
    # vectors are kept, and multiplied in predictions, in float32
    check(ranef.fit("y ~ 1 + (1 | user) + latent(user, item, rank = 2)", data, **options), data, tolerance=2e-5)


def test_towers_of_probabilities_are_linear_predictors(data):
    check(ranef.fit("good ~ price + (1 | user) + (1 | item)", data, family="binomial"), data)


@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_new_levels_of_tables_and_unknown_ones(data):
    tables = attributes(data)
    own = data.drop("age", "price", "job", "genre", "tags")
    fit = ranef.fit("y ~ age + price + (1 | user) + (1 | item)", own, tables=tables)
    new = {
        "user": pl.DataFrame({"user": ["new"], "age": [20.0]}),
        "item": pl.DataFrame({"item": [7], "price": [2.0]}),
    }
    towers = compile_towers(fit.model, tables=new)
    assert towers.entities.values.to_pylist()[-1] == "new"
    assert_array_equal(towers.known_entities, [True] * USERS + [False])
    assert_array_equal(towers.known_targets, [True] * ITEMS + [False])
    with pytest.warns(ranef.errors.UnknownLevelWarning):
        want = fit.predict({"user": ["new", "new"], "item": [7, 100]}, tables=new)
    assert_allclose(towers.scores(np.array([USERS, USERS]), np.array([ITEMS, 0])), want, rtol=1e-12)
    # of an unknown entity: the mean of what attributes alone say
    ages = pl.concat([tables["user"].select("user", "age"), new["user"]])["age"].mean()
    beta = fit.fixef()["estimate"].to_numpy()
    item = fit.ranef("item")["(Intercept)"].to_numpy()[0]
    price = tables["item"].sort("item")["price"][0]
    assert_allclose(towers.scores(np.array([-1]), np.array([0])), beta @ [1, ages, price] + item, rtol=1e-10)


def test_says_why_it_cannot(data):
    fit = ranef.fit("y ~ price + (1 | user)", data)
    with pytest.raises(OptionError, match="cannot recommend: it has one factor, 'user'"):
        compile_towers(fit.model)
    items = {"item": attributes(data)["item"]}
    assert len(compile_towers(fit.model, target="item", tables=items).targets) == ITEMS
    both = ranef.fit("y ~ price + hour + (1 | user) + (1 | item)", data)
    with pytest.raises(OptionError, match=r"reads 'hour', which is no attribute.*context={'hour'"):
        compile_towers(both.model, tables=attributes(data))
    with pytest.raises(OptionError, match=r"target='itm'.*did you mean 'item'"):
        compile_towers(both.model, target="itm")
    three = ranef.fit("y ~ 1 + (1 | user) + (1 | item) + (1 | job)", data)
    with pytest.raises(OptionError, match="factors 'user', 'item', 'job': say which"):
        compile_towers(three.model)
    mixed = ranef.fit("y ~ I(age * price) + (1 | user) + (1 | item)", data)
    with pytest.raises(OptionError, match="mixes columns of 'user' and of 'item'"):
        compile_towers(mixed.model, tables=attributes(data))
