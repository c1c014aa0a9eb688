"""What each kind of response makes of a column, refuses, and computes again on new rows."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tabulate import ordered

from ranef.design.build import Design, build_design
from ranef.design.matrix import model_matrix
from ranef.design.response import response_columns, response_values
from ranef.design.spec import DesignSpec, ResponseSpec
from ranef.errors import DataError, FormulaError, LevelError, OptionError, RanefError
from ranef.formula import parse
from ranef.table import FloatArray, Table, open_source, read_table

KINDS = ("number", "binary", "proportion", "count", "positive", "ordered")
GENERALIZED = KINDS[1:]


def design(formula: str, data: Any, kind: Any, **options: Any) -> Design:
    return build_design(parse(formula), open_source(data), kind=kind, **options)


def six(**columns: Any) -> dict[str, Any]:
    """Six rows with a grouping factor and a covariate."""
    return {"g": ["a", "a", "b", "b", "c", "c"], "x": [1.0, 2.0, 4.0, 3.0, 0.0, 7.0], **columns}


def again(spec: ResponseSpec, data: Any) -> tuple[FloatArray, FloatArray | None]:
    """The response of other rows, read by what the spec says."""
    wanted = response_columns(spec)
    return response_values(spec, read_table(open_source(data), numbers=wanted.numbers, factors=wanted.factors))


def refused(error: type[RanefError], formula: str, data: Any, kind: str, **options: Any) -> Any:
    with pytest.raises(error) as caught:
        design(formula, data, kind, **options)
    return caught.value


# --- classes

BINARY = {
    "0 and 1": ("y", [0, 1, 1, 0, 1, 0], [0, 1, 1, 0, 1, 0], ()),
    "booleans": ("y", [False, True, True, False, True, False], [0, 1, 1, 0, 1, 0], ()),
    "texts, sorted": ("y", list("nyynyn"), [0, 1, 1, 0, 1, 0], ("n", "y")),
    "declared order": ("y", ordered(list("nyynyn"), ["y", "n"]), [1, 0, 0, 1, 0, 1], ("y", "n")),
    "a declared level does not occur": ("y", ordered(list("nyynyn"), list("?ny")), [0, 1, 1, 0, 1, 0], ("n", "y")),
    "numbers as levels": ("factor(y)", [1, 2, 2, 1, 2, 1], [0, 1, 1, 0, 1, 0], ("1", "2")),
    "levels inside I": ("I(as.factor(y))", [5, 2, 2, 5, 2, 5], [1, 0, 0, 1, 0, 1], ("2", "5")),
    "I inside levels": ("factor(I(y))", [5, 2, 2, 5, 2, 5], [1, 0, 0, 1, 0, 1], ("2", "5")),
    "a comparison": ("y >= 4", [1, 5, 4, 3, 5, 2], [0, 1, 1, 0, 1, 0], ()),
    "a comparison in I": ("I(y >= 4)", [1, 5, 4, 3, 5, 2], [0, 1, 1, 0, 1, 0], ()),
    "a comparison as levels": ("factor(y >= 4)", [1, 5, 4, 3, 5, 2], [0, 1, 1, 0, 1, 0], ()),
    "logic": ("y > 1 & !(y == 3)", [1, 5, 4, 3, 5, 1], [0, 1, 1, 0, 1, 0], ()),
    "one level against the others": ('y == "yes"', ["no", "yes", "yes", "eh", "yes", "eh"], [0, 1, 1, 0, 1, 0], ()),
    "arithmetic": ("y - 1", [1, 2, 2, 1, 2, 1], [0, 1, 1, 0, 1, 0], ()),
}


@pytest.mark.parametrize("kind", ["binary", "proportion"])
@pytest.mark.parametrize("case", BINARY)
def test_two_classes(case: str, kind: str) -> None:
    left, y, expected, levels = BINARY[case]
    found = design(f"{left} ~ x + (1 | g)", six(y=y), kind)
    assert found.y.tolist() == expected
    assert found.spec.response_levels == levels
    assert (found.spec.kind, found.weights, found.y.dtype) == (kind, None, np.float64)
    assert found.empty_categories == (("?",) if "declared level" in case else ())
    assert found.spec.fixed.names == ("(Intercept)", "x")


ORDERED = {
    "whole numbers": ("y", [3, 1, 2, 10, 1, 3], [2, 0, 1, 3, 0, 2], ("1", "2", "3", "10")),
    "halves": ("y", [0.5, 5.0, 1.5, 5.0, 0.5, 1.0], [0, 3, 2, 3, 0, 1], ("0.5", "1", "1.5", "5")),
    "single precision": ("y", pa.array([0.1, 0.2, 0.1, 0.3, 0.3, 0.1], pa.float32()), [0, 1, 0, 2, 2, 0], None),
    "declared order": ("y", ordered(list("cabbac"), list("cba")), [0, 2, 1, 1, 2, 0], ("c", "b", "a")),
    "texts, sorted": ("y", list("cabbac"), [2, 0, 1, 1, 0, 2], ("a", "b", "c")),
    "booleans": ("y", [True, False, True, True, False, True], [1, 0, 1, 1, 0, 1], ("FALSE", "TRUE")),
    "as levels": ("ordered(y)", [3, 1, 2, 10, 1, 3], [2, 0, 1, 3, 0, 2], ("1", "2", "3", "10")),
    "arithmetic": ("I(0.1 * y)", [3, 1, 2, 10, 1, 3], [2, 0, 1, 3, 0, 2], None),
    "a comparison": ("y > 1", [3, 1, 2, 10, 1, 3], [1, 0, 1, 1, 0, 1], ("FALSE", "TRUE")),
}


@pytest.mark.parametrize("case", ORDERED)
def test_ordered_categories(case: str) -> None:
    left, y, expected, levels = ORDERED[case]
    found = design(f"{left} ~ x + (1 | g)", six(y=y), "ordered")
    assert found.y.tolist() == expected
    assert levels is None or found.spec.response_levels == levels
    assert len(found.spec.response_levels) == max(expected) + 1


def test_categories_without_rows_are_named() -> None:
    y = ordered([None, "low", "top", "mid", "low", "mid"], ["none", "low", "mid", "high", "top", "over"])
    found = design("y ~ x + (1 | g)", six(y=y, x=[1, 2, 3, 5, 8, 13]), "ordered")
    assert found.y.tolist() == [0, 2, 1, 0, 1]
    assert found.spec.response_levels == ("low", "mid", "top")
    assert found.empty_categories == ("none", "high", "over")
    # also a category whose only row lacks a covariate
    lost = design("y ~ x + (1 | g)", six(y=[1, 2, 3, 4, 3, 2], x=[1, 2, 4, None, 3, 5]), "ordered")
    assert (lost.spec.response_levels, lost.empty_categories) == (("1", "2", "3"), ("4",))


@pytest.mark.parametrize("left", ["y", "I(y + 0)"])
def test_a_code_is_the_place_of_the_category(left: str) -> None:
    rng = np.random.default_rng(4)
    values = np.array([-1e17, -3.5, -0.0, 0.0, 1e-5, 0.1 + 0.2, 0.3, 2.0, 1e15, 1.5e300**0.05])
    y = rng.choice(values, 500)
    found = design(f"{left} ~ 1 + (1 | g)", {"y": y, "g": np.arange(500) % 9}, "ordered")
    of_codes = np.array([float(level) for level in found.spec.response_levels])
    np.testing.assert_array_equal(of_codes[found.y.astype(int)], y)
    assert (np.diff(of_codes) > 0).all()


def test_an_ordered_response_has_at_most_fifty_categories() -> None:
    data = {"y": np.arange(153) % 51, "g": np.arange(153) // 9}
    for left in ("y", "I(y * 2)"):
        message = str(refused(DataError, f"{left} ~ 1 + (1 | g)", data, "ordered"))
        assert "51 different values" in message
        assert "at most 50" in message
    assert len(design("y ~ 1 + (1 | g)", {**data, "y": data["y"] % 50}, "ordered").spec.response_levels) == 50


# --- thresholds in place of the intercept


FIXED = ["1", "x", "a", "x + a", "a * x", "a:b", "poly(x, 2) + a:x", "x:a", "a / b"]


@pytest.mark.parametrize("fixed", FIXED)
def test_an_ordered_response_has_the_columns_beside_an_intercept(fixed: str) -> None:
    rng = np.random.default_rng(8)
    data = {
        "y": rng.integers(1, 5, 40),
        "x": rng.normal(size=40),
        "a": rng.choice(list("uvw"), 40),
        "b": rng.choice(list("pq"), 40),
        "g": np.arange(40) % 12,
    }
    formula = f"y ~ {fixed} + (1 + x | g)"
    number, without = design(formula, data, "number"), design(formula, data, "ordered")
    assert without.spec.fixed.names == number.spec.fixed.names[1:]
    np.testing.assert_array_equal(without.x, number.x[:, 1:])
    assert [(t.label, t.start + 1, t.stop + 1) for t in without.spec.fixed.terms] == [
        (t.label, t.start, t.stop) for t in number.spec.fixed.terms[1:]
    ]
    np.testing.assert_array_equal(without.groups[0].covariates, number.groups[0].covariates)
    table = read_table(open_source(data), numbers=["x"], factors=["a", "b"]).take(np.arange(7))
    np.testing.assert_array_equal(model_matrix(without.spec.fixed, table), number.x[:7, 1:])


@pytest.mark.parametrize("right", ["0 + x", "x - 1", "-1 + x", "x + 0"])
def test_thresholds_cannot_be_taken_away(right: str) -> None:
    error = refused(FormulaError, f"`odd ~ name` ~ {right}", {"odd ~ name": [1, 2, 3], "x": [1, 2, 3]}, "ordered")
    assert "thresholds" in str(error)
    assert error.formula[error.start : error.end] == right


def test_levels_beside_thresholds_leave_no_variance() -> None:
    data = {"y": np.arange(24) % 3, "g": [f"g{i % 4}" for i in range(24)], "h": np.arange(24) // 6}
    assert "nothing is left to learn a variance from" in str(refused(DataError, "y ~ g + (1 | g)", data, "ordered"))
    assert design("y ~ g + (1 | h)", data, "ordered").x.shape == (24, 3)
    # one of two slopes is fixed, and thresholds do not stand in for the other
    slope = {"y": np.arange(24) % 3, "x": np.sin(np.arange(24)), "g": np.repeat(["a", "b"], 12)}
    assert design('y ~ I(x * (g == "b")) + (0 + x | g)', slope, "ordered").x.shape == (24, 1)


# --- proportions


def trials() -> dict[str, Any]:
    """Row 1 has no trials, row 4 lacks its successes; the level ``only`` stands in row 1 alone."""
    return {
        "s": [2, 0, 3, 5, None, 0],
        "n": [4, 0, 3, 8, 5, 7],
        "p": [0.5, 0.25, 1.0, 0.625, None, 0.0],
        "f": ["u", "only", "v", "v", "u", "u"],
        "g": list("aabbcc"),
    }


def test_successes_and_failures() -> None:
    found = design("cbind(s, n - s) ~ f + (1 | g)", trials(), "proportion")
    assert found.y.tolist() == [0.5, 1.0, 0.625, 0.0]
    assert found.weights is not None
    assert found.weights.tolist() == [4, 3, 8, 7]
    assert found.kept is not None
    assert found.kept.tolist() == [True, False, True, True, False, True]
    assert (found.dropped.rows, found.dropped.zero_weight, dict(found.dropped.missing)) == (2, 1, {"s": 1})
    # what is learned and computed is so without the rows that are dropped
    assert found.spec.fixed.names == ("(Intercept)", "fv")
    assert found.x.tolist() == [[1, 0], [1, 1], [1, 1], [1, 0]]
    assert found.groups[0].codes.tolist() == [0, 1, 1, 2]
    assert found.spec.response_label == "cbind(s, n - s)"
    assert found.spec.weights is None


def test_nothing_is_dropped_where_all_rows_have_trials() -> None:
    found = design("cbind(s, f) ~ 1 + (1 | g)", six(s=[1, 0, 2, 3, 4, 5], f=[1, 1, 0, 2, 2, 2]), "proportion")
    assert (found.kept, found.dropped.rows) == (None, 0)
    np.testing.assert_array_equal(found.y * found.weights, [1, 0, 2, 3, 4, 5])


def test_a_proportion_with_trials_as_weights_is_the_same() -> None:
    counts = design("cbind(s, n - s) ~ f + (1 | g)", trials(), "proportion")
    for weights in ("n", trials()["n"]):
        share = design("p ~ f + (1 | g)", trials(), "proportion", weights=weights)
        np.testing.assert_array_equal(share.y, counts.y)
        np.testing.assert_array_equal(share.weights, counts.weights)
        np.testing.assert_array_equal(share.x, counts.x)
        np.testing.assert_array_equal(share.kept, counts.kept)
        assert (share.dropped.rows, share.dropped.zero_weight) == (counts.dropped.rows, counts.dropped.zero_weight)
    computed = design(
        "I(s / n) ~ 1 + (1 | g)", six(s=[1, 2, 3, 5, 1, 6], n=[3, 7, 49, 11, 3, 7]), "proportion", weights="n"
    )
    np.testing.assert_allclose(computed.y * computed.weights, [1, 2, 3, 5, 1, 6], rtol=1e-15)


def test_a_two_level_response_takes_trials_too() -> None:
    found = design("y ~ 1 + (1 | g)", six(y=list("nyynyn"), w=[1, 2, 3, 4, 5, 6]), "proportion", weights="w")
    assert found.y.tolist() == [0, 1, 1, 0, 1, 0]


# --- numbers


@pytest.mark.parametrize("kind", ["count", "positive", "number"])
def test_numbers_stay_as_they_are(kind: str) -> None:
    found = design("2 * y ~ x + (1 | g)", six(y=[3, 1, 4, 1, 5, 9]), kind)
    assert found.y.tolist() == [6, 2, 8, 2, 10, 18]
    assert (found.spec.response_levels, found.spec.response_label) == ((), "2 * y")


def test_the_response_of_a_gaussian_model_is_its_own_copy() -> None:
    y = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    found = design("y ~ x + (1 | g)", six(y=y), "number")
    assert found.y.flags.writeable
    assert not np.shares_memory(found.y, y)


def test_equal_counts_may_differ_by_their_offset() -> None:
    assert design("y ~ 1 + offset(x) + (1 | g)", six(y=[3] * 6), "count").y.tolist() == [3] * 6
    shares = design("cbind(y, y) ~ 1 + offset(x) + (1 | g)", six(y=[3] * 6), "proportion")
    assert shares.y.tolist() == [0.5] * 6


# --- refusals

PLAIN = six(y=[0, 1, 1, 0, 1, 0])
REFUSED: dict[str, tuple[str, str, Any, dict[str, Any], type[RanefError], tuple[str, ...]]] = {
    "three levels": (
        "binary",
        "y",
        six(y=["no", "yes", "perhaps", "no", "yes", "no"]),
        {},
        DataError,
        ("response y has 3 levels ('no', 'perhaps', 'yes')", "'ordinal'", "'binomial'", '`y == "yes" ~ ...`'),
    ),
    "three numbers as levels": ("binary", "factor(y)", six(y=[1, 2, 3] * 2), {}, DataError, ("`y == 3 ~ ...`",)),
    "1 and 2": (
        "binary",
        "y",
        six(y=[1, 2, 2, 1, 2, 1]),
        {},
        DataError,
        ("response y must be 0 or 1", "3 rows have something else, the first is row 1 with 2", "`y == 2 ~ ...`"),
    ),
    "a count as binary": ("binary", "y", six(y=[0, 1, 1, 0, 1, 7]), {}, DataError, ("row 5 has 7", "'poisson'")),
    "one class": ("binary", "y", six(y=[1] * 6), {}, DataError, ("same value, 1, in all 6 rows", "no variation")),
    "one level": ("binary", "y", six(y=["n"] * 6), {}, DataError, ("same value, 'n', in all 6 rows",)),
    "a comparison always true": ("binary", "x >= 0", PLAIN, {}, DataError, ("response x >= 0 has the same value",)),
    "one category": ("ordered", "y", six(y=[4] * 6), {}, DataError, ("same value, '4', in all 6 rows",)),
    "one truth": ("ordered", "x >= 0", PLAIN, {}, DataError, ("same value, 'TRUE', in all 6 rows",)),
    "dates": ("binary", "y", six(y=[datetime.date(2024, 1, 1 + i % 2) for i in range(6)]), {}, DataError, ("dates",)),
    "ordered dates": (
        "ordered",
        "y",
        six(y=[datetime.date(2024, 1, 1 + i) for i in range(6)]),
        {},
        DataError,
        ("dates",),
    ),
    "lists": ("ordered", "y", six(y=[[1]] * 6), {}, DataError, ("column 'y'",)),
    "infinite categories": ("ordered", "y", six(y=[1.0, 2, np.inf, 1, 2, 1]), {}, DataError, ("infinite", "row 2")),
    "text in arithmetic": ("binary", "y + 1", six(y=list("nyynyn")), {}, DataError, ("'y'", "a number is needed")),
    "text as count": (
        "count",
        "y",
        six(y=list("nyynyn")),
        {},
        DataError,
        ("'y'", "a number is needed", "row 0 holds 'n'"),
    ),
    "levels as count": ("count", "factor(y)", PLAIN, {}, FormulaError, ("factor() gives levels, not a number",)),
    "no such level": ("binary", 'y == "q"', six(y=list("nyynyn")), {}, DataError, ("no level 'q'",)),
    "fractions": (
        "count",
        "y",
        six(y=[1, 2.5, 3, 0.5, 1, 2]),
        {},
        DataError,
        ("response y must be a count", "2 rows have something else, the first is row 1 with 2.5"),
    ),
    "negative counts": ("count", "y", six(y=[1, 2, 3, -1, 1, 2]), {}, DataError, ("must be a count", "row 3 has -1")),
    "no counts": ("count", "y", six(y=[0] * 6), {}, DataError, ("same value, 0, in all 6 rows",)),
    "zeros": ("positive", "y", six(y=[1, 2, 0, 4, 1, 2]), {}, DataError, ("must be above 0", "row 2 has 0")),
    "one amount": ("positive", "y", six(y=[2.5] * 6), {}, DataError, ("same value, 2.5",)),
    "too much": (
        "proportion",
        "y",
        six(y=[0, 1, 0.5, 1.5, 1, 0]),
        {"weights": [2] * 6},
        DataError,
        ("a proportion, from 0 to 1", "row 3 has 1.5", "cbind"),
    ),
    "no trials given": (
        "proportion",
        "y",
        six(y=[0, 1, 0.5, 1, 1, 0]),
        {},
        DataError,
        ("without weights must be 0 or 1", "row 2 has 0.5", "cbind(successes, failures)"),
    ),
    "broken trials": (
        "proportion",
        "y",
        six(y=[0, 1, 0.5, 1, 1, 0], w=[1, 1, 2, 1.7, 1, 1]),
        {"weights": "w"},
        DataError,
        ("must be numbers of trials", "row 3 has 1.7", "'bernoulli'"),
    ),
    "rounded proportions": (
        "proportion",
        "y",
        six(y=[0, 1, 0.33, 1, 1, 0], w=[1, 1, 3, 1, 1, 1]),
        {"weights": "w"},
        DataError,
        ("whole number of successes", "row 2 has 0.99", "cbind"),
    ),
    "more successes than trials": (
        "proportion",
        "cbind(s, n - s)",
        six(s=[1, 2, 3, 4, 1, 0], n=[2, 2, 2, 4, 4, 4]),
        {},
        DataError,
        ("failures in cbind(s, n - s) must be counts", "row 2 has -1"),
    ),
    "half a success": (
        "proportion",
        "cbind(s, y)",
        six(s=[1, 0.5, 3, 4, 1, 0], y=[1] * 6),
        {},
        DataError,
        ("successes in cbind(s, y) must be counts", "row 1 has 0.5"),
    ),
    "no trial at all": (
        "proportion",
        "cbind(y, y)",
        six(y=[0] * 6),
        {},
        DataError,
        ("none of the 6 rows has a trial",),
    ),
    "failures only": ("proportion", "cbind(y, x)", six(y=[0] * 6), {}, DataError, ("same value, 0, in all 5 rows",)),
    "cbind and weights": (
        "proportion",
        "cbind(y, x)",
        PLAIN,
        {"weights": "x"},
        OptionError,
        ("leave the weights out",),
    ),
    "negative trials": (
        "proportion",
        "y",
        six(y=[0, 1, 0, 1, 0, 1], w=[1, 1, -2, 1, 1, 1]),
        {"weights": "w"},
        DataError,
        ("negative weight", "row 2", "weights are numbers of trials"),
    ),
    "no response": ("binary", "", PLAIN, {}, FormulaError, ("no response",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    kind, left, data, options, error, words = REFUSED[case]
    message = str(refused(error, f"{left} ~ 1 + (1 | g)", data, kind, **options))
    for word in words:
        assert word in message


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "proportion"])
def test_cbind_belongs_to_proportions(kind: str) -> None:
    error = refused(FormulaError, "cbind(y, x) ~ 1 + (1 | g)", PLAIN, kind)
    assert "binomial" in str(error)
    assert error.formula[error.start : error.end] == "cbind(y, x)"


def test_rows_are_counted_as_in_the_data() -> None:
    data = six(y=[None, 1, 2, -3, 2, 1])
    error = refused(DataError, "y ~ x + (1 | g)", data, "count")
    assert (error.row, error.count, error.column) == (3, 1, "y")
    assert "row 3 has -3" in str(error)
    share = six(y=[None, 0.5, 0.3, 0.5, 1, 0])
    error = refused(DataError, "y ~ x + (1 | g)", share, "proportion", weights=[2, 0, 2, 2, 2, 2])
    assert (error.row, error.column) == (2, "y")
    # and where the trials of cbind() dropped some
    log = trials() | {"x": [1, 1, 1, 0, 1, 1]}
    error = refused(DataError, "cbind(s, n - s) ~ log(x) + (1 | g)", log, "proportion")
    assert error.row == 3


# --- what can be told apart


@pytest.mark.parametrize("kind", GENERALIZED)
def test_a_level_a_row_is_told_from_the_residual_by_those_who_have_none(kind: str) -> None:
    data = six(y=[1, 1, 1, 1, 1, 0] if kind in ("binary", "proportion") else [1, 3, 2, 4, 1, 2], i=np.arange(6))
    formula = "y ~ 1 + (1 | i) + (x | g)"
    assert [len(group.levels) for group in design(formula, data, kind).groups] == [6, 3]
    assert "one row a level" in str(refused(DataError, formula, data, "number"))
    assert "6 random effects" in str(refused(DataError, "y ~ 1 + (x | g)", data, "number"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_variance_needs_two_levels(kind: str) -> None:
    y = [1, 1, 1, 1, 1, 0] if kind in ("binary", "proportion") else [1, 3, 2, 4, 1, 2]
    assert "at least two" in str(refused(DataError, "y ~ 1 + (1 | g)", six(y=y, g=["a"] * 6), kind))


# --- new rows

NEW: dict[str, tuple[str, str, Any, Any, list[float]]] = {
    "numbers": ("number", "log(y)", [1, 2, 3, 4, 5, 6], [1.0, None], [0.0, np.nan]),
    "texts": ("binary", "y", list("nyynyn"), ["y", None, "y"], [1, np.nan, 1]),
    "declared elsewhere": ("binary", "y", list("nyynyn"), ordered(["y", "n"], ["y", "n"]), [1, 0]),
    "numbers as levels": ("binary", "factor(y)", [1, 2] * 3, [2.0, 1.0, None], [1, 0, np.nan]),
    "booleans as numbers": ("binary", "y", [True, False] * 3, [0, 1, None], [0, 1, np.nan]),
    "comparison": ("binary", "y >= 4", [1, 4] * 3, [9.0, None, -1.0], [1, np.nan, 0]),
    "category": ("ordered", "y", [1, 2, 4] * 2, [4.0, None, 1.0], [2, np.nan, 0]),
    "category as text": ("ordered", "y", [1, 2, 4] * 2, ["4", "1"], [2, 0]),
    "computed category": ("ordered", "I(0.1 * y)", [1, 2, 3] * 2, [3.0, None, 1.0], [2, np.nan, 0]),
    "truth": ("ordered", "y > 1", [1, 2, 4] * 2, [4.0, None, 1.0], [1, np.nan, 0]),
}


@pytest.mark.parametrize("case", NEW)
def test_new_rows(case: str) -> None:
    kind, left, y, new, expected = NEW[case]
    spec = design(f"{left} ~ 1 + (1 | g)", six(y=y), kind).spec.response
    found, none = again(spec, pa.table({"y": new}))
    np.testing.assert_array_equal(found, expected)
    assert none is None


def test_new_rows_of_cbind() -> None:
    spec = design("cbind(s, n - s) ~ f + (1 | g)", trials(), "proportion").spec.response
    assert response_columns(spec).numbers == {"s", "n"}
    y, of = again(spec, {"s": [1.0, 0.0, np.nan, 7.0], "n": [4, 0, 2, 7]})
    np.testing.assert_array_equal(y, [0.25, np.nan, np.nan, 1])
    np.testing.assert_array_equal(of, [4, 0, np.nan, 7])


@pytest.mark.parametrize(
    ("kind", "left", "y", "new", "level"),
    [
        ("binary", "y", list("nyynyn"), ["y", "?", "n", "!"], "'?'"),
        ("ordered", "y", list("cabbac"), ["a", "d", "a", "e"], "'d'"),
        ("ordered", "y", [1, 2, 4] * 2, [4, 3, 2, 7], "'3'"),
        ("ordered", "I(y / 2)", [1, 2, 4] * 2, [4, 3, 2, 7], "1.5"),
    ],
)
def test_an_unknown_category_is_named(kind: str, left: str, y: Any, new: Any, level: str) -> None:
    spec = design(f"{left} ~ 1 + (1 | g)", six(y=y), kind).spec.response
    with pytest.raises(LevelError) as caught:
        again(spec, {"y": new})
    assert f"is {level} in row 1" in str(caught.value)
    assert (caught.value.column, caught.value.row, caught.value.count) == ("y", 1, 2)


def test_new_rows_are_checked() -> None:
    spec = design("y ~ 1 + (1 | g)", six(y=[1, 2, 3] * 2), "count").spec.response
    with pytest.raises(DataError, match=r"row 1 has 2\.5"):
        again(spec, {"y": [1.0, 2.5, None]})


@pytest.mark.parametrize("case", NEW)
def test_a_saved_response_is_the_same(case: str) -> None:
    kind, left, y, _, _ = NEW[case]
    found = design(f"{left} ~ x + (1 | g)", six(y=y), kind)
    spec = msgspec.json.decode(msgspec.json.encode(found.spec), type=DesignSpec)
    assert spec == found.spec
    np.testing.assert_array_equal(again(spec.response, {"y": y})[0], found.y)


def test_a_response_that_is_not_there() -> None:
    spec = design("y ~ 1 + (1 | g)", six(y=list("nyynyn")), "binary").spec.response
    with pytest.raises(DataError, match="'y' is not in the data"):
        response_values(spec, Table(1, {}, {}))


# --- the examples of R's packages


def example(package: str, name: str) -> pa.Table:
    root = os.environ.get("RANEF_TEST_DATA")
    if root is None:
        pytest.skip("RANEF_TEST_DATA does not name a folder of data")
    path = Path(root) / "r" / package / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"no {name} in the folder of data")
    return pq.read_table(path)


def texts(table: pa.Table, column: str) -> np.ndarray[Any, Any]:
    return np.array(table[column].cast(pa.string()).to_pylist())


def test_cbpp() -> None:
    table = example("lme4", "cbpp")
    found = design("cbind(incidence, size - incidence) ~ period + (1 | herd)", table, "proportion")
    np.testing.assert_array_equal(found.weights, table["size"])
    np.testing.assert_allclose(found.y * found.weights, table["incidence"], rtol=1e-15)
    assert found.spec.fixed.names == ("(Intercept)", "period2", "period3", "period4")
    share = table.append_column("share", pc.divide(table["incidence"].cast(pa.float64()), table["size"]))
    other = design("share ~ period + (1 | herd)", share, "proportion", weights="size")
    np.testing.assert_array_equal(other.y, found.y)


@pytest.mark.parametrize(
    ("package", "name", "formula", "success"),
    [
        ("lme4", "VerbAgg", "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)", "Y"),
        ("MASS", "bacteria", "y ~ trt + I(week > 2) + (1 | ID)", "y"),
    ],
)
def test_binary_examples(package: str, name: str, formula: str, success: str) -> None:
    table = example(package, name)
    found = design(formula, table, "binary")
    np.testing.assert_array_equal(found.y == 1, texts(table, found.spec.response_label) == success)
    assert found.spec.response_levels[1] == success
    as_test = design(formula.replace(" ~", f' == "{success}" ~', 1), table, "binary")
    np.testing.assert_array_equal(as_test.y, found.y)


@pytest.mark.parametrize(
    ("package", "name", "formula", "columns"),
    [
        ("ordinal", "wine", "rating ~ temp + contact + (1 | judge)", ("tempwarm", "contactyes")),
        ("ordinal", "soup", "SURENESS ~ PROD + DAY + (1 | RESP)", ("PRODTest", "DAY2")),
        ("lme4", "VerbAgg", "resp ~ Gender + (1 | id)", ("GenderM",)),
        ("MASS", "housing", "Sat ~ Cont + (1 | Type)", ("ContHigh",)),
    ],
)
def test_ordered_examples(package: str, name: str, formula: str, columns: tuple[str, ...]) -> None:
    table = example(package, name)
    found = design(formula, table, "ordered")
    label = found.spec.response_label
    declared = table[label].combine_chunks().dictionary.to_pylist()
    assert list(found.spec.response_levels) == declared
    np.testing.assert_array_equal(np.array(declared)[found.y.astype(int)], texts(table, label))
    assert found.spec.fixed.names == columns
    assert found.empty_categories == ()


@pytest.mark.parametrize(
    ("package", "name", "formula"),
    [
        ("lme4", "grouseticks", "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)"),
        ("glmmTMB", "Salamanders", "count ~ spp * mined + (1 | site)"),
    ],
)
def test_count_examples(package: str, name: str, formula: str) -> None:
    table = example(package, name)
    found = design(formula, table, "count")
    np.testing.assert_array_equal(found.y, table[found.spec.response_label])
    if name == "grouseticks":
        assert len(found.groups[0].levels) == table.num_rows
        refused(DataError, formula, table, "number")
