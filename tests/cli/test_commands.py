"""Each command on a small file, and the words that programs read."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

import ranef
from ranef.cli import main
from ranef.data import epil, pastes, penicillin, sleepstudy, wine

FORMULA = "Reaction ~ Days + (Days | Subject)"
KEYS = {
    "method",
    "formula",
    "family",
    "link",
    "nobs",
    "dropped",
    "dropped_missing",
    "groups",
    "fixef",
    "varcorr",
    "thresholds",
    "dispersion",
    "sigma",
    "loglik",
    "loglik_mcse",
    "deviance",
    "aic",
    "bic",
    "df",
    "converged",
    "singular",
    "solver",
    "iterations",
    "seconds",
}


@pytest.fixture
def sleep(tmp_path: Path) -> str:
    path = tmp_path / "sleep.parquet"
    pq.write_table(sleepstudy(), path)
    return str(path)


@pytest.fixture
def model(tmp_path: Path, sleep: str, capsys: pytest.CaptureFixture[str]) -> str:
    path = str(tmp_path / "model")
    assert main(["fit", FORMULA, sleep, "--out", path, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    return path


def test_fit_prints_the_summary(sleep: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", FORMULA, sleep]) == 0
    out, err = capsys.readouterr()
    assert "Linear mixed model fit by REML" in out
    assert FORMULA in out
    assert "Number of obs: 180, groups: Subject, 18" in out
    assert err == ""


def test_fit_json_is_one_document(sleep: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", FORMULA, sleep, "--json", "--out", str(tmp_path / "m")]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert set(document) == KEYS
    assert err == f"model saved to {tmp_path / 'm'}\n"
    assert document["groups"] == {"Subject": 18}
    assert document["deviance"] == pytest.approx(1743.6283, abs=1e-3)
    assert (document["method"], document["nobs"], document["df"], document["dropped"]) == ("reml", 180, 6, 0)
    assert [row["term"] for row in document["fixef"]] == ["(Intercept)", "Days"]
    assert set(document["fixef"][0]) == {"term", "estimate", "se", "df", "z", "p"}
    assert document["fixef"][1]["estimate"] == pytest.approx(10.46729, abs=1e-4)
    assert set(document["varcorr"][0]) == {"grp", "var1", "var2", "vcov", "sdcor", "se", "mcse"}
    assert [row["grp"] for row in document["varcorr"]] == ["Subject"] * 3 + ["Residual"]
    assert document["thresholds"] is None
    assert document["dispersion"] is None


def test_json_has_null_where_there_is_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(ranef.data.dyestuff2(), path)
    assert main(["fit", "Yield ~ 1 + (1 | Batch)", str(path), "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert document["singular"] is True
    assert document["varcorr"][0]["se"] is None
    assert err.startswith("warning: boundary (singular) fit")
    assert err.count("\n") == 1


def test_options_reach_the_fit(sleep: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--method", "ml", "--threads", "1", "--tolerance", "1e-8", "--start", model, "--json"]
    assert main(["fit", FORMULA, sleep, *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["method"] == "ml"
    assert document["deviance"] == pytest.approx(1751.9393, abs=1e-3)


def test_given_covariances(sleep: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ranef.load(model)
    path = tmp_path / "given.csv"
    path.write_text("grp,var1,var2,vcov\nSubject,(Intercept),,600\nSubject,Days,,35\nSubject,(Intercept),Days,10\n")
    assert main(["fit", FORMULA, sleep, "--covariance", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["se"] is None for row in found["varcorr"]] == [True, True, True, False]
    assert found["varcorr"][1]["vcov"] == pytest.approx(35)
    assert found["df"] == 3
    assert main(["fit", FORMULA, sleep, "--covariance", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["df"] == 2
    assert found["deviance"] == pytest.approx(fit.deviance)
    assert main(["fit", FORMULA, sleep, "--covariance", str(tmp_path / "none.csv")]) == 2
    assert "covariance: no such file" in capsys.readouterr().err


def test_locked_terms(sleep: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", FORMULA, sleep, "--start", model, "--lock", "Subject"]) == 0
    assert "Coefficients kept from an earlier fit: Subject" in capsys.readouterr().out
    assert main(["fit", FORMULA, sleep, "--lock", "Subject"]) == 2
    assert "give it as --start" in capsys.readouterr().err


def test_the_stochastic_solver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, documents = str(tmp_path / "p.parquet"), []
    pq.write_table(penicillin(), path)
    for more in (["--probes", "8", "--seed", "1"], ["--probes", "8", "--seed", "1"], ["--seed", "2"]):
        assert (
            main(["fit", "diameter ~ 1 + (1 | plate) + (1 | sample)", path, "--solver", "stochastic", *more, "--json"])
            == 0
        )
        documents.append(json.loads(capsys.readouterr().out))
    for document in documents:
        assert set(document) == KEYS
        assert document["solver"] == "stochastic"
        assert document["deviance"] == pytest.approx(330.8606, abs=2)
        assert document["loglik_mcse"] > 0
        assert all(row["mcse"] is not None for row in document["varcorr"])
    first, again, other = ([row["vcov"] for row in document["varcorr"]] for document in documents)
    assert first == again
    assert first != other


def test_ids_as_text_or_as_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A CSV file's ids are integers, but text when one of them is."""
    table = sleepstudy()
    text = table.set_column(2, "Subject", table["Subject"].cast(pa.string()))
    whole = text.set_column(2, "Subject", text["Subject"].cast(pa.int32()))
    odd = text.set_column(2, "Subject", pa.array(["NEW", *text["Subject"].to_pylist()[1:]]))
    folder = tmp_path / "data"
    folder.mkdir()
    for name, rows in {"whole": whole, "odd": odd}.items():
        csv.write_csv(rows, folder / f"{name}.csv")
    pq.write_table(text, tmp_path / "text.parquet")
    for name, data in {"whole": folder / "whole.csv", "text": tmp_path / "text.parquet"}.items():
        model, out = str(folder / f"of-{name}"), tmp_path / "p.parquet"
        assert main(["fit", FORMULA, str(data), "--out", model, "--quiet"]) == 0
        expected = ranef.load(model).predict(str(data))
        for other in ("whole.csv", "odd.csv"):
            capsys.readouterr()
            assert main(["predict", model, str(folder / other), "--out", str(out)]) == 0
            found, said = pq.read_table(out)["fit"].to_numpy(), capsys.readouterr().err
            new = int(other == "odd.csv")
            np.testing.assert_array_equal(found[new:], expected[new:])
            assert ("'NEW'" in said) == bool(new)
            assert said.count("\n") == 1 + new
    # a folder's saved models are no data of its
    (folder / "odd.csv").unlink()
    assert main(["predict", model, str(folder), "--out", str(out)]) == 0
    assert pq.read_table(out).num_rows == 180


