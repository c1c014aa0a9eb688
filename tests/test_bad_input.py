"""What a newcomer does wrong -> the error's class and the words that help. Everything through the front door."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ranef
from ranef import DataError, FitError, FormulaError, LevelError, ModelFileError, OptionError

ROWS = 40
ROW = np.arange(ROWS)
MODEL = "y ~ x + (1 | g)"
DAYS = pa.array([datetime.date(2024, 1, 1 + i % 28) for i in range(ROWS)])


def table(**changes: Any) -> dict[str, Any]:
    """Eight groups ``g`` of five rows, crossed with four of ``h``; a column that is None is left out."""
    rng = np.random.default_rng(1)
    columns = {
        "y": rng.normal(size=ROWS) + 0.5 * (ROW // 5),
        "x": rng.normal(size=ROWS),
        "g": [f"g{i // 5}" for i in range(ROWS)],
        "h": [f"h{i % 4}" for i in range(ROWS)],
        "w": np.ones(ROWS),
    } | changes
    return {name: column for name, column in columns.items() if column is not None}


def put(column: str, row: int, value: float) -> dict[str, Any]:
    """The table with one value changed."""
    values = np.array(table()[column], dtype=np.float64)
    values[row] = value
    return table(**{column: values})


def weights(row: int, value: float) -> npt.NDArray[np.float64]:
    values = np.ones(ROWS)
    values[row] = value
    return values


def twice_x() -> pd.DataFrame:
    return pd.DataFrame(table()).rename(columns={"w": "x"})


# what was done: formula, data, options, class of the error, words of its message
Case = tuple[str, Any, dict[str, Any], type[Exception], tuple[str, ...]]
CASES: dict[str, Case] = {
    # values
    "infinite response": (
        *(MODEL, put("y", 7, np.inf), {}, DataError),
        ("column 'y' has 1 infinite value, the first in row 7", "leave these rows out"),
    ),
    "infinite covariate": (MODEL, put("x", 9, -np.inf), {}, DataError, ("column 'x'", "row 9")),
    "infinite weight column": (MODEL, put("w", 3, np.inf), {"weights": "w"}, DataError, ("column 'w'", "row 3")),
    "infinite weight": (
        *(MODEL, table(), {"weights": weights(3, np.inf)}, DataError),
        ("weights has 1 infinite weight, the first in row 3",),
    ),
    "too large a covariate": (
        *(MODEL, put("x", 4, 1e200), {}, DataError),
        ("column 'x'", "too large", "1e+200", "divide it by a power of ten"),
    ),
    "too small a response": (MODEL, table(y=1e-200 * ROW), {}, DataError, ("column 'y'", "too small", "multiply")),
    "product too large": ("y ~ I(x * w) + (1 | g)", table(x=1e20 * ROW, w=1e20 * ROW), {}, DataError, ("too large",)),
    "logarithm of zero": (
        *("y ~ log(x) + (1 | g)", table(x=1.0 * ROW), {}, DataError),
        ("log(x) (column 'x') is not a finite number in row 0", "above 0"),
    ),
    "logarithm of a negative number, after rows that are dropped": (
        "y ~ log(x) + (1 | g)",
        table(x=np.where(ROW < 3, np.nan, np.where(ROW == 9, -1, 1.0 + ROW))),
        {},
        DataError,
        ("log(x) (column 'x')", "in row 9"),
    ),
    # rows
    "no rows": (MODEL, {name: column[:0] for name, column in table().items()}, {}, DataError, ("no rows", "filtered")),
    "no columns": (MODEL, {}, {}, DataError, ("no columns",)),
    "one row": (MODEL, {name: column[:1] for name, column in table().items()}, {}, DataError, ("one row",)),
    "constant response": (
        *(MODEL, table(y=np.full(ROWS, 3.0)), {}, DataError),
        ("response y has the same value, 3, in all 40 rows",),
    ),
    "all rows missing": (
        *(MODEL, table(x=np.full(ROWS, np.nan)), {}, DataError),
        ("none of the 40 rows is left", "missing values in x: 40", "leave them out of the formula"),
    ),
    "all groups missing": (MODEL, table(g=[None] * ROWS), {}, DataError, ("none of the 40 rows", "g: 40")),
    "missing values where none are allowed": (
        *(MODEL, put("x", 6, np.nan), {"missing": "raise"}, DataError),
        ("1 row lacks a value (x: 1), the first is row 6", "missing='drop'"),
    ),
    # levels
    "grouping factor of one level": (
        *(MODEL, table(g=["a"] * ROWS), {}, DataError),
        ("grouping factor 'g' has one level, 'a'", "drop the term"),
    ),
    "fixed factor of one level": (
        *("y ~ h + (1 | g)", table(h=["a"] * ROWS), {}, DataError),
        ("column 'h' has only the level 'a'", "drop h from the formula"),
    ),
    "one level a row": (
        *(MODEL, table(g=list(range(ROWS))), {}, DataError),
        ("grouping factor 'g' has 40 levels in 40 rows", "coarser"),
    ),
    "more random effects than rows": (
        *("y ~ x + (x + h | g)", table(g=[f"{i // 2}" for i in range(ROWS)]), {}, DataError),
        ("(1 + x + h | g) has 100 random effects (5 for each of 20 levels)", "only 40 rows", "slopes"),
    ),
    "fixed and random": (
        *("y ~ g + (x | g)", table(), {}, DataError),
        ("every level of grouping factor 'g' its own (Intercept)", "drop the random effect"),
    ),
    "slopes fixed and random": ("y ~ h * x + (0 + x | h)", table(), {}, DataError, ("grouping factor 'h' its own x",)),
    "more fixed effects than rows": (
        *("y ~ factor(x) + (1 | g)", table(), {}, FitError),
        ("the fixed part has 40 columns but there are only 40 rows",),
    ),
    "a level that is not there": (
        *("y ~ I(h == 'h9') + (1 | g)", table(), {}, DataError),
        ("column 'h' has no level 'h9'", "did you mean 'h"),
    ),
    # types
    "text response": (
        *(MODEL, table(y=["a"] * ROWS), {}, DataError),
        ("column 'y'", "where a number is needed", "family for categories: 'ordinal'", "row 0"),
    ),
    "one text among the numbers": (
        *(MODEL, table(y=["1.5"] * 39 + ["n/a"]), {}, DataError),
        ("column 'y'", "convert it to a number", "row 39 holds 'n/a'"),
    ),
    "text in arithmetic": (
        *("y ~ I(h + 1) + (1 | g)", table(), {}, DataError),
        ("column 'h' holds text or categories but stands in h + 1 where a number is needed",),
    ),
    "text weights": (MODEL, table(), {"weights": "h"}, DataError, ("column 'h'", "row 0 holds 'h0'")),
    "dates as numbers": (
        *("y ~ d + (1 | g)", table(d=DAYS), {}, DataError),
        ("column 'd' holds dates", "days since a start", "factor(d)"),
    ),
    "dates in arithmetic": ("y ~ log(d) + (1 | g)", table(d=DAYS), {}, DataError, ("column 'd' holds dates", "log(d)")),
    "list column": (
        *("y ~ l + (1 | g)", table(l=pa.array([[1]] * ROWS)), {}, DataError),
        ("column 'l' holds neither numbers, text", "convert it"),
    ),
    "list column as group": ("y ~ 1 + (1 | l)", table(l=pa.array([[1]] * ROWS)), {}, DataError, ("column 'l' holds",)),
    "struct column": ("y ~ s + (1 | g)", table(s=pa.array([{"a": 1}] * ROWS)), {}, DataError, ("column 's' holds",)),
    "mixed types": ("y ~ s + (1 | g)", table(s=[1, "a"] * 20), {}, DataError, ("column 's' mixes types", "one type")),
    "mixed types in pandas": (
        *("y ~ s + (1 | g)", pd.DataFrame(table(s=[1, "a"] * 20)), {}, DataError),
        ("column 's' mixes types", "convert it to one type"),
    ),
    "matrix in a column": (MODEL, table(x=np.zeros((ROWS, 2))), {}, DataError, ("column 'x' has shape (40, 2)",)),
    "duplicate names": (MODEL, twice_x(), {}, DataError, ("2 columns of the data are named 'x'", "rename or drop")),
    # weights and offset
    "negative weight": (
        *(MODEL, table(), {"weights": weights(5, -2)}, DataError),
        ("weights has 1 negative weight, the first in row 5 (-2)", "at least 0"),
    ),
    "negative weight in a column": (MODEL, put("w", 5, -1), {"weights": "w"}, DataError, ("column 'w'", "row 5")),
    "all weights zero": (
        *(MODEL, table(), {"weights": np.zeros(ROWS)}, DataError),
        ("none of the 40 rows is left", "weight zero in 40 rows"),
    ),
    "too few weights": (MODEL, table(), {"weights": np.ones(3)}, OptionError, ("shape (3,)", "40 rows")),
    "weights that are no numbers": (MODEL, table(), {"weights": ["a"] * ROWS}, OptionError, ("array of numbers",)),
    "unknown weights": (
        *(MODEL, table(wt=np.ones(ROWS)), {"weights": "wts"}, OptionError),
        ("weights='wts'", "did you mean 'wt'"),
    ),
    "missing weights where none are allowed": (
        *(MODEL, table(), {"weights": weights(5, np.nan), "missing": "raise"}, DataError),
        ("weights: 1", "row 5"),
    ),
    "offset as an array": (
        *(MODEL, table(), {"offset": np.ones(ROWS)}, OptionError),
        ("offset must be the name of a column",),
    ),
    # formulas
    "unknown column": (
        *("y ~ agee + (1 | g)", table(age=ROW), {}, FormulaError),
        ("no column `agee`", "Did you mean `age`", "\n        ^^^^"),
    ),
    "unknown group": ("y ~ x + (1 | gg)", table(), {}, FormulaError, ("no column `gg`", "`g`", f"\n{' ' * 17}^^")),
    "parenthesis never closed": (
        *("y ~ x + (1 | g", table(), {}, FormulaError),
        ("never closed", "    y ~ x + (1 | g\n            ^"),
    ),
    "parenthesis never opened": ("y ~ x + 1 | g)", table(), {}, FormulaError, ("closes nothing", f"\n{' ' * 17}^")),
    "no tilde": ("y + x", table(), {}, FormulaError, ("no `~`", "    y + x\n    ^^^^^")),
    "no right side": ("y ~", table(), {}, FormulaError, ("right side is missing", "\n      ^")),
    "no response": ("~ x + (1 | g)", table(), {}, FormulaError, ("no response", "\n    ^")),
    "no formula": ("", table(), {}, FormulaError, ("empty", "`y ~ x + (1 | group)`")),
    "formula and data swapped": (table(), MODEL, {}, FormulaError, ("A formula is a text", "not dict")),
    "unknown function": (
        *("y ~ lgo(x) + (1 | g)", table(), {}, FormulaError),
        ("`lgo` is not a column operation", "Did you mean log", "\n        ^^^^^^"),
    ),
    "no code": ("y ~ `__import__`('os') + (1 | g)", table(), {}, FormulaError, ("^",)),
    "bar without parentheses": ("y ~ x + 1 | g", table(), {}, FormulaError, ("stands in parentheses", "^^^^^^^^^")),
    "no group": ("y ~ x + (1|)", table(), {}, FormulaError, ("group is missing", "`(1 | group)`", f"\n{' ' * 14}^")),
    "nothing left of the bar": ("y ~ x + (|g)", table(), {}, FormulaError, ("left of the bar", f"\n{' ' * 13}^")),
    "group that is computed": ("y ~ (1 | log(g))", table(), {}, FormulaError, ("add a column", "^^^^^^")),
    "response on the right": ("y ~ x + y + (1 | g)", table(), {}, FormulaError, ("response `y` is also", "^")),
    "response as a slope": ("y ~ x + (y | g)", table(), {}, FormulaError, ("response `y` is also", f"\n{' ' * 13}^")),
    "response as a group": ("y ~ x + (1 | y)", table(), {}, FormulaError, ("response `y` is also", "^^^^^^^")),
    "two responses": ("cbind(y, x) ~ 1 + (1 | g)", table(), {}, FormulaError, ("binomial", "^^^^^^^^^^^")),
    # options
    "wrong method": (
        MODEL,
        table(),
        {"method": "mle"},
        OptionError,
        ("method='mle'", "'reml', 'ml' or 'gibbs'", "did you mean 'ml'"),
    ),
    "wrong family": (
        MODEL,
        table(),
        {"family": "gausian"},
        OptionError,
        ("family='gausian'", "did you mean 'gaussian'"),
    ),
    "wrong link": (MODEL, table(), {"link": "log"}, OptionError, ("link='log'", "'identity'")),
    "wrong solver": (MODEL, table(), {"solver": "fast"}, OptionError, ("solver='fast'", "'auto'")),
    "wrong missing": (MODEL, table(), {"missing": "ignore"}, OptionError, ("missing='ignore'", "'drop' or 'raise'")),
    "wrong tolerance": (MODEL, table(), {"tolerance": -1}, OptionError, ("tolerance=-1", "between 0 and 1")),
    "NaN as tolerance": (MODEL, table(), {"tolerance": math.nan}, OptionError, ("tolerance=nan",)),
    "no iterations": (MODEL, table(), {"max_iterations": 0}, OptionError, ("max_iterations=0", "at least 1")),
    "half an iteration": (MODEL, table(), {"max_iterations": 1.5}, OptionError, ("max_iterations=1.5", "whole number")),
    "no threads": (MODEL, table(), {"threads": 0}, OptionError, ("threads=0", "positive whole number")),
    "threads in words": (MODEL, table(), {"threads": "all"}, OptionError, ("threads='all'", "None for all cores")),
    "wrong start": (MODEL, table(), {"start": 3}, OptionError, ("start=int", "earlier Fit")),
    # families
    "a family of another response": (MODEL, table(), {"family": "bernoulli"}, DataError, ("y must be 0 or 1", "row 0")),
    "three classes of two": (
        "h ~ x + (1 | g)",
        table(h=[f"h{i % 3}" for i in range(ROWS)]),
        {"family": "bernoulli"},
        DataError,
        ("h has 3 levels", 'h == "h2" ~', "family 'ordinal'"),
    ),
    "no success": (
        MODEL,
        table(y=np.zeros(ROWS)),
        {"family": "bernoulli"},
        DataError,
        ("same value, 0", "no variation"),
    ),
    "no failure": (MODEL, table(y=np.ones(ROWS)), {"family": "binomial"}, DataError, ("same value, 1, in all",)),
    "no count": (MODEL, table(y=np.zeros(ROWS)), {"family": "poisson"}, DataError, ("same value, 0, in all",)),
    "one category": (MODEL, table(y=["a"] * ROWS), {"family": "ordinal"}, DataError, ("y",)),
    "half a count": (MODEL, put("y", 3, 0.5), {"family": "poisson"}, DataError, ("y must be a count", "whole number")),
    "a negative count": (
        MODEL,
        table(y=np.where(ROW == 3, -1, ROW)),
        {"family": "negative_binomial"},
        DataError,
        ("y must be a count", "row 3 has -1"),
    ),
    "text as a count": (MODEL, table(y=["a"] * ROWS), {"family": "poisson"}, DataError, ("column 'y'", "'a'")),
    "zero of a positive number": (
        MODEL,
        table(y=np.where(ROW == 7, 0.0, 1.0 + ROW)),
        {"family": "gamma"},
        DataError,
        ("y must be above 0", "row 7 has 0"),
    ),
    "a proportion without trials": (
        MODEL,
        table(y=ROW / ROWS),
        {"family": "binomial"},
        DataError,
        ("one trial a row", "as weights", "cbind(successes, failures)"),
    ),
    "half a trial": (
        MODEL,
        table(y=ROW % 2 * 1.0, w=np.full(ROWS, 1.5)),
        {"family": "binomial", "weights": "w"},
        DataError,
        ("weights", "trials, whole"),
    ),
    "negative failures": (
        "cbind(s, 5 - s) ~ x + (1 | g)",
        table(s=ROW % 7),
        {"family": "binomial"},
        DataError,
        ("failures in cbind(s, 5 - s)", "the first is row 6 with -1"),
    ),
    "trials twice": (
        "cbind(s, 7 - s) ~ x + (1 | g)",
        table(s=ROW % 7),
        {"family": "binomial", "weights": "w"},
        OptionError,
        ("cbind", "leave the weights out"),
    ),
    "an ordinal model without intercept": (
        "h ~ 0 + x + (1 | g)",
        table(),
        {"family": "ordinal"},
        FormulaError,
        ("thresholds", "^"),
    ),
    "two equidistant categories": (
        MODEL,
        table(y=ROW % 2),
        {"family": ranef.ordinal(thresholds="equidistant")},
        OptionError,
        ("equidistant thresholds need 3 categories or more",),
    ),
    "wrong thresholds": (
        MODEL,
        table(y=ROW % 3),
        {"family": "ordinal", "link": "log"},
        OptionError,
        ("link='log'", "family='ordinal'", "'logit', 'probit' or 'cloglog'"),
    ),
    "a link twice": (
        MODEL,
        table(y=ROW % 2),
        {"family": ranef.bernoulli("probit"), "link": "logit"},
        OptionError,
        ("'probit'", "link='logit'", "give it once"),
    ),
    "REML of counts": (MODEL, table(y=ROW), {"family": "poisson", "method": "reml"}, OptionError, ("'laplace' or",)),
    "Laplace of numbers": (MODEL, table(), {"method": "laplace"}, OptionError, ("family='gaussian'", "'reml'")),
    "complete separation": (
        MODEL,
        table(y=(np.array(table()["x"]) > 0) * 1.0),
        {"family": "bernoulli"},
        FitError,
        ("no maximum: x can grow", "Merge levels, leave out columns"),
    ),
    "complete separation of categories": (
        MODEL,
        table(y=np.digitize(table()["x"], [-0.5, 0.5])),
        {"family": "ordinal", "link": "probit"},
        FitError,
        ("no maximum: x can grow",),
    ),
    "a response computed from the right": (
        MODEL,
        table(y=np.exp(np.array(table()["x"]))),
        {"family": "gamma"},
        FitError,
        ("dispersion goes to zero", "computed from the columns on the right"),
    ),
    # what is no table
    "a number": (MODEL, 42, {}, OptionError, ("42 is not a table", "pass a data frame")),
    "nothing": (MODEL, None, {}, OptionError, ("is not a table",)),
    "a matrix": (MODEL, np.zeros((3, 3)), {}, OptionError, ("ndarray is not a table",)),
    "rows as dicts": (MODEL, [{"y": 1.0}], {}, OptionError, ("a list of dict is not a table",)),
    "unequal lengths": (MODEL, table(x=[1.0, 2.0]), {}, DataError, ("column 'x' has 2 rows, but 'y' has 40",)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore::ranef.DroppedRowsWarning")
def test_refused(case: Case) -> None:
    formula, data, options, error, words = case
    with pytest.raises(error) as caught:
        ranef.fit(formula, data, **options)
    check(caught.value, words)


def check(error: BaseException, words: tuple[str, ...]) -> None:
    message = str(error)
    for word in words:
        assert word in message
    assert " 1 rows" not in message
    assert isinstance(error, ranef.RanefError)


@pytest.mark.parametrize(("row", "frame"), [(7, pd.DataFrame), (7, pl.DataFrame), (7, pa.table), (7, dict)])
def test_the_error_carries_column_row_and_count(row: int, frame: Callable[..., Any]) -> None:
    with pytest.raises(DataError) as caught:
        ranef.fit(MODEL, frame(put("y", row, np.inf)))
    assert (caught.value.column, caught.value.row, caught.value.count) == ("y", row, 1)


FILES = {
    "no such file": ("rows.parquet", None, OptionError, ("no such file", "rows.parquet")),
    "corrupt Parquet": ("rows.parquet", "junk" * 10, DataError, ("rows.parquet cannot be read as Parquet",)),
    "ragged CSV": (
        "rows.csv",
        "y,x,g\n1,2,a\n3,b\n",
        DataError,
        ("rows.csv cannot be read", "Expected 3 columns, got 2"),
    ),
    "CSV without rows": ("rows.csv", "y,x,g\n", DataError, ("no rows",)),
    "text in a CSV": ("rows.csv", "y,x,g\n1,2,a\noops,3,b\n", DataError, ("column 'y'", "row 1 holds 'oops'")),
    "unknown format": ("rows.xlsx", "", OptionError, ("rows.xlsx", "extension", ".parquet, .csv")),
}


@pytest.mark.parametrize("name", FILES)
def test_refused_files(name: str, tmp_path: Path) -> None:
    file, content, error, words = FILES[name]
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(error) as caught:
        ranef.fit(MODEL, tmp_path / file)
    check(caught.value, words)


# --- what is not an error


def test_aliased_columns_are_dropped_as_by_r() -> None:
    """R's rule: a column that those before it determine is left out, and the rest is as if it had not been written."""
    data = table(u=3 - 2 * np.array(table()["x"]), k=[f"k{i % 2}" for i in range(ROWS)])
    with pytest.warns(ranef.DroppedColumnsWarning, match="rank-deficient: left out u, kk1, which the columns before"):
        fit = ranef.fit("y ~ x + h + u + k + (1 | g)", data)
    plain = ranef.fit("y ~ x + h + (1 | g)", data)
    assert list(fit.fixef()["term"]) == list(plain.fixef()["term"]) == ["(Intercept)", "x", "hh1", "hh2", "hh3"]
    np.testing.assert_allclose(fit.fixef()["estimate"], plain.fixef()["estimate"], rtol=1e-7)
    np.testing.assert_allclose(fit.fixef()["se"], plain.fixef()["se"], rtol=1e-6)
    assert fit.deviance == pytest.approx(plain.deviance, rel=1e-10)
    assert (fit.df, fit.nobs) == (plain.df, plain.nobs)


