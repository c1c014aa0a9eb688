"""Fits on held-out rows: the metrics of each family, computed again from predictions, and the simpler models."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, mean_poisson_deviance, roc_auc_score

import ranef
from ranef.cli import main
from ranef.evaluate import Biases, GlobalMean, evaluate_fit, split_random

# levels that are drawn into the test rows only
pytestmark = pytest.mark.filterwarnings("ignore::ranef.errors.UnknownLevelWarning")

FORMULA = "y ~ x + (1 | user) + (1 | item)"


def simulated(family: str, seed: int = 1, **options):
    data = ranef.data.simulate(
        4000, {"user": 120, "item": 40}, fixed={"x": 0.5}, family=family, library="pandas", seed=seed, **options
    ).data
    return split_random(data, 0.25, seed=2)


@pytest.fixture(scope="module")
def gaussian():
    train, test = simulated("gaussian")
    return ranef.fit(FORMULA, train), train, test


def test_gaussian(gaussian):
    fit, train, test = gaussian
    found = evaluate_fit(fit, test)
    assert (found.by, found.units, found.rows, found.dropped) == ("user", test["user"].nunique(), len(test), 0)
    error = test["y"] - fit.predict(test)
    assert found.estimate("RMSE").value == pytest.approx(np.sqrt(np.mean(error**2)))
    assert found.estimate("MAE").value == pytest.approx(np.mean(abs(error)))
    assert found.models == ("model", "fixed", "mean", "biases")
    assert found.estimate("RMSE", "mean").value == pytest.approx(np.sqrt(np.mean((test["y"] - train["y"].mean()) ** 2)))
    fixed = fit.predict(test, include="fixed")
    assert found.estimate("RMSE", "fixed").value == pytest.approx(np.sqrt(np.mean((test["y"] - fixed) ** 2)))
    biases = ranef.fit("y ~ 1 + (1 | user) + (1 | item)", train).predict(test)
    assert found.estimate("RMSE", "biases").value == pytest.approx(np.sqrt(np.mean((test["y"] - biases) ** 2)))
    assert found.estimate("RMSE").se > 0
    assert "less model" in str(found)
    clipped = evaluate_fit(fit, test, clip=(0, 1), baselines=(), by="rows")
    error = test["y"] - fit.predict(test).clip(0, 1)
    assert clipped.estimate("RMSE").value == pytest.approx(np.sqrt(np.mean(error**2)))
    assert clipped.by == "rows"


def test_binary():
    train, test = simulated("bernoulli")
    fit = ranef.fit(FORMULA, train, family="bernoulli")
    found = evaluate_fit(fit, test, baselines="mean")
    p = fit.predict(test)
    assert found.estimate("log loss").value == pytest.approx(log_loss(test["y"], p))
    assert found.estimate("Brier score").value == pytest.approx(brier_score_loss(test["y"], p))
    assert found.estimate("AUC").value == pytest.approx(roc_auc_score(test["y"], p))
    assert found.estimate("AUC within user").value == pytest.approx(
        ranef.evaluate.group_auc(test["y"], p, test["user"])
    )
    assert found.calibration().rows.sum() == len(test)
    assert found.estimate("AUC", "mean").value == pytest.approx(0.5)
    assert 0.4 < found.estimate("log loss").value < found.estimate("log loss", "mean").value


def test_trials_count_one_by_one():
    train, test = simulated("binomial", trials=4)
    label = "cbind(y, failures)"
    fit = ranef.fit(f"{label} ~ x + (1 | user) + (1 | item)", train, family="binomial")
    found = evaluate_fit(fit, test, baselines=())
    p = np.repeat(fit.predict(test), 4)
    y = np.concatenate([[1] * a + [0] * b for a, b in zip(test["y"], test["failures"], strict=True)])
    assert found.estimate("log loss").value == pytest.approx(log_loss(y, p))
    assert found.estimate("AUC").value == pytest.approx(roc_auc_score(y, p))
    user = np.repeat(test["user"].to_numpy(), 4)
    assert found.estimate("AUC within user").value == pytest.approx(ranef.evaluate.group_auc(y, p, user))


@pytest.mark.parametrize("labels", [False, True])
def test_ordinal(labels):
    train, test = simulated("ordinal", thresholds=(-1.0, 0.5, 1.5))
    values = np.unique(train["y"])
    if labels:
        names = pd.CategoricalDtype(["bad", "poor", "good", "best"], ordered=True)
        train, test = (
            part.assign(y=pd.Categorical.from_codes(np.searchsorted(values, part["y"]), dtype=names))
            for part in (train, test)
        )
        codes = test["y"].cat.codes.to_numpy()
        values = np.arange(1, 5)
    else:
        codes = np.searchsorted(values, test["y"])
    fit = ranef.fit(FORMULA, train, family="ordinal")
    found = evaluate_fit(fit, test, baselines="mean")
    p = fit.predict(test).to_numpy()
    assert found.estimate("log loss").value == pytest.approx(log_loss(codes, p))
    assert found.estimate("accuracy").value == pytest.approx(accuracy_score(codes, p.argmax(axis=1)))
    error = values[codes] - p @ values
    assert found.estimate("RMSE").value == pytest.approx(np.sqrt(np.mean(error**2)))
    shares = train["y"].value_counts(normalize=True).sort_index().to_numpy()
    assert found.estimate("log loss", "mean").value == pytest.approx(-np.log(shares[codes]).mean())


def test_counts():
    train, test = simulated("poisson")
    fit = ranef.fit(FORMULA, train, family="poisson")
    found = evaluate_fit(fit, test)
    assert found.estimate("deviance").value == pytest.approx(mean_poisson_deviance(test["y"], fit.predict(test)))
    assert found.estimate("deviance", "mean").value == pytest.approx(
        mean_poisson_deviance(test["y"], np.full(len(test), train["y"].mean()))
    )
    assert found.estimate("deviance", "biases").value > found.estimate("deviance").value


def test_negative_binomial_deviance_is_twice_the_loss_of_likelihood():
    table = ranef.data.epil().to_pandas()
    fit = ranef.fit("y ~ V4 + (1 | subject)", table, family="negative_binomial")
    found = evaluate_fit(fit, table, baselines=())
    y, theta, mean = table["y"], fit.dispersion, fit.predict(table)

    def loglik(mu):
        return stats.nbinom.logpmf(y, theta, theta / (theta + mu))

    expected = 2 * np.mean(loglik(np.maximum(y, 1e-9)) - loglik(mean))
    assert found.estimate("deviance").value == pytest.approx(expected, rel=1e-6)


def test_several_fits_are_compared_on_the_rows_that_all_predict(gaussian):
    fit, train, test = gaussian
    other = ranef.fit("y ~ 1 + (1 | user)", train)
    test = test.assign(x=test["x"].where(np.arange(len(test)) % 10 != 0), y=test["y"].where(np.arange(len(test)) != 3))
    found = evaluate_fit({"both": fit, "users": other}, test, baselines=())
    whole = test.dropna()
    assert (found.rows, found.dropped) == (len(whole), len(test) - len(whole))
    assert "left out" in str(found)
    for name, one in {"both": fit, "users": other}.items():
        expected = np.sqrt(np.mean((whole["y"] - one.predict(whole)) ** 2))
        assert found.estimate("RMSE", name).value == pytest.approx(expected)
    assert found.difference("RMSE", "users", "both").lower > 0


def test_sides_of_latent_terms_are_factors(gaussian):
    _, train, test = gaussian
    fit = ranef.fit("y ~ 1 + latent(user, item, rank=1)", train)
    found = evaluate_fit(fit, test)
    assert found.by == "user"
    assert found.models == ("model", "mean", "biases")
    error = test["y"] - fit.predict(test)
    assert found.estimate("RMSE").value == pytest.approx(np.sqrt(np.mean(error**2)))
    biases = ranef.fit("y ~ 1 + (1 | user) + (1 | item)", train).predict(test)
    assert found.estimate("RMSE", "biases").value == pytest.approx(np.sqrt(np.mean((test["y"] - biases) ** 2)))


def test_new_levels_are_counted_without_a_warning(gaussian):
    fit, _, test = gaussian
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = evaluate_fit(fit, test.assign(item=9_999), baselines=())
    assert f"model: {len(test):,} of {len(test):,} rows have a level of 'item' that was not seen" in str(found)


def test_rows_count_as_often_as_their_weights_say():
    train, test = simulated("bernoulli")
    test = test.assign(n=np.arange(len(test)) % 3)
    fit = ranef.fit(FORMULA, train.assign(n=1), family="bernoulli", weights="n")
    again = test.loc[test.index.repeat(test["n"])].assign(n=1)
    for by in ("user", "rows"):
        one, other = (evaluate_fit(fit, data, by=by, baselines="mean").records() for data in (test, again))
        for row, same in zip(one, other, strict=True):
            assert row["estimate"] == pytest.approx(same["estimate"]), row


def test_tables_come_back_in_the_callers_library(gaussian):
    fit, train, test = gaussian
    found = evaluate_fit(fit, pl.from_pandas(test), train=train)
    assert isinstance(found.table(), pl.DataFrame)
    assert found.table().columns == ["model", "metric", "estimate", "se", "lower", "upper"]
    assert found.comparison("mean").columns == ["model", "reference", "metric", "difference", "se", "lower", "upper"]
    assert set(found.comparison("mean")["reference"]) == {"mean"}


def test_biases_are_the_ridge_solution():
    train, test = simulated("gaussian")
    penalty = {"user": 3.0, "item": 1.5}
    users, items = np.unique(train["user"]), np.unique(train["item"])
    z = np.column_stack(
        [np.ones(len(train)), train["user"].to_numpy()[:, None] == users, train["item"].to_numpy()[:, None] == items]
    ).astype(float)
    ridge = np.diag([0.0, *[3.0] * len(users), *[1.5] * len(items)])
    solution = np.linalg.solve(z.T @ z + ridge, z.T @ train["y"])
    fitted = Biases("y", ["user", "item"], penalty).fit(train)
    assert fitted.mean == pytest.approx(solution[0])
    assert fitted.effects["user"][1] == pytest.approx(solution[1 : 1 + len(users)])
    assert fitted.predict(train) == pytest.approx(z @ solution)
    new = pd.DataFrame({"user": [users[0], -5], "item": [-5, -5]})
    assert fitted.predict(new) == pytest.approx([solution[0] + solution[1], solution[0]])
    assert GlobalMean("y").fit(train).predict(test) == pytest.approx(np.full(len(test), train["y"].mean()))
    # penalties from estimated variances: the mixed model's own predictions
    fit = ranef.fit("y ~ 1 + (1 | user) + (1 | item)", train)
    assert Biases("y", ["user", "item"]).fit(train).predict(test) == pytest.approx(fit.predict(test), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clip": (5, 1)}, "clip"),
        ({"by": "usr"}, "'user'"),
        ({"baselines": "median"}, "baselines"),
        ({"level": 2}, "level"),
    ],
)
def test_wrong_options(gaussian, change, words):
    fit, _, test = gaussian
    with pytest.raises(ranef.OptionError, match=words):
        evaluate_fit(fit, test, **change)


def test_what_cannot_be_compared(gaussian):
    fit, train, test = gaussian
    binary = ranef.fit("I(y > 0) ~ 1 + (1 | user)", train, family="bernoulli")
    with pytest.raises(ranef.OptionError, match="one response"):
        evaluate_fit({"a": fit, "b": binary}, test)
    with pytest.raises(ranef.OptionError, match="clip"):
        evaluate_fit(binary, test, clip=(0, 1))
    with pytest.raises(ranef.OptionError, match="no fit"):
        evaluate_fit({"a": [1, 2]}, test)
    with pytest.raises(ranef.OptionError, match="no column 'y'"):
        evaluate_fit(fit, test.drop(columns="y"))
    with pytest.raises(ranef.DataError, match="no test row"):
        evaluate_fit(fit, test.assign(y=np.nan))


def test_command_line(gaussian, tmp_path, capsys):
    fit, train, test = gaussian
    fit.save(tmp_path / "model")
    ranef.fit("y ~ 1 + (1 | user)", train).save(tmp_path / "small")
    train.to_parquet(tmp_path / "train.parquet")
    test.to_csv(tmp_path / "test.csv", index=False)
    model, rows = str(tmp_path / "model"), str(tmp_path / "test.csv")
    assert main(["evaluate", model, rows]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "RMSE" in out
    assert "--train" in out
    more = ["--train", str(tmp_path / "train.parquet"), "--other", str(tmp_path / "small"), "--clip", "-2,2"]
    assert main(["evaluate", model, rows, *more, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    said = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert set(said) == {
        "formula", "family", "method", "rows", "dropped", "by", "units", "replicates", "level", "seed", "models",
        "metrics", "differences", "calibration", "notes",
    }  # fmt: skip
    assert said["models"] == ["model", str(tmp_path / "small"), "fixed", "mean", "biases"]
    assert said["metrics"][0] == {**evaluate_fit(fit, test, clip=(-2, 2)).records()[0]}
    assert set(said["differences"][0]) == {"model", "reference", "metric", "difference", "se", "lower", "upper"}
    assert main(["evaluate", model, rows, "--replicates", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"][0]["se"] is None
    for wrong in (["--clip", "1"], ["--by", "nobody"], ["--other", model, "--other", model]):
        assert main(["evaluate", model, rows, *wrong]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert main(["evaluate", model, str(tmp_path / "none.csv")]) == 2
    assert main(["evaluate", str(tmp_path), rows]) == 2
    bad = tmp_path / "bad.csv"
    test.assign(y="high").to_csv(bad, index=False)
    assert main(["evaluate", model, str(bad)]) == 1
