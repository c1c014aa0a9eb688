"""`ranef.fit` as its callers meet it: any data in, the same numbers out, options, warnings, what it costs to call."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from scipy import stats

import ranef
import ranef.kernel
from ranef.data import simulate

FORMULA = "y ~ x + f + (1 + x | user) + (1 | item)"


def table(rows=1500, ids="int", seed=3) -> pa.Table:
    """Crossed users and items with a slope, weights, an offset and a covariate of two levels."""
    made = simulate(
        rows,
        {"user": 60, "item": 25},
        sd={"user": 0.8, "item": 0.5},
        slopes={"user": {"x": 0.4}},
        fixed={"(Intercept)": 2.0, "x": 0.5},
        binary={"f": -0.3},
        activity=0.5,
        ids=ids,
        seed=seed,
    ).data
    draw = np.random.default_rng(seed)
    made = made.append_column("w", pa.array(draw.uniform(0.5, 2.0, rows)))
    return made.append_column("o", pa.array(draw.normal(size=rows)))


def arrays(table: pa.Table) -> dict[str, np.ndarray]:
    return {name: np.asarray(table[name]) for name in table.column_names}


@pytest.fixture(scope="module")
def data() -> pa.Table:
    return table()


@pytest.fixture(scope="module")
def fit(data) -> ranef.Fit:
    return ranef.fit(FORMULA, data)


def same_bits(one: ranef.Fit, two: ranef.Fit) -> None:
    """Every number that was learned is the same to the last bit."""
    assert one.deviance == two.deviance
    assert one.iterations == two.iterations
    assert np.array_equal(one.model.beta, two.model.beta)
    assert np.array_equal(one.model.vcov, two.model.vcov)
    assert one.model.varcorr == two.model.varcorr
    assert one.model.fixed_names == two.model.fixed_names
    for left, right in zip(one.model.groups, two.model.groups, strict=True):
        assert left.levels.labels == right.levels.labels
        assert np.array_equal(left.modes, right.modes)
        assert np.array_equal(left.conditional, right.conditional)


def close(one: ranef.Fit, two: ranef.Fit) -> None:
    """The same optimum, found on another way."""
    assert one.converged
    assert two.converged
    assert one.deviance == pytest.approx(two.deviance, abs=1e-7)
    se = np.sqrt(np.diag(two.model.vcov))
    assert np.abs(one.model.beta - two.model.beta).max() < 1e-3 * se.min()
    for left, right in zip(one.model.varcorr, two.model.varcorr, strict=True):
        assert abs(left.vcov - right.vcov) < 1e-3 * right.se


# The name in the import


def test_every_name_is_there():
    for name in ranef.__all__:
        assert getattr(ranef, name) is not None
    assert set(ranef.__all__) <= set(dir(ranef))
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = ranef.fitt


def test_the_import_is_light():
    asked = "import sys, ranef; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert not {"numpy", "scipy", "pandas", "polars", "pyarrow", "numba"} & set(said.stdout.split())


def signatures() -> dict[str, int]:
    """How many times each kernel was compiled in this process."""
    found = {}
    for module in pkgutil.iter_modules(ranef.kernel.__path__, "ranef.kernel."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if hasattr(value, "nopython_signatures") and value.py_func.__module__ == module.name:
                found[f"{module.name}.{name}"] = len(value.nopython_signatures)
    return found


def test_a_second_fit_compiles_nothing(fit):
    before = signatures()
    assert sum(before.values()) > 0
    for rows, ids in ((400, "int"), (3000, "text")):
        other = table(rows, ids, seed=rows)
        ranef.fit(FORMULA, other)
        ranef.fit(FORMULA, other.to_pandas(), weights="w")
        ranef.fit(FORMULA, pl.from_arrow(other), method="ml", threads=1)
        ranef.fit(FORMULA, arrays(other), weights=np.asarray(other["w"]))
        narrow = other.set_column(0, "user", other["user"].cast(pa.int16()) if ids == "int" else other["user"])
        ranef.fit(FORMULA, narrow, offset="o")
    assert signatures() == before


def test_no_model_needs_a_kernel_compiled_twice(data):
    before = signatures()
    for formula in ("y ~ x", "y ~ x + (1 | user/item)", "y ~ (x || user)", "y ~ f + (0 + f | item) + (1 | user)"):
        fit = ranef.fit(formula, data, weights="w")
        fit.predict(data, interval="prediction")
    # tests of the kernels themselves may have run before, on arrays of other layouts
    twice = {name for name, count in signatures().items() if count > max(1, before[name])}
    # it moves codes and numbers alike
    assert twice <= {"ranef.kernel.sort.put"}
    assert signatures()["ranef.kernel.sort.put"] <= 2


# Data


def test_tables_come_back_in_the_library_that_came_in(data, tmp_path):
    pq.write_table(data, tmp_path / "data.parquet")
    given = [
        (data, pa.Table),
        (data.to_pandas(), pd.DataFrame),
        (pl.from_arrow(data), pl.DataFrame),
        (pl.from_arrow(data).lazy(), pl.DataFrame),
        (arrays(data), dict),
        (tmp_path / "data.parquet", pd.DataFrame),
    ]
    for rows, library in given:
        fit = ranef.fit("y ~ x + (1 | user)", rows)
        for found in (fit.fixef(), fit.varcorr(), fit.ranef("user"), fit.coef("user"), fit.confint(), fit.vcov()):
            assert type(found) is library
        assert type(fit.predict(rows)) is np.ndarray
        assert type(fit.simulate()) is library
        assert type(fit.predict(data.to_pandas(), interval="confidence")) is pd.DataFrame


@pytest.mark.parametrize("ids", ["int", "text"])
def test_any_container_gives_the_same_bits(ids, tmp_path):
    data = table(ids=ids)
    pq.write_table(data, tmp_path / "data.parquet", row_group_size=400)
    for part in range(3):
        pq.write_table(data.slice(500 * part, 500), tmp_path / f"part-{part}.parquet")
    pa.csv.write_csv(data, tmp_path / "data.csv")
    reference = ranef.fit(FORMULA, data)
    for rows in (
        data.to_pandas(),
        pl.from_arrow(data),
        arrays(data),
        data.to_pydict(),
        data.to_reader(),
        tmp_path / "data.parquet",
        str(tmp_path / "part-*.parquet"),
        [tmp_path / f"part-{part}.parquet" for part in range(3)],
        tmp_path / "data.csv",
    ):
        same_bits(ranef.fit(FORMULA, rows), reference)


def test_threads_do_not_show():
    data = table(20_000)
    one = ranef.fit(FORMULA, data, threads=1)
    for threads in (2, 5):
        same_bits(ranef.fit(FORMULA, data, threads=threads), one)


# Weights, offsets, missing values


def test_weights_by_name_and_by_array(data):
    named = ranef.fit(FORMULA, data, weights="w")
    same_bits(ranef.fit(FORMULA, data, weights=np.asarray(data["w"])), named)
    same_bits(ranef.fit(FORMULA, data, weights=data["w"].to_pylist()), named)
    assert named.deviance != ranef.fit(FORMULA, data).deviance


def test_weights_that_are_all_alike_scale_sigma_alone(data, fit):
    four = ranef.fit(FORMULA, data, weights=np.full(len(data), 4.0))
    assert four.sigma == pytest.approx(2 * fit.sigma, rel=1e-6)
    assert four.deviance == pytest.approx(fit.deviance, abs=1e-7)
    np.testing.assert_allclose(four.model.beta, fit.model.beta, rtol=1e-5)


def test_offset_by_name_and_in_the_formula(data):
    named = ranef.fit(FORMULA, data, offset="o")
    same_bits(ranef.fit(FORMULA.replace("x + f", "x + f + offset(o)"), data), named)
    shifted = data.append_column("z", pa.array(np.asarray(data["y"]) - np.asarray(data["o"])))
    close(ranef.fit(FORMULA.replace("y", "z", 1), shifted), named)


def test_weight_zero_is_a_row_less(data):
    weights = np.asarray(data["w"]).copy()
    weights[::7] = 0
    with pytest.warns(ranef.DroppedRowsWarning, match="of weight zero"):
        fit = ranef.fit(FORMULA, data, weights=weights)
    less = data.filter(pa.array(weights > 0))
    same_bits(fit, ranef.fit(FORMULA, less, weights="w"))
    assert fit.dropped == np.sum(weights == 0)
    assert fit.nobs == len(less)
    assert len(fit.fitted()) == len(fit.residuals()) == len(less)


def test_rows_with_missing_values_are_dropped_and_counted(data):
    frame = data.to_pandas()
    frame.loc[[3, 10], "x"] = np.nan
    frame["item"] = frame["item"].astype("Int32")
    frame.loc[[10, 20], "item"] = pd.NA
    frame.loc[30, "o"] = np.nan  # not in the model
    with pytest.warns(ranef.DroppedRowsWarning, match=r"3 of 1,500 rows were dropped"):
        fit = ranef.fit(FORMULA, frame)
    assert (fit.dropped, fit.nobs) == (3, 1497)
    assert fit.dropped_missing == {"x": 2, "item": 2}
    complete = data.filter(pa.array(~np.isin(np.arange(len(data)), [3, 10, 20])))
    same_bits(fit, ranef.fit(FORMULA, complete))


def test_missing_values_can_be_refused(data):
    frame = data.to_pandas()
    frame.loc[[5, 9], "x"] = np.nan
    with pytest.raises(ranef.DataError, match="x") as caught:
        ranef.fit(FORMULA, frame, missing="raise")
    assert (caught.value.column, caught.value.row, caught.value.count) == ("x", 5, 2)
    same_bits(ranef.fit(FORMULA, data, missing="raise"), ranef.fit(FORMULA, data))


# Search


def test_a_start_saves_evaluations(data, fit):
    again = ranef.fit(FORMULA, data, start=fit)
    assert again.iterations < fit.iterations
    close(again, fit)
    # the covariances carry over to a model with other fixed effects, too
    other = ranef.fit(FORMULA.replace("x + f", "x"), data, start=fit)
    close(other, ranef.fit(FORMULA.replace("x + f", "x"), data))


def test_update_and_refit(data, fit):
    ml = fit.update(method="ml")
    same_bits(ml, ranef.fit(FORMULA, data, method="ml"))
    less = ml.update(". ~ . - f - (1 | item)")
    assert less.method == "ml"
    same_bits(less, ranef.fit("y ~ x + (1 + x | user)", data, method="ml"))
    other = table(seed=4)
    refit = ml.refit(other)
    assert refit.method == "ml"
    close(refit, ranef.fit(FORMULA, other, method="ml"))
    same_bits(fit.update(data=other), ranef.fit(FORMULA, other))


def test_too_few_evaluations_are_said(data):
    with pytest.warns(ranef.ConvergenceWarning, match="not converged after"):
        fit = ranef.fit(FORMULA, data, max_iterations=1)
    assert not fit.converged


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_progress_goes_to_stderr(data, progress, shown, capsys):
    fit = ranef.fit(FORMULA, data, progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("deviance") == (fit.iterations if shown else 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "possion"}, "did you mean 'poisson'"),
        ({"family": 3}, "family=3 is not known: use 'gaussian', 'bernoulli'"),
        ({"family": "poisson", "link": "logit"}, "link='logit' is not known for family='poisson': use 'log'"),
        ({"family": "poisson", "method": "reml"}, "for family='poisson': use 'laplace' or 'joint'"),
        ({"family": "ordinal", "link": 3}, "link=3: give the name of a link"),
        ({"link": "log"}, "'identity'"),
        ({"method": "laplace"}, "'reml', 'ml' or 'gibbs'"),
        ({"method": "rmel"}, "did you mean 'reml'"),
        ({"seed": True}, "at least 0"),
        ({"solver": "quick"}, "'exact'"),
        ({"missing": "keep"}, "'drop'"),
        ({"tolerance": 0}, "1e-9"),
        ({"max_iterations": 0}, "at least 1"),
        ({"threads": 0}, "positive"),
        ({"start": "reml"}, "an earlier Fit"),
    ],
)
def test_wrong_options_are_refused(options, message, data):
    with pytest.raises(ranef.OptionError, match=message):
        ranef.fit(FORMULA, data, **options)


def test_words_may_be_in_any_case(data, fit):
    same_bits(ranef.fit(FORMULA, data, family="Gaussian", link="Identity", method="REML", solver="Exact"), fit)
    assert fit.confint("Wald").equals(fit.confint())
    boot = ranef.fit("y ~ x + (1 | user)", data).confint("boot", replicates=4, parameters=["x", "sigma"])
    assert boot["parameter"].to_pylist() == ["x", "sigma"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"REML": False}, "has no argument REML=; use method='reml' or method='ml'"),
        ({"weight": "w"}, "has no argument weight=; use weights="),
        ({"zzz": 1}, "has no argument zzz=; use formula=, data=, family="),
    ],
)
def test_arguments_from_elsewhere(wrong, message, data, fit):
    for call in (lambda: ranef.fit(FORMULA, data, **wrong), lambda: fit.update(**wrong)):
        with pytest.raises(ranef.OptionError, match=message):
            call()
    with pytest.raises(ranef.OptionError, match=r"predict\(\) has no argument newdata=; use data="):
        fit.predict(newdata=data)
    assert list(inspect.signature(ranef.fit).parameters)[:3] == ["formula", "data", "family"]


def test_some_parameters_have_intervals_of_their_own(fit):
    everything = fit.confint().to_pylist()
    assert fit.confint(parameters="x").to_pylist() == [row for row in everything if row["parameter"] == "x"]
    with pytest.raises(ranef.OptionError, match=r"no parameter 'sd_x' or 'Sigma'; did you mean 'sd_x\|user'"):
        fit.confint(parameters=["x", "sd_x", "Sigma"])


@pytest.mark.parametrize(("progress", "lines"), [(True, 1), (False, 0), (None, 0)])
def test_progress_of_intervals(progress, lines, data, capsys):
    ranef.fit("y ~ x + (1 | user)", data).confint("profile", parameters="sigma", progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == err.count("profiles: 1 of 1, ") == lines


def test_warnings_point_at_the_caller(data, fit, tmp_path):
    fit.save(tmp_path / "model")
    new = data.slice(0, 5).set_column(0, "user", pa.array([999] * 5, pa.int32()))
    for call in (
        lambda: ranef.fit(FORMULA, data, max_iterations=1),
        lambda: fit.update(max_iterations=1),
        lambda: fit.update(tolerance=1e-300, max_iterations=1).refit(),
        lambda: ranef.load(tmp_path / "model").refit(data, max_iterations=1, start=None),
        lambda: fit.predict(new),
    ):
        with pytest.warns(ranef.RanefWarning) as caught:
            call()
        assert {warning.filename for warning in caught} == {__file__}


def test_rows_that_were_used(data, fit, tmp_path):
    assert fit.kept.tolist() == [True] * len(data)
    frame = data.to_pandas()
    frame.loc[[3, 10], "x"] = np.nan
    with pytest.warns(ranef.DroppedRowsWarning):
        less = ranef.fit(FORMULA, frame)
    assert np.flatnonzero(~less.kept).tolist() == [3, 10]
    frame.loc[less.kept, "residual"] = less.residuals()
    np.testing.assert_allclose(frame["residual"][less.kept], (frame["y"] - less.predict(data))[less.kept])
    assert frame["residual"][[3, 10]].isna().all()
    less.save(tmp_path / "model")
    with pytest.raises(ranef.OptionError, match="loaded model"):
        _ = ranef.load(tmp_path / "model").kept


def test_columns_of_text_are_text_even_if_empty(data):
    frame = ranef.fit("y ~ x + (1 | user)", pl.from_arrow(data)).varcorr()
    assert frame.schema["var2"] == pl.String
    assert frame["var2"].to_list() == [None, None]
    assert ranef.fit("y ~ x + (1 | user)", arrays(data)).varcorr()["var2"].tolist() == [None, None]


def test_a_grouping_factor_in_another_order(data):
    fit = ranef.fit("y ~ x + (1 | f:item)", data)
    for name in ("item:f", "f/item"):
        with pytest.raises(ranef.OptionError, match=f"'{name}'; did you mean 'f:item'"):
            fit.ranef(name)


def test_intervals_of_weighted_rows(data, tmp_path):
    fit = ranef.fit("y ~ x + (1 | user)", data, weights="w")
    confidence, found = fit.predict(data, interval="confidence"), fit.predict(data, interval="prediction")
    z = 1.959963984540054
    spread = [(np.asarray(one["upr"]) - np.asarray(one["fit"])) / z for one in (confidence, found)]
    np.testing.assert_allclose(spread[1] ** 2 - spread[0] ** 2, fit.sigma**2 / np.asarray(data["w"]))
    fit.save(tmp_path / "model")
    again = ranef.load(tmp_path / "model").predict(data.to_pandas(), interval="prediction")
    np.testing.assert_array_equal(again["upr"], found["upr"])
    without = fit.predict(data.drop_columns("w"), interval="prediction")
    spread[1] = (np.asarray(without["upr"]) - np.asarray(without["fit"])) / z
    np.testing.assert_allclose(spread[1] ** 2 - spread[0] ** 2, fit.sigma**2)
    weights = np.asarray(data["w"]).copy()
    weights[:2] = 0, np.nan
    odd = data.set_column(data.column_names.index("w"), "w", pa.array(weights, from_pandas=True))
    limits = fit.predict(odd, interval="prediction").slice(0, 2).to_pandas()
    assert limits["lwr"][0] == -np.inf
    assert limits[["lwr", "upr"]].iloc[1].isna().all()
    assert limits["fit"].notna().all()
    weights[7] = -1
    odd = data.set_column(data.column_names.index("w"), "w", pa.array(weights, from_pandas=True))
    with pytest.raises(ranef.DataError, match=r"'w' has 1 negative or infinite weight, the first in row 7 \(-1\)"):
        fit.predict(odd, interval="prediction")
    assert len(fit.predict(odd, interval="confidence")) == len(data)


# Files


def test_a_loaded_model_says_the_same(fit, data, tmp_path):
    frame = data.to_pandas()
    fit.save(tmp_path / "model")
    again = ranef.load(tmp_path / "model")
    same_bits(again, fit)
    assert repr(again) == repr(fit)
    assert str(again).splitlines()[-1] == str(fit).splitlines()[-1]
    assert np.array_equal(again.predict(data), fit.predict(data))
    assert np.array_equal(again.predict(data), fit.fitted())
    assert np.array_equal(again.residuals(data=data), fit.residuals())
    for interval in ("confidence", "prediction"):
        found = again.predict(frame, interval=interval)
        pd.testing.assert_frame_equal(found, fit.predict(frame, interval=interval), check_exact=True)
    for name, options in (("fixef", {}), ("varcorr", {}), ("confint", {}), ("vcov", {}), ("ranef", {"group": "user"})):
        left, right = getattr(again, name)(**options), getattr(fit, name)(**options).to_pandas()
        pd.testing.assert_frame_equal(left, right, check_exact=True)
    close(again.refit(data), fit)


# Without random effects


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_without_random_terms_it_is_least_squares(method, data):
    fit = ranef.fit("y ~ x + f", data, method=method)
    x = np.column_stack([np.ones(len(data)), data["x"], np.asarray(data["f"]) == "yes"])
    y = np.asarray(data["y"])
    n, p = x.shape
    beta, (square,), _, _ = np.linalg.lstsq(x, y)
    nu = n - p if method == "reml" else n
    se = np.sqrt(np.diag(np.linalg.inv(x.T @ x)) * square / nu)
    rows = fit.fixef().to_pylist()
    assert [row["term"] for row in rows] == ["(Intercept)", "x", "fyes"]
    np.testing.assert_allclose([row["estimate"] for row in rows], beta, rtol=1e-9)
    np.testing.assert_allclose([row["se"] for row in rows], se, rtol=1e-9)
    np.testing.assert_allclose([row["df"] for row in rows], nu, rtol=1e-9)
    expected = 2 * stats.t.sf(np.abs(beta / se), nu)
    np.testing.assert_allclose([row["p"] for row in rows], expected, rtol=1e-6)
    assert fit.sigma == pytest.approx(np.sqrt(square / nu), rel=1e-10)
    deviance = nu * (1 + np.log(2 * np.pi * square / nu))
    deviance += np.linalg.slogdet(x.T @ x)[1] if method == "reml" else 0.0
    assert fit.deviance == pytest.approx(deviance, rel=1e-12)
    assert fit.df == 4
    np.testing.assert_allclose(fit.fitted(), x @ beta, rtol=1e-9)
    np.testing.assert_allclose(fit.predict(data), fit.fitted())