def test_a_constant_covariate_is_the_intercept_again() -> None:
    with pytest.warns(ranef.DroppedColumnsWarning, match="left out x"):
        fit = ranef.fit(MODEL, table(x=np.full(ROWS, 2.0)))
    assert list(fit.fixef()["term"]) == ["(Intercept)"]


@pytest.mark.parametrize("given", ["w", "array"])
@pytest.mark.parametrize(("value", "reason"), [(np.nan, "without w"), (0.0, "of weight zero")])
def test_rows_without_weight_are_dropped_and_counted(given: str, value: float, reason: str) -> None:
    data, w = put("w", 5, value), weights(5, value)
    with pytest.warns(ranef.DroppedRowsWarning, match=f"1 of 40 rows were dropped: 1 {reason}"):
        fit = ranef.fit(MODEL, data, weights="w" if given == "w" else w)
    assert (fit.nobs, fit.dropped) == (39, 1)


def test_without_a_random_term_it_is_a_linear_model() -> None:
    data = table()
    fit = ranef.fit("y ~ x", data)
    design = np.column_stack([np.ones(ROWS), data["x"]])
    beta, square, *_ = np.linalg.lstsq(design, data["y"], rcond=None)
    np.testing.assert_allclose(fit.fixef()["estimate"], beta, rtol=1e-8)
    assert fit.sigma**2 == pytest.approx(square[0] / (ROWS - 2), rel=1e-8)
    assert fit.converged
    assert not fit.singular


