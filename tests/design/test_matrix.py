"""Model matrices against R's: 190 formulas, names, values, and values on new rows (make_matrices.R)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from tabulate import fixed, matrix_of, ordered, spec_of, tabulate

from ranef.design.matrix import ModelMatrixSpec, learn, model_matrix
from ranef.errors import DataError, FormulaError, LevelError
from ranef.table import MISSING, UNKNOWN, Factor, Levels, Table

REFERENCE = json.loads((Path(__file__).parent / "matrices.json").read_text())
CASES = {case["formula"]: case for case in REFERENCE["cases"]}


def columns(frame: dict[str, list[Any]]) -> dict[str, Any]:
    truths = [value == "TRUE" for value in frame["l"]]
    return {**frame, "l": truths, "o": ordered(frame["o"], ["low", "mid", "high", "top", "max"])}


DATA, NEW = columns(REFERENCE["data"]), columns(REFERENCE["newdata"])
TREATMENT_2 = "C(b, contr.treatment, base = 2)"
SMALL = {"a": ["u", "v", "w", "u"], "x": [1.0, 2.0, 4.0, 3.0], "l": [True, False, True, True]}


@pytest.mark.parametrize("formula", CASES)
def test_r_names_and_values(formula: str) -> None:
    case = CASES[formula]
    # with base = R numbers the levels in these names; ours are the levels' own
    names = [
        {f"{TREATMENT_2}1": f"{TREATMENT_2}b1", f"{TREATMENT_2}3": f"{TREATMENT_2}b3"}.get(n, n) for n in case["names"]
    ]
    assert list(spec_of(formula, DATA).names) == names
    expected = np.array(case["matrix"]).reshape(len(DATA["x"]), len(case["names"]))
    np.testing.assert_allclose(matrix_of(formula, DATA), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("formula", [formula for formula, case in CASES.items() if case["new"]])
def test_r_values_on_new_rows(formula: str) -> None:
    # powers far outside the fit's range magnify rounding
    np.testing.assert_allclose(matrix_of(formula, DATA, NEW), np.array(CASES[formula]["new"]), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("formula", CASES)
def test_terms_are_r_s(formula: str) -> None:
    spec, case = spec_of(formula, DATA), CASES[formula]
    labels = [term.label for term in spec.terms if term.label != "(Intercept)"]
    assert labels == case["labels"]
    first = 0 if spec.terms and spec.terms[0].label == "(Intercept)" else 1
    assign = [first + i for i, term in enumerate(spec.terms) for _ in spec.names[term.columns]]
    assert assign == case["assign"]


@pytest.mark.parametrize("formula", CASES)
def test_json_round_trip_is_exact(formula: str) -> None:
    part = fixed(formula)
    table, kinds = tabulate(part, DATA)
    spec = learn(part, table, kinds)
    text = msgspec.json.encode(spec)
    again = msgspec.json.decode(text, type=ModelMatrixSpec)
    assert again == spec
    assert msgspec.json.encode(again) == text
    assert model_matrix(again, table).tobytes() == model_matrix(spec, table).tobytes()


@pytest.mark.parametrize("formula", CASES)
def test_a_subset_of_rows_gives_that_subset_of_the_matrix(formula: str) -> None:
    part = fixed(formula)
    table, kinds = tabulate(part, DATA)
    spec = learn(part, table, kinds)
    keep = np.arange(table.rows) % 3 == 1
    np.testing.assert_allclose(
        model_matrix(spec, table.take(keep)), model_matrix(spec, table)[keep], rtol=1e-13, atol=1e-15
    )


@pytest.mark.parametrize(
    "formula",
    [
        "~ poly(x, 2):a",
        "~ bs(x, df = 4)",
        "~ ns(x, df = 3)",
        "~ x > 3",
        "~ I(x^0)",
        "~ scale(x)",
        "~ l:x",
        '~ I(a == "u")',
    ],
)
def test_missing_values_give_missing_columns_of_their_term_only(formula: str) -> None:
    data = {"a": ["u", "v", "w", "u", "v"], "x": [1.0, 2.0, 4.0, 3.0, 5.0], "l": [True, False, True, True, False]}
    new = {
        "a": pa.array(["v", None, "u"]),
        "x": pa.array([2.0, None, 3.0]),
        "l": pa.array([False, None, True]),
    }
    matrix = matrix_of(formula, data, new)
    assert np.isnan(matrix[1, 1:]).all()
    assert matrix[1, 0] == 1
    assert np.isfinite(matrix[[0, 2]]).all()
    np.testing.assert_array_equal(matrix[0], matrix_of(formula, data)[1])


def test_matrix_is_float64_in_c_order() -> None:
    matrix = matrix_of("~ a * x", SMALL)
    assert matrix.dtype == np.float64
    assert matrix.flags.c_contiguous


def test_levels_without_rows_are_dropped() -> None:
    values = pa.DictionaryArray.from_arrays(pa.array([2, 0, 2, 0]), pa.array(["low", "mid", "high"]))
    spec = spec_of("~ a", {"a": values})
    assert spec.names == ("(Intercept)", "ahigh")
    assert spec.factors == {"a": ("low", "high")}


def test_declared_order_sets_the_base() -> None:
    values = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), pa.array(["z", "m", "a"]))
    assert spec_of("~ a", {"a": values}).names == ("(Intercept)", "am", "aa")


def test_new_data_match_levels_by_label_not_by_code() -> None:
    shuffled = pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array(["w", "u", "never"]))
    np.testing.assert_array_equal(matrix_of("~ 0 + a", SMALL, {"a": shuffled}), [[1, 0, 0], [0, 0, 1]])


def test_numbers_as_factor() -> None:
    assert spec_of("~ factor(k)", {"k": [10, 2, 10, 3]}).names == ("(Intercept)", "factor(k)3", "factor(k)10")


def test_backquoted_names() -> None:
    data = {"my x": [1.0, 2.0], "my a": ["p", "q"]}
    assert spec_of("~ `my x` + `my a`", data).names == ("(Intercept)", "`my x`", "`my a`q")


def test_base_level_by_name_and_by_place() -> None:
    assert spec_of('~ C(a, treatment("v"))', SMALL).names[1:] == ('C(a, treatment("v"))u', 'C(a, treatment("v"))w')
    by_place = matrix_of("~ C(a, treatment, base = 2)", SMALL)
    np.testing.assert_array_equal(by_place, matrix_of('~ C(a, base = "v")', SMALL))


def test_unknown_level() -> None:
    with pytest.raises(LevelError, match=r"column 'a' has level 'new' in 2 rows, the first is row 1") as caught:
        matrix_of("~ a", SMALL, {"a": ["u", "new", "v", "other"]})
    assert (caught.value.column, caught.value.row, caught.value.count) == ("a", 1, 2)


def test_unknown_code_without_its_text() -> None:
    levels = Levels(pa.array(["u", "v", "w"]))
    table = Table(3, {}, {"a": Factor(np.array([0, MISSING, UNKNOWN], dtype=np.int32), levels)})
    with pytest.raises(LevelError, match="column 'a' has an unknown level in row 2; it was not there") as caught:
        model_matrix(spec_of("~ a", SMALL), table)
    assert caught.value.row == 2


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("~ k", r"column 'k' has only the level 'same' in the rows used.*drop k from"),
        ("~ x:k", r"only the level 'same'"),
        ("~ x > 100", r"x > 100 has only the level 'FALSE'.*drop x > 100 from"),
        ("~ d", r"column 'd' holds dates.*week\(d\).*factor\(d\).*days since"),
        ("~ scale(d)", r"column 'd' holds dates but stands in scale\(d\) where a number is needed"),
        ("~ log(a)", r"column 'a' holds text or categories but stands in log\(a\) where a number is needed"),
        ("~ I(x + a)", r"column 'a' holds text or categories but stands in x \+ a "),
        ('~ I(a == "uu")', r"column 'a' has no level 'uu'; did you mean 'u'\?"),
        ('~ C(a, treatment("q"))', r"there is no level 'q' in the rows used"),
        ("~ xx", r"no column 'xx'; did you mean x\?"),
        ("~ bad", r"column 'bad' holds neither"),
        ("~ scale(one)", r"scale\(one\) cannot be computed: one is 5 in every row"),
        ("~ center(one)", r"center\(one\) cannot be computed"),
        ("~ poly(one, 2)", r"poly\(one, 2\) cannot be computed"),
        ("~ bs(one)", r"bs\(one\) cannot be computed"),
        ("~ ns(one, df = 2)", r"ns\(one, df = 2\) cannot be computed"),
        ("~ poly(x, 4)", r"x has 4 distinct values; the degree must be less"),
        ("~ poly(x, 5, raw = TRUE)", r"x has 4 distinct values"),
        ("~ bs(ties, df = 5)", r"a knot falls on 0; take fewer df or give knots"),
        ("~ ns(x, knots = 9)", r"goes from 1 to 4, and a knot falls on 9; give knots between"),
        ("~ x:big:huge", r"x:big:huge .*is not a finite number in row 3"),
    ],
)
def test_data_errors(formula: str, words: str) -> None:
    data = {
        **SMALL,
        "k": ["same"] * 4,
        "d": pa.array([0, 1, 2, 3], pa.date32()),
        "bad": [[1], [2], [3], [4]],
        "one": [5.0] * 4,
        "ties": [0.0, 0.0, 0.0, 1.0],
        "big": [1.0, 1.0, 1.0, 1e200],
        "huge": [1.0, 1.0, 2.0, 1e200],
    }
    with pytest.raises(DataError, match=words) as caught:
        matrix_of(formula, data)
    assert caught.value.column is not None


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("~ log(x, 1)", "base of a logarithm"),
        ("~ I(poly(x, 2) * 2)", r"poly\(x, 2\): poly\(\) gives several columns"),
        ("~ log(factor(x))", r"factor\(x\): factor\(\) gives levels"),
        ("~ factor(x + 1)", r"factor\(x \+ 1\): factor\(\) takes a column or a comparison"),
        ("~ poly(x, 1.5)", "degree must be a whole number of at least 1"),
        ("~ poly(x, 2, raw = 1)", "must be TRUE or FALSE"),
        ("~ bs(x, df = 2)", "df must be a whole number of at least 3"),
        ("~ bs(x, df = 4, knots = 2)", "df or knots, not both"),
        ("~ ns(x, df = 0)", "df must be a whole number of at least 1"),
        ('~ I(x == "u")', "a text can only be compared"),
        ("~ scale(x, scale = 0)", "the scale must not be 0"),
        ("~ C(a, base = 9)", "base is 9, but there are 3 levels"),
        ("~ C(a, sum, base = 2)", "contrast sum has no base level"),
        ("~ C(a, contr.treatment(3))", "name the base level as a text"),
    ],
)
def test_formula_errors(formula: str, words: str) -> None:
    with pytest.raises(FormulaError, match=words):
        spec_of(formula, SMALL)


def test_a_wrong_base_names_the_column() -> None:
    with pytest.raises(DataError) as caught:
        spec_of('~ C(a, treatment("q"))', SMALL)
    assert caught.value.column == "a"


def test_ninety_six_ordered_levels_are_too_many() -> None:
    levels = [f"{i:03d}" for i in range(96)]
    with pytest.raises(DataError, match="96 levels, too many for polynomial contrasts"):
        spec_of("~ o", {"o": ordered(levels, levels)})
