"""Attributes in tables of their own are read as if they were columns of the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import ranef
from ranef.design.build import Design, build_design
from ranef.errors import DataError, DroppedRowsWarning, FormulaError, OptionError, UnknownLevelWarning
from ranef.formula import parse
from ranef.table import open_source

RNG = np.random.default_rng(3)
USERS = pd.DataFrame(
    {
        "user": np.arange(20),
        "age": RNG.normal(40, 10, 20).round(1),
        "job": pd.Categorical(RNG.choice(["b", "a", "c"], 20), ["c", "b", "a"]),
        "born": pd.Timestamp("2000-01-01") + pd.to_timedelta(RNG.integers(0, 900, 20), "D"),
    }
)
ITEMS = pl.DataFrame(
    {"item": [f"i{k}" for k in range(8)], "genres": [["x"], ["y", "x"], [], ["z"], ["x", "z"], ["y"], ["x"], ["z"]]}
)
ROWS = pd.DataFrame({"user": RNG.integers(0, 20, 300), "item": RNG.choice(ITEMS["item"].to_numpy(), 300)})
ROWS["y"] = RNG.normal(size=300) + (0.02 * USERS.age.to_numpy() + RNG.normal(size=20))[ROWS.user]
JOINED = ROWS.assign(order=np.arange(300)).merge(USERS, on="user").merge(ITEMS.to_pandas(), on="item")
JOINED = JOINED.sort_values("order").reset_index(drop=True)
TABLES = {"user": USERS, "item": ITEMS}


def design(formula: str, data: object = ROWS, **options: object) -> Design:
    return build_design(parse(formula), open_source(data), **options)


def test_attributes_are_columns() -> None:
    text = "y ~ age + job + (1 | user) + (age | month(born)) + latent(user + job, item + bag(genres), rank = 2)"
    one, other = design(text, tables=TABLES), design(text, JOINED)
    np.testing.assert_array_equal(one.x, other.x)
    assert one.spec.fixed.names == other.spec.fixed.names  # the declared order of the levels too
    for mine, theirs in zip(one.groups, other.groups, strict=True):
        np.testing.assert_array_equal(mine.codes, theirs.codes)
        np.testing.assert_array_equal(mine.covariates, theirs.covariates)
    for mine, theirs in zip(one.latent[0].sides, other.latent[0].sides, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a.codes, b.codes)
            assert a.levels.labels == b.levels.labels
    assert {key: table.column_names for key, table in one.attributes.items()} == {
        "user": ["user", "age", "job", "born"],
        "item": ["item", "genres"],
    }
    assert other.attributes == {}


def test_tables_of_which_nothing_is_used_are_not_kept() -> None:
    assert design("y ~ (1 | user)", tables=TABLES).attributes == {}


@pytest.mark.parametrize(
    ("formula", "data", "tables", "error", "words"),
    [
        ("y ~ age", ROWS, {"usr": USERS}, OptionError, "the data have no column 'usr'; did you mean 'user'"),
        ("y ~ age", ROWS, {"user": ITEMS}, OptionError, "its table has no column 'user'"),
        ("y ~ age", ROWS, [USERS], OptionError, "is a mapping"),
        ("y ~ ag", ROWS, TABLES, FormulaError, "no column `ag`. Did you mean `age`"),
        ("y ~ age", JOINED, TABLES, DataError, "is in the data and in the table of 'user'"),
        ("y ~ age", ROWS, {"user": pd.concat([USERS, USERS[3:4]])}, DataError, "several rows for 1 of its keys, such"),
        ("y ~ age", ROWS, {"user": USERS.assign(user=[None, *range(1, 20)])}, DataError, "1 rows without a key"),
        ("y ~ age", ROWS, {"user": USERS.assign(user=True)[:1]}, DataError, "convert it"),
    ],
)
def test_wrong_tables(formula, data, tables, error, words) -> None:
    with pytest.raises(error) as caught:
        design(formula, data, tables=tables)
    assert words in str(caught.value)


def test_fit_predict_save_and_load(tmp_path: Path) -> None:
    text = "y ~ age + job + (1 | user)"
    fit, plain = ranef.fit(text, ROWS, tables=TABLES), ranef.fit(text, JOINED)
    np.testing.assert_array_equal(fit.fixef()["estimate"], plain.fixef()["estimate"])
    fit.save(tmp_path / "model")
    loaded = ranef.load(tmp_path / "model")
    expected = plain.predict(JOINED)
    for one in (fit, loaded):
        np.testing.assert_array_equal(one.predict(ROWS), expected)
        np.testing.assert_array_equal(one.predict(JOINED), expected)
        new = pd.DataFrame({"user": [99, 3], "age": [50.0, 20.0], "job": ["a", "a"]})
        rows = pd.DataFrame({"user": [99, 3, 4]})
        with pytest.warns(UnknownLevelWarning):
            found = one.predict(rows, tables={"user": new})
        with pytest.warns(UnknownLevelWarning):
            there = plain.predict(pd.concat([new, USERS[4:5]]))
        np.testing.assert_array_equal(found, there)
    np.testing.assert_allclose(loaded.residuals(data=ROWS), fit.residuals())
    assert loaded.refit(ROWS).deviance == pytest.approx(fit.deviance)
    assert "ranef" in repr(fit.update(". ~ . - job"))


def test_unknown_keys_lack_a_value() -> None:
    with pytest.warns(DroppedRowsWarning, match="age"):
        fit = ranef.fit("y ~ age + (1 | user)", ROWS, tables={"user": USERS[2:]})
    assert fit.dropped == int((ROWS.user < 2).sum())
    with pytest.warns((DroppedRowsWarning, UnknownLevelWarning)):
        assert np.isnan(fit.predict(pd.DataFrame({"user": [1, 5]}))).tolist() == [True, False]
    with pytest.raises(OptionError, match="reads no attributes by 'item'; it reads those by 'user'"):
        fit.predict(ROWS, tables={"item": ITEMS})
    with pytest.raises(OptionError, match="lacks 'age'"):
        fit.predict(ROWS, tables={"user": USERS[["user", "job"]]})