def test_crossed_factors_without_fixed_effects() -> None:
    data = table(y=table()["y"] + ROW % 4)
    fit = ranef.fit("y ~ 0 + (1 | g) + (1 | h)", data)
    covariance = fit.sigma**2 * np.eye(ROWS)
    for group, variance in zip(fit.varcorr()["grp"], fit.varcorr()["vcov"], strict=True):
        if group != "Residual":
            levels = np.array(data[group])
            covariance += variance * (levels[:, None] == levels)
    deviance = np.linalg.slogdet(2 * np.pi * covariance)[1] + data["y"] @ np.linalg.solve(covariance, data["y"])
    assert fit.deviance == pytest.approx(deviance, rel=1e-9)


# --- a fit that is used wrongly


@pytest.fixture(scope="module")
def fit() -> ranef.Fit:
    return ranef.fit("y ~ x + h + (1 | g)", table())


def new(**changes: Any) -> dict[str, Any]:
    rows = {"x": [0.0, 1.0], "g": ["g1", "g1"], "h": ["h1", "h2"]} | changes
    return {name: column for name, column in rows.items() if column is not None}


PREDICTIONS = {
    "new level": (
        *(new(g=["g1", "g99"]), {"new_levels": "raise"}, LevelError),
        ("grouping factor 'g'", "'g99' in row 1", "new_levels='population'"),
    ),
    "new fixed level": (
        new(h=["h1", "H9"]),
        {},
        LevelError,
        ("column 'h'", "'H9' in row 1", "Known levels: 'h0', 'h1'"),
    ),
    "missing column": (new(x=None), {}, OptionError, ("no column 'x' in the data",)),
    "missing group": (new(g=None), {}, OptionError, ("no column 'g' in the data",)),
    "infinite covariate": (new(x=[0.0, np.inf]), {}, DataError, ("column 'x' is infinite in row 1",)),
    "text for a number": (new(x=["0", "one"]), {}, DataError, ("column 'x' is text", "row 1 holds 'one'")),
    "numbers for text": (
        new(g=[1.5, 2]),
        {},
        DataError,
        ("column 'g' was text when the model was fitted", "floating-point now"),
    ),
    "no table": (3, {}, OptionError, ("3 is not a table",)),
    "wrong interval": (new(), {"interval": "confidnce"}, OptionError, ("interval", "'confidence'", "'confidnce'")),
    "per cent for a level": (new(), {"interval": "prediction", "level": 95}, OptionError, ("level=95", "0.95")),
    "unknown part": (new(), {"include": "gg"}, OptionError, ("include", "'gg'", "'fixed', 'g', '(1 | g)'")),
    "part that is no name": (new(), {"exclude": 3}, OptionError, ("exclude", "list of names, not 3")),
    "include and exclude": (new(), {"include": "g", "exclude": "g"}, OptionError, ("both given",)),
    "wrong type": (new(), {"type": "probs"}, OptionError, ("type='probs'", "'response' or 'link'")),
    "wrong new_levels": (new(), {"new_levels": "skip"}, OptionError, ("new_levels='skip'", "'population' or 'raise'")),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_refused_predictions(name: str, fit: ranef.Fit) -> None:
    data, options, error, words = PREDICTIONS[name]
    with pytest.raises(error) as caught:
        fit.predict(data, **options)
    check(caught.value, words)


def test_rows_without_a_prediction_are_counted(fit: ranef.Fit) -> None:
    with pytest.warns(ranef.DroppedRowsWarning, match="1 of 2 rows have no prediction"):
        found = fit.predict(new(x=[np.nan, 1.0]))
    assert np.isnan(found).tolist() == [True, False]
    with pytest.warns(ranef.UnknownLevelWarning, match="1 of 2 rows .* level of 'g' .* 'g99' in row 1"):
        fit.predict(new(g=["g1", "g99"]))


METHODS: dict[str, tuple[Callable[[ranef.Fit], Any], tuple[str, ...]]] = {
    "unknown group": (lambda fit: fit.ranef("hh"), ("no grouping factor 'hh'", "the model has 'g'")),
    "unknown group of coef": (lambda fit: fit.coef("q"), ("no grouping factor 'q'",)),
    "unknown kind": (lambda fit: fit.ranef("g", sd=True, kind="posterior"), ("kind='posterior'", "'conditional'")),
    "unknown residuals": (lambda fit: fit.residuals("student"), ("'pearson'", "'student'")),
    "unknown ddf": (lambda fit: fit.fixef(ddf="kr"), ("ddf='kr'", "'satterthwaite'")),
    "unknown intervals": (lambda fit: fit.confint("walds"), ("method='walds'", "'profile'")),
    "per cent": (lambda fit: fit.confint(level=95), ("level=95", "0.95")),
    "one replicate": (lambda fit: fit.confint("bootstrap", replicates=1), ("replicates=1", "at least 2")),
    "no simulation": (lambda fit: fit.simulate(0), ("count=0", "at least 1")),
    "negative seed": (lambda fit: fit.simulate(1, seed=-1), ("seed=-1",)),
    "saved to nowhere": (lambda fit: fit.save(None), ("save() takes the path", "NoneType")),
    "no fit": (lambda fit: ranef.anova(fit, 3), ("anova() takes fits, not int",)),
    "no fits": (lambda fit: ranef.anova(), ("at least one fit",)),
    "no path": (lambda fit: ranef.load(None), ("load() takes the path", "NoneType")),
}


@pytest.mark.parametrize("name", METHODS)
def test_refused_methods(name: str, fit: ranef.Fit) -> None:
    call, words = METHODS[name]
    with pytest.raises(OptionError) as caught:
        call(fit)
    check(caught.value, words)


def test_a_loaded_model_needs_the_rows_of_the_fit(fit: ranef.Fit, tmp_path: Path) -> None:
    fit.save(tmp_path / "model")
    loaded = ranef.load(tmp_path / "model")
    for call in (loaded.residuals, loaded.fitted, loaded.simulate, loaded.refit, lambda: loaded.confint("profile")):
        with pytest.raises(OptionError, match=r"a loaded model does not hold its (rows|data): pass data="):
            call()
    np.testing.assert_allclose(loaded.residuals(data=table()), fit.residuals(), atol=1e-12)
    with pytest.raises(DataError, match="these data give 35 rows and the fit used 40"):
        loaded.residuals(data={name: column[:35] for name, column in table().items()})
    with pytest.raises(DataError, match="other levels of 'g'"):
        loaded.residuals(data=table(g=[f"q{i // 5}" for i in range(ROWS)]))


def test_no_model_there(fit: ranef.Fit, tmp_path: Path) -> None:
    fit.save(tmp_path / "model")
    (tmp_path / "file").touch()
    for path, words in {
        "modell": "no directory 'modell' in .*; models there are 'model'",
        "file": "is a file; a model is a directory",
        ".": "not a ranef model: it has no manifest.json",
    }.items():
        with pytest.raises(ModelFileError, match=words):
            ranef.load(tmp_path / path)
    (tmp_path / "model" / "arrays.safetensors").write_bytes(b"x")
    with pytest.raises(ModelFileError, match=r"arrays.safetensors has 1 bytes where .* damaged"):
        ranef.load(tmp_path / "model")
    with pytest.raises(ModelFileError, match="is a file"):
        fit.save(tmp_path / "file")


def test_fits_that_cannot_be_compared() -> None:
    small, large = "y ~ 1 + (1 | g)", MODEL
    data = table()
    reml, ml = ranef.fit(small, data), ranef.fit(small, data, method="ml")
    shorter = {name: column[:35] for name, column in data.items()}
    for other, words in {
        ranef.fit(large, data): "different fixed parts.*method='ml'",
        ml: "REML and ML fits cannot be compared.*method='ml'",
        ranef.fit(small, shorter): "40 rows and .* to 35",
        ranef.fit(small, table(y=data["y"] + data["x"])): "different values: these are fits of different data",
        ranef.fit("w ~ 1 + (1 | g)", table(w=data["y"] + data["x"])): "different responses, y and w",
    }.items():
        with pytest.raises(OptionError, match=words):
            ranef.anova(reml, other)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((0,), {}, "rows must be a whole number from 1"),
        ((100, {}), {}, "groups is empty; give at least one factor"),
        ((100, {"g": 0}), {}, r"groups\['g'\] must be a whole number from 1"),
        ((100, {"g": 3}), {"sd": {"q": 1}}, "sd names 'q', which is not in groups"),
        ((100, {"g": 3}), {"sd": {"g": -1}}, "sd of 'g' must be a number of at least 0, not -1"),
        ((100,), {"family": "normal"}, "family must be one of gaussian, .* not 'normal'"),
        ((100,), {"residual_sd": -1}, "residual_sd must be a number of at least 0"),
        ((100,), {"library": "excel"}, "library must be one of arrow, pandas, polars"),
    ],
)
def test_refused_simulations(arguments: tuple[Any, ...], options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        ranef.data.simulate(*arguments, **options)
