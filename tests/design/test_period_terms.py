"""``week(t)`` and the like in a formula: the same fit as with a column of levels made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import ranef
from ranef.design.build import build_design
from ranef.errors import DataError, FormulaError, LevelError, OptionError, UnknownLevelWarning
from ranef.formula import parse
from ranef.table import open_source


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """1,040 rows in two years of weeks, the fifth of which are left out."""
    rng = np.random.default_rng(1)
    week = np.tile(np.arange(104), 10)
    week += week % 5 == 4
    days = rng.integers(0, 7, 1040)
    t = pd.Timestamp("1999-03-01") + pd.to_timedelta(7 * week + days, unit="D") + pd.to_timedelta("15h")
    user = rng.integers(0, 12, 1040)
    of_month = rng.normal(size=(12, 30))[user, (week + 3) // 4]
    y = rng.normal(size=110)[week] + rng.normal(size=12)[user] + of_month + rng.normal(size=1040)
    calendar = t.isocalendar()
    return pd.DataFrame(
        {
            "y": y,
            "user": user,
            "t": t,
            "seconds": (t - pd.Timestamp(0)).total_seconds().astype(np.int64),
            "week": [f"{year}-W{week:02d}" for year, week in zip(calendar.year, calendar.week, strict=True)],
            "month": t.strftime("%Y-%m"),
            "year": t.strftime("%Y"),
        }
    )


@pytest.fixture(scope="module")
def fit(rows: pd.DataFrame) -> ranef.Fit:
    return ranef.fit("y ~ 1 + year(t) + (1 | user) + (1 | week(t)) + (1 | user:month(t))", rows)


def test_the_fit_is_that_of_columns_made_by_hand(rows: pd.DataFrame, fit: ranef.Fit) -> None:
    by_hand = ranef.fit("y ~ 1 + year + (1 | user) + (1 | week) + (1 | user:month)", rows)
    assert fit.deviance == by_hand.deviance
    assert list(fit.fixef()["term"]) == ["(Intercept)", "year(t)2000", "year(t)2001"]
    ours, theirs = fit.ranef("week(t)"), by_hand.ranef("week")
    assert list(ours["level"]) == list(theirs["level"])
    np.testing.assert_array_equal(ours["(Intercept)"], theirs["(Intercept)"])


@pytest.mark.parametrize("library", [pl.from_pandas, lambda rows: rows])
def test_numbers_with_a_unit_are_the_same_as_dates(rows: pd.DataFrame, fit: ranef.Fit, library) -> None:
    formula = (
        'y ~ 1 + year(seconds, "s") + (1 | user) + (1 | week(seconds, unit = "s")) + (1 | user:month(seconds, "s"))'
    )
    of_numbers = ranef.fit(formula, library(rows))
    assert of_numbers.deviance == fit.deviance
    assert "week(seconds)" in str(of_numbers)


def test_levels_tell_how_far_apart_they_are(rows: pd.DataFrame) -> None:
    design = build_design(parse("y ~ 1 + (1 | week(t))"), open_source(rows))
    (period,) = design.spec.periods
    gaps = np.diff(period.numbers(design.groups[0].levels))
    assert set(gaps) == {1, 2}


def test_a_saved_model_predicts_weeks_that_it_knows_and_new_ones(
    rows: pd.DataFrame, fit: ranef.Fit, tmp_path: Path
) -> None:
    fit.save(tmp_path / "model")
    model = ranef.load(tmp_path / "model")
    np.testing.assert_array_equal(model.predict(rows), fit.predict(rows))
    later = rows.head(1).assign(t=pd.Timestamp("2010-02-28"))
    with pytest.warns(UnknownLevelWarning, match="'2010-W08' in row 0"):
        assert model.predict(later, include=["week(t)"])[0] == 0
    with pytest.raises(LevelError, match="'2010'"):
        model.predict(later)
    with pytest.raises(OptionError, match="no column 't'"):
        model.predict(rows.drop(columns="t"))
    with pytest.raises(DataError, match="holds numbers"):
        model.predict(rows.assign(t=rows["seconds"]))


def test_contrasts_of_periods(rows: pd.DataFrame) -> None:
    fixed = build_design(parse("y ~ ordered(year(t)) + C(month(t), 'sum') + (1 | user)"), open_source(rows)).spec.fixed
    assert fixed.names[1:3] == ("ordered(year(t)).L", "ordered(year(t)).Q")


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("y ~ log(week(t)) + (1 | user)", "gives levels, not a number"),
        ("year(t) ~ 1 + (1 | user)", "gives levels, not a number"),
        ("y ~ (1 | week(seconds, 's')) + (1 | user:week(seconds, 'ms'))", "two units"),
        ("y ~ (1 | week(seconds + 1, 's'))", "takes a column of dates"),
        ("y ~ (1 | week(t, 'h'))", "the units are D, s"),
    ],
)
def test_wrong_places(rows: pd.DataFrame, formula: str, said: str) -> None:
    with pytest.raises(FormulaError, match=said):
        ranef.fit(formula, rows)


def test_dates_alone_are_pointed_to_the_periods_and_a_name_cannot_stand_twice(rows: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"write day\(t\), week\(t\)"):
        ranef.fit("y ~ t + (1 | user)", rows)
    with pytest.raises(DataError, match="rename"):
        ranef.fit("y ~ 1 + (1 | year(t))", rows.assign(**{"year(t)": 1}))