def test_weights_missing_values_and_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = sleepstudy().set_column(0, "Reaction", pa.array([None, *sleepstudy()["Reaction"].to_pylist()[1:]]))
    table = table.append_column("w", pa.array([0.0 if row == 5 else 1.0 for row in range(180)]))
    table = table.set_column(2, "Subject", table["Subject"].cast(pa.string()))
    csv.write_csv(table.slice(0, 100), tmp_path / "a.csv")
    csv.write_csv(table.slice(100), tmp_path / "b.csv")
    files = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    assert main(["fit", FORMULA, *files, "--weights", "w", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["nobs"] == 178
    assert json.loads(out)["dropped_missing"] == {"Reaction": 1}
    assert err == "warning: 2 of 180 rows were dropped: 1 without Reaction, 1 of weight zero\n"
    assert main(["fit", FORMULA, *files, "--missing", "raise"]) == 1
    assert "error: 1 row lacks a value (Reaction: 1)" in capsys.readouterr().err


def test_show_is_what_fit_said(sleep: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", FORMULA, sleep, "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert main(["show", model, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == KEYS
    assert {k: v for k, v in shown.items() if k != "seconds"} == {k: v for k, v in fitted.items() if k != "seconds"}
    assert main(["show", model]) == 0
    assert "Linear mixed model fit by REML" in capsys.readouterr().out


@pytest.mark.parametrize("extension", ["parquet", "csv"])
def test_predict_writes_what_the_fit_predicts(
    extension: str, sleep: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"p.{extension}"
    options = ["--out", str(path), "--interval", "prediction", "--level", "0.9", "--keep", "Subject", "--keep", "Days"]
    assert main(["predict", model, sleep, *options]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("180 rows in ")
    assert err.endswith(f" to {path}\n")
    table = pq.read_table(path) if extension == "parquet" else csv.read_csv(path)
    expected = ranef.load(model).predict(sleepstudy(), interval="prediction", level=0.9)
    assert table.column_names == ["Subject", "Days", "fit", "lwr", "upr"]
    for name in ("fit", "lwr", "upr"):
        assert table[name].to_pylist() == expected[name].to_pylist()
    assert [str(one) for one in table["Subject"].to_pylist()] == sleepstudy()["Subject"].to_pylist()


def test_predict_on_stdout_with_gaps_and_new_levels(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new.csv"
    path.write_text("Days,Subject\n0,308\n,308\n3,nobody\n")
    assert main(["predict", model, str(path)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].strip('"') == "fit"
    assert lines[2] == ""
    beta = ranef.load(model).model.beta
    assert float(lines[3]) == pytest.approx(beta[0] + 3 * beta[1])
    warned = err.splitlines()
    assert [line.split(":")[0] for line in warned[:-1]] == ["warning", "warning"]
    assert warned[-1].startswith("3 rows, 1 of them without a prediction in ")
    assert main(["predict", model, str(path), "--new-levels", "raise"]) == 1
    assert "nobody" in capsys.readouterr().err


def test_predict_parts_add_up(sleep: str, model: str, tmp_path: Path) -> None:
    parts = []
    for number, option in enumerate((["--include", "fixed"], ["--exclude", "fixed"], [])):
        path = tmp_path / f"{number}.parquet"
        assert main(["predict", model, sleep, "--out", str(path), *option]) == 0
        parts.append(pq.read_table(path)["fit"].to_numpy())
    np.testing.assert_allclose(parts[0] + parts[1], parts[2])


def test_simulated_data_can_be_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "s.parquet")
    words = ["--rows", "2e3", "--group", "user=50", "--group", "item=20", "--sd", "user=0.5", "--fixed", "age=1"]
    assert main(["simulate", "--out", path, *words, "--json"]) == 0
    truth = json.loads(capsys.readouterr().out)
    assert truth["formula"] == "y ~ 1 + age + (1 | user) + (1 | item)"
    assert truth["groups"]["user"]["covariance"] == [[0.25]]
    assert main(["fit", truth["formula"], path, "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert fitted["fixef"][1]["estimate"] == pytest.approx(1, abs=0.15)
    assert main(["simulate", "--out", path, *words]) == 0
    out = capsys.readouterr().out
    assert f'next: ranef fit "{truth["formula"]}" {path}' in out
    assert "(Intercept) | user" in out


def test_thresholds_of_an_ordinal_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wine.parquet"
    pq.write_table(wine(), path)
    words = ["fit", "rating ~ temp + (1 | judge)", str(path), "--json"]
    equidistant = ranef.ordinal("probit", thresholds="equidistant")
    expected = ranef.fit("rating ~ temp + (1 | judge)", wine(), family=equidistant)
    assert main([*words, "--family", "ordinal", "--link", "probit", "--thresholds", "equidistant"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["deviance"], found["df"]) == (pytest.approx(expected.deviance, abs=1e-9), 4)
    for wrong, said in (
        (["--family", "ordinal", "--thresholds", "symetric"], "--thresholds 'symetric' is not known"),
        (["--thresholds", "symmetric"], "--thresholds belongs to --family 'ordinal', not 'gaussian'"),
    ):
        assert main([*words, *wrong]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("family", ["bernoulli", "binomial", "poisson", "ordinal"])
def test_simulated_responses_of_other_families_can_be_fitted(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = str(tmp_path / "s.parquet"), str(tmp_path / "m")
    words = ["--rows", "2e3", "--group", "user=50", "--fixed", "x=1"]
    assert main(["simulate", "--out", path, "--family", family, *words]) == 0
    command = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ranef fit"))
    assert main([*shlex.split(command.removeprefix("next: ranef ")), "--out", out, "--quiet"]) == 0
    assert main(["show", out, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == KEYS
    assert (document["family"], document["method"]) == (family, "laplace")
    assert document["link"] == ("log" if family == "poisson" else "logit")
    slope = document["fixef"][-1]
    assert set(slope) == {"term", "estimate", "se", "z", "p"}
    assert slope["estimate"] == pytest.approx(1, abs=4 * slope["se"])
    assert [row["grp"] for row in document["varcorr"]] == ["user"]
    if family == "ordinal":
        assert [row["threshold"] for row in document["thresholds"]] == ["1|2", "2|3", "3|4"]
        assert set(document["thresholds"][0]) == {"threshold", "estimate", "se", "z"}
    else:
        assert document["thresholds"] is None
    assert document["dispersion"] is None
    assert main(["show", out]) == 0
    assert f"Family: {family}" in capsys.readouterr().out


def test_families_links_and_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "epil.csv")
    csv.write_csv(epil(), path)
    formula = "y ~ lbase * trt + lage + V4 + (1 | subject)"
    assert main(["fit", formula, path, "--family", "negative_binomial", "--method", "joint", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["method"], document["link"]) == ("joint", "log")
    assert set(document["dispersion"]) == {"name", "estimate", "se"}
    assert document["dispersion"]["name"] == "theta"
    assert main(["fit", formula, path, "--family", "poisson", "--quadrature", "9"]) == 0
    assert "adaptive Gauss-Hermite, 9 nodes" in capsys.readouterr().out
    for words, said in (
        (["--family", "poison"], "--family 'poison' is not known: use 'gaussian', 'bernoulli'"),
        (["--family", "poisson", "--link", "logit"], "--link 'logit' is not known for --family 'poisson': use 'log'"),
        (["--family", "poisson", "--method", "ml"], "for --family 'poisson': use 'laplace' or 'joint'"),
    ):
        assert main(["fit", formula, path, *words]) == 2
        assert said in capsys.readouterr().err
    assert main(["fit", "trt ~ lage + (1 | subject)", path, "--family", "poisson"]) == 1
    assert "column 'trt'" in capsys.readouterr().err


def test_nested_groups_and_columns_with_spaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pastes().rename_columns(["the strength", "batch", "cask", "sample"]), path)
    assert main(["fit", "`the strength` ~ 1 + (1 | batch/cask)", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["groups"] == {"batch:cask": 30, "batch": 10} or document["groups"] == {
        "cask:batch": 30,
        "batch": 10,
    }
    assert document["deviance"] == pytest.approx(246.9907, abs=1e-3)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ranef {ranef.__version__}\n"
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("fit", "show", "predict", "simulate", "demo"))
    assert main([]) == 2
    assert "ranef demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ([], ["1", "2", "3", "4", "5"]),
        (["--type", "class"], ["fit"]),
        (["--type", "link", "--interval", "confidence"], ["fit", "lwr", "upr"]),
        (["--type", "probabilities", "--interval", "confidence"], ["1", "lwr_1", "upr_1"]),
    ],
)
def test_predictions_of_an_ordinal_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], columns: list[str]
) -> None:
    data = wine()
    fit = ranef.fit("rating ~ temp + contact + (1 | judge)", data, family="ordinal")
    fit.save(tmp_path / "model")
    # another column of the name that a prediction takes
    pq.write_table(data.append_column(columns[0], pa.array(range(72))), tmp_path / "rows.parquet")
    out = tmp_path / "predicted.parquet"
    words = ["predict", str(tmp_path / "model"), str(tmp_path / "rows.parquet"), "--out", str(out), *options]
    assert main([*words, "--keep", "judge"]) == 0
    found = pq.read_table(out)
    assert set(columns) <= set(found.column_names)
    assert found["judge"].to_pylist() == data["judge"].to_pylist()
    if options == ["--type", "class"]:
        assert found["fit"].to_pylist() == fit.predict(data, type="class").tolist()
    assert "72 rows in" in capsys.readouterr().err
    assert main([*words, "--keep", columns[0]]) == 2
    assert "the predictions have this name" in capsys.readouterr().err
