"""Column operations: values, missing values, errors, and which columns they need."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from tabulate import column, fixed, tabulate

from ranef.design.columns import Operation, evaluate
from ranef.design.learn import learn_expression
from ranef.design.roles import Roles, needed
from ranef.errors import DataError, FormulaError
from ranef.formula import parse
from ranef.formula.nodes import Expression
from ranef.table import Table

X = np.array([1.0, 2.5, -3.0, 4.0])
Z = np.array([2.0, -0.5, 2.0, 3.0])
DATA: dict[str, Any] = {"x": X, "z": Z, "l": [True, False, True, False], "a": ["u", "v", "u", "w"]}
KINDS: dict[str, Any] = {"x": "number", "z": "number", "l": "boolean", "a": "category", "d": "date", "s": "other"}


def response(text: str) -> Expression:
    parsed = parse(f"{text} ~ 1").response
    assert parsed is not None
    return parsed.expressions[0]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("x", X),
        ("I(x + z)", X + Z),
        ("I(x - z - 1)", X - Z - 1),
        ("I(x * z / 2)", X * Z / 2),
        ("I(-x^2)", -(X**2)),
        ("I(2^x)", 2**X),
        ("I(x %% 2)", [1, 0.5, 1, 0]),
        ("I(x %% -2)", [-1, -1.5, -1, 0]),
        ("I(x %/% 2)", [0, 1, -2, 2]),
        ("as.numeric(x > z)", [0, 1, 0, 1]),
        ("as.numeric(x >= 1 & l)", [1, 0, 0, 0]),
        ("as.numeric(x < 0 | !l)", [0, 1, 1, 1]),
        ("as.numeric(x <= 1)", [1, 0, 1, 0]),
        ("as.numeric(x == 4)", [0, 0, 0, 1]),
        ("as.numeric(x != 4)", [1, 1, 1, 0]),
        ('as.numeric(a != "u")', [0, 1, 0, 1]),
        ("as.numeric(l)", [1, 0, 1, 0]),
        ("as.numeric(l == TRUE)", [1, 0, 1, 0]),
        ("I(l + x)", [2, 2.5, -2, 4]),
        ("log(abs(x))", np.log(np.abs(X))),
        ("log2(exp(x))", X / np.log(2)),
        ("log(x^2, base = 10)", np.log10(X**2)),
        ("sqrt(x + 3)", np.sqrt(X + 3)),
        ("expm1(log1p(abs(z)))", np.abs(Z)),
        ("center(x)", X - X.mean()),
        ("scale(x)", (X - X.mean()) / X.std(ddof=1)),
        ("scale(x, scale = FALSE)", X - X.mean()),
        ("scale(x, center = FALSE)", X / np.sqrt((X**2).sum() / 3)),
        ("I(scale(x) * 2)", 2 * (X - X.mean()) / X.std(ddof=1)),
    ],
)
def test_values(formula: str, expected: Any) -> None:
    np.testing.assert_allclose(column(f"~ {formula}", DATA), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("text", ["log(y + 1)", "y", "y > 2", "center(y) * 2", "l", '(a == "u") * y', "(y - 1)^-1"])
def test_a_response_is_learned_kept_as_json_and_evaluated_on_other_rows(text: str) -> None:
    data = {**DATA, "y": [0.0, 2.0, 5.0, 7.0]}
    table, kinds = tabulate([response(text)], data)
    operation = learn_expression(response(text), table, kinds)
    again = msgspec.json.decode(msgspec.json.encode(operation), type=Operation)
    assert again == operation
    values = evaluate(operation, table)
    assert values.shape == (4,)
    np.testing.assert_array_equal(evaluate(again, table.take(np.array([False, True, True, False]))), values[1:3])


@pytest.mark.parametrize("text", ["y^0", "y > 1", "y & TRUE", "!(y > 1)", "log(y)", "y %/% 2", 'y * (a == "u")'])
def test_missing_in_missing_out(text: str) -> None:
    data = {"y": [1.0, None, 3.0], "a": ["u", "u", "v"]}
    table, kinds = tabulate([response(text)], data)
    values = evaluate(learn_expression(response(text), table, kinds), table)
    np.testing.assert_array_equal(np.isnan(values), [False, True, False])


def test_missing_category_gives_missing_truth() -> None:
    table, kinds = tabulate([response('a == "u"')], {"a": pa.array(["u", None, "v"])})
    values = evaluate(learn_expression(response('a == "u"'), table, kinds), table)
    np.testing.assert_array_equal(values, [1.0, np.nan, 0.0])


@pytest.mark.parametrize(
    ("text", "row", "count", "words"),
    [
        ("log(x)", 2, 1, r"log\(x\) \(column 'x'\) is not a finite number in row 2: a logarithm needs numbers above 0"),
        ("log(x - 1)", 0, 2, r"is not a finite number in 2 rows, the first is row 0: a log"),
        ("sqrt(x)", 2, 1, "square root needs numbers of at least 0"),
        ("1 / (x - 1)", 0, 1, "divisor must not be 0"),
        ("x %% (x - 4)", 3, 1, "divisor must not be 0"),
        ("x %/% 0", 0, 4, "divisor must not be 0"),
        ("x^0.5", 2, 1, "a negative number only whole powers"),
        ("(x - 1)^-1", 0, 1, "0 has no negative power"),
        ("exp(x * 1000)", 0, 3, "the result must fit a float"),
        ("x * 1e308 * 10", 1, 3, "the result must fit a float"),
    ],
)
def test_results_that_are_not_finite(text: str, row: int, count: int, words: str) -> None:
    table, kinds = tabulate([response(text)], DATA)
    with pytest.raises(DataError, match=words) as caught:
        evaluate(learn_expression(response(text), table, kinds), table)
    assert (caught.value.column, caught.value.row, caught.value.count) == ("x", row, count)


def test_infinite_input() -> None:
    table = Table(3, {"x": np.array([1.0, np.inf, -np.inf])}, {})
    with pytest.raises(DataError, match="column 'x' is infinite in 2 rows, the first is row 1") as caught:
        evaluate(learn_expression(response("x"), table, {"x": "number"}), table)
    assert caught.value.row == 1


def test_column_that_new_data_lack() -> None:
    table, kinds = tabulate([response("x")], DATA)
    with pytest.raises(DataError, match="column 'x' is not in the data as numbers"):
        evaluate(learn_expression(response("x"), table, kinds), Table(1, {}, {}))


def test_what_is_learned_refuses_missing_values() -> None:
    table, kinds = tabulate([response("scale(y)")], {"y": [1.0, None, 2.0]})
    with pytest.raises(DataError, match="cannot be learned from missing values; leave out the 1 rows") as caught:
        learn_expression(response("scale(y)"), table, kinds)
    assert caught.value.row == 1


def test_a_response_is_one_column_of_numbers() -> None:
    table, kinds = tabulate([response("x")], DATA)
    with pytest.raises(FormulaError, match="gives several columns"):
        learn_expression(response("poly(x, 2)"), table, kinds)


@pytest.mark.parametrize(
    ("formula", "numbers", "factors"),
    [
        ("~ x + a + l", "x", "a l"),
        ("~ I(l) + I(a)", "", "a l"),
        ("~ I(l + x)", "l x", ""),
        ("~ !l", "l", ""),
        ("~ factor(x) + x + log(z)", "x z", "x"),
        ("~ factor(x > 2)", "x", ""),
        ("~ C(x, contr.sum) + ordered(a)", "", "a x"),
        ('~ C(factor(z), treatment("2"))', "", "z"),
        ('~ I(a == "u") + I(x * (a != "v"))', "x", "a"),
        ("~ factor(d)", "", "d"),
        ("~ a:x + poly(z, 2)", "x z", "a"),
        ("~ 1", "", ""),
    ],
)
def test_needed_columns(formula: str, numbers: str, factors: str) -> None:
    expected = Roles(frozenset(numbers.split()), frozenset(factors.split()))
    assert needed(fixed(formula), KINDS) == expected


def test_a_numeric_expression_reads_booleans_as_numbers() -> None:
    assert needed([response("l"), response("log(x)")], KINDS) == Roles(frozenset({"l", "x"}), frozenset())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "column 'a' holds text or categories but stands where a number is needed"),
        ("log(a)", r"stands in log\(a\) where"),
        ("d", "column 'd' holds dates"),
        ("s", "column 's' holds neither numbers"),
        ("X", r"no column 'X'; did you mean x\?"),
        ("nothing", "the columns are x, z, l, a, d, s"),
    ],
)
def test_responses_that_are_not_numbers(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        needed([response(text)], KINDS)
    assert caught.value.column is not None
