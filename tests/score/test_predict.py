"""Predictions against lme4, their parts, and what happens to missing values and new levels."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ranef.data import load as data
from ranef.design.build import build_design
from ranef.engine.threads import engine
from ranef.errors import DataError, LevelError, OptionError
from ranef.formula import parse
from ranef.learn.gaussian import fit_gaussian
from ranef.score import predict
from ranef.table import open_source
from tests.golden_fits import GOLDEN, design_of, table_of


def fit(formula, table, **options):
    with engine(1) as pool:
        return fit_gaussian(build_design(parse(formula), open_source(table), **options), "reml", pool)


def at(model, table, **options):
    return predict(model, open_source(table), **options)


@pytest.fixture(scope="module")
def sleep():
    return fit("Reaction ~ Days + (Days | Subject)", data("sleepstudy"))


@pytest.fixture(scope="module")
def split():
    return fit("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", data("sleepstudy"))


@pytest.fixture(scope="module")
def pastes():
    return fit("strength ~ 1 + (1 | batch/cask)", data("pastes"))


@pytest.fixture(scope="module")
def ratings():
    return fit("y ~ service + (1 | s) + (0 + service | dept)", data("insteval").slice(0, 4000))


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["name"])
def test_lme4_predictions(golden):
    with engine(2) as pool:
        model = fit_gaussian(design_of(golden), golden["method"].lower(), pool)
    rows = [one["row0"] for one in golden["predictions"]]
    table = table_of(golden["data"]).take(rows)
    tolerance = 1e-5 * golden["sigma"]
    for kind, options in (("conditional", {}), ("population", {"include": "fixed"})):
        found = at(model, table, **options)
        np.testing.assert_allclose(found.fit, [one[kind] for one in golden["predictions"]], rtol=0, atol=tolerance)
        assert (found.missing, found.unknown, found.lower, found.upper) == (0, {}, None, None)


def test_parts_sum_to_the_whole(split, pastes, ratings):
    for model, table in ((split, data("sleepstudy")), (pastes, data("pastes")), (ratings, data("insteval"))):
        whole = at(model, table).fit
        texts = [term.text for group in model.spec.groups for term in group.terms]
        parts = {name: at(model, table, include=name).fit for name in ["fixed", *texts]}
        np.testing.assert_allclose(sum(parts.values()), whole, rtol=1e-12)
        for name, part in parts.items():
            np.testing.assert_allclose(at(model, table, exclude=[name]).fit, whole - part, atol=1e-10)
        groups = {group.name for group in model.spec.groups}
        np.testing.assert_array_equal(at(model, table, exclude=groups).fit, parts["fixed"])
        np.testing.assert_array_equal(at(model, table, include=["fixed", *texts]).fit, whole)
        np.testing.assert_array_equal(at(model, table, include=[]).fit, 0)


def test_texts_are_read_as_in_a_formula(sleep, pastes):
    fixed = at(sleep, data("sleepstudy"), include="fixed").fit
    for text in ("(Days|Subject)", "(1 + Days | Subject)", "Subject"):
        np.testing.assert_array_equal(at(sleep, data("sleepstudy"), exclude=text).fit, fixed)
    both = at(pastes, data("pastes"), include="(1 | batch/cask)").fit
    np.testing.assert_array_equal(both, at(pastes, data("pastes"), exclude="fixed").fit)


def test_a_factor_is_all_its_terms(split):
    both = at(split, data("sleepstudy"), include={"(1|Subject)", " (0 + Days | Subject)"})
    np.testing.assert_array_equal(both.fit, at(split, data("sleepstudy"), include="Subject").fit)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": "subject"}, r"no part 'subject'; it has 'fixed', 'Subject', '\(1 \+ Days \| Subject\)'"),
        ({"exclude": ["Days"]}, "exclude: the model has no part 'Days'"),
        ({"include": [3]}, "no part 3"),
        ({"include": "fixed", "exclude": "Subject"}, "both given"),
        ({"new_levels": "zero"}, "new_levels='zero' is not known"),
        ({"interval": "credible"}, "interval='credible' is not known"),
        ({"interval": "prediction", "level": 95}, "level=95: give a number"),
        ({"interval": "prediction", "level": "0.9"}, "level='0.9': give a number"),
    ],
)
def test_wrong_options(sleep, options, message):
    with pytest.raises(OptionError, match=message):
        at(sleep, data("sleepstudy"), **options)


def test_only_the_columns_that_take_part_are_read(sleep, split):
    table = data("sleepstudy").drop_columns("Reaction")
    assert at(sleep, table).fit.shape == (180,)
    assert at(sleep, table.drop_columns("Subject"), exclude="Subject").missing == 0
    assert at(split, table.drop_columns("Days"), include="(1 | Subject)").missing == 0
    with pytest.raises(OptionError, match="no column 'Days'"):
        at(sleep, table.drop_columns("Days"))


def test_order_and_batches_do_not_matter(ratings):
    table = data("insteval")
    whole = at(ratings, table).fit
    order = np.random.default_rng(1).permutation(table.num_rows)
    np.testing.assert_allclose(at(ratings, table.take(order)).fit, whole[order], rtol=1e-14)
    np.testing.assert_allclose(at(ratings, table.slice(70_000)).fit, whole[70_000:], rtol=1e-14)


def test_no_rows(sleep):
    found = at(sleep, data("sleepstudy").slice(0, 0), interval="prediction")
    assert found.fit.shape == found.lower.shape == found.upper.shape == (0,)


def test_missing_values_are_nan_and_counted(sleep):
    new = {"Days": [1.0, np.nan, 2.0, None], "Subject": ["308", "309", None, "nobody"]}
    found = at(sleep, pa.table({name: pa.array(v, from_pandas=True) for name, v in new.items()}), interval="prediction")
    assert found.missing == 3
    np.testing.assert_array_equal(np.isnan(found.fit), [False, True, True, True])
    np.testing.assert_array_equal(np.isnan(found.lower), np.isnan(found.fit))
    np.testing.assert_array_equal(np.isnan(found.upper), np.isnan(found.fit))
    assert found.unknown == {"Subject": (1, 3, "nobody")}


def test_new_levels_get_the_population_value(sleep):
    new = {"Days": [1.0, 2.0, 3.0], "Subject": ["308", "new", "newer"]}
    found = at(sleep, new)
    np.testing.assert_array_equal(found.fit[1:], at(sleep, new, include="fixed").fit[1:])
    assert found.unknown == {"Subject": (2, 1, "new")}
    with pytest.raises(LevelError, match=r"'Subject' has levels .* 2 rows: the first is 'new' in row 1") as caught:
        at(sleep, new, new_levels="raise")
    assert (caught.value.column, caught.value.row, caught.value.count) == ("Subject", 1, 2)


def test_new_combinations(pastes):
    new = {"batch": ["A", "A", "K"], "cask": ["a", "z", "a"]}
    found = at(pastes, new)
    name = pastes.spec.groups[0].name
    assert found.unknown[name][:2] == (2, 1)
    assert sorted(found.unknown[name].label.split(":")) == ["A", "z"]
    assert found.unknown["batch"] == (1, 2, "K")
    np.testing.assert_allclose(found.fit[1], at(pastes, new, include=["fixed", "batch"]).fit[1])
    np.testing.assert_allclose(found.fit[2], pastes.beta[0])


def test_declared_levels_without_rows_are_unknown():
    table = data("dyestuff")
    kept = table.filter(pc.not_equal(table["Batch"].cast(pa.string()), "C"))
    model = fit("Yield ~ 1 + (1 | Batch)", kept)
    assert len(model.column_levels["Batch"]) == 6
    found = at(model, {"Batch": ["B", "C", "D"]})
    assert found.unknown == {"Batch": (1, 1, "C")}
    modes = model.groups[0].modes[:, 0]
    np.testing.assert_array_equal(found.fit, model.beta[0] + np.array([modes[1], 0, modes[2]]))


def test_new_level_of_a_fixed_factor(ratings):
    table = pa.table({"service": ["0", "1", "2", "3"], "s": ["1"] * 4, "dept": ["1"] * 4})
    with pytest.raises(LevelError, match=r"'service' has level '2' in 2 rows, the first is row 2"):
        at(ratings, table)


def test_errors_count_rows_in_the_whole_data(ratings, monkeypatch):
    monkeypatch.setattr(import_module("ranef.score.predict"), "MOST_ROWS", 3)
    table = pa.table({"service": ["0"] * 7 + ["9", "8"], "s": ["1"] * 9, "dept": ["1"] * 9})
    with pytest.raises(LevelError, match="in 2 rows, the first is row 7") as caught:
        at(ratings, table)
    assert (caught.value.row, caught.value.count) == (7, 2)


def test_levels_of_numbers_are_matched_by_value():
    table = data("sleepstudy")
    numbered = table.set_column(2, "Subject", table["Subject"].cast(pa.string()).cast(pa.int32()))
    model = fit("Reaction ~ Days + (1 | Subject)", numbered)
    wide = numbered.set_column(2, "Subject", numbered["Subject"].cast(pa.float64()))
    np.testing.assert_array_equal(at(model, wide).fit, at(model, numbered).fit)


def test_levels_of_text_and_whole_numbers_are_matched_by_label():
    """Single columns, products and factors of the fixed part, whichever of the two was fitted."""
    rng = np.random.default_rng(3)
    number = pa.table(
        {
            "y": rng.normal(size=240),
            "c": 1 + rng.integers(0, 3, 240),
            "a": 8 + rng.integers(0, 5, 240),
            "b": 98 + rng.integers(0, 4, 240),
        }
    )
    names = ["c", "a", "b"]
    text = number.cast(pa.schema([("y", pa.float64()), *((name, pa.string()) for name in names)]))
    floats = number.cast(pa.schema([(name, pa.float64()) for name in number.column_names]))
    formula = "y ~ factor(c) + (1 | a) + (1 | a:b)"
    of_number, of_text = fit(formula, number), fit(formula, text)
    for model, others in ((of_number, (text,)), (of_text, (number, floats))):
        own = at(model, number if model is of_number else text, interval="prediction")
        for other in others:
            found = at(model, other, interval="prediction")
            assert not found.unknown
            np.testing.assert_array_equal(found.fit, own.fit)
            np.testing.assert_array_equal(found.upper, own.upper)
    # one new id makes a column of integers text: only that row is new
    odd = text.set_column(2, "a", pa.array(["NEW", *text["a"].to_pylist()[1:]]))
    found = at(of_number, odd)
    assert {name: (one.rows, one.first, one.label) for name, one in found.unknown.items()} == {
        "a": (1, 0, "NEW"),
        "a:b": (1, 0, f"NEW:{text['b'][0]}"),
    }
    np.testing.assert_array_equal(found.fit[1:], at(of_number, number).fit[1:])
    wrong = text.set_column(1, "c", pa.array([*text["c"].to_pylist()[:-1], "NEW"]))
    with pytest.raises(LevelError, match="'NEW'"):
        at(of_number, wrong)
    with pytest.raises(LevelError, match="'9'"):
        at(of_text, number.set_column(1, "c", pa.array([9] * 240)))
    with pytest.raises(DataError, match="'a' was integer when the model was fitted and is boolean now"):
        at(of_number, number.set_column(2, "a", pa.array([True] * 240)))


def test_offset_and_dropped_columns():
    table = data("sleepstudy")
    half = pc.multiply(table["Days"], 0.5)
    table = table.append_column("half", half).append_column("twice", pc.multiply(table["Days"], 2.0))
    model = fit("Reaction ~ Days + twice + offset(10 * half) + (1 | Subject)", table)
    plain = fit("Reaction ~ Days + (1 | Subject)", data("sleepstudy"))
    np.testing.assert_allclose(at(model, table).fit, at(plain, table).fit, rtol=1e-6)
    np.testing.assert_allclose(at(model, table, include="fixed").fit, at(plain, table, include="fixed").fit, rtol=1e-6)
    np.testing.assert_allclose(
        at(model, table, include="Subject").fit, at(plain, table, include="Subject").fit, atol=1e-3
    )


def test_without_posterior_there_are_no_intervals(sleep):
    with pytest.raises(OptionError, match="saved without its posterior"):
        at(replace(sleep, posterior=None), data("sleepstudy"), interval="confidence")
