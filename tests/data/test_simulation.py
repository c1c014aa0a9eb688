"""Simulated data follow their truth, whatever the family, and do not depend on where they go.

The seeds are fixed, so a tolerance of about four standard errors either holds always or shows a bug.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ranef.data import Simulated, simulate, simulation
from ranef.data.flags import simulate_from_flags
from ranef.errors import OptionError


def predictor(made: Simulated) -> np.ndarray:
    """The linear predictor, put together again from the columns and the truth."""
    columns = {name: made.data[name].to_numpy() for name in made.data.column_names}
    columns["(Intercept)"] = np.ones(made.data.num_rows)
    for name, effect in list(columns.items()):
        if effect.dtype == object:
            columns[f"{name}yes"] = (effect == "yes").astype(float)
    eta = sum(value * columns[name] for name, value in made.truth.beta.items())
    for factor, effects in made.truth.effects.items():
        rows = effects[columns[factor]]
        eta = eta + sum(rows[:, k] * columns[name] for k, name in enumerate(made.truth.coefficients[factor]))
    return np.asarray(eta)


RICH: dict[str, Any] = {
    "groups": {"user": 300, "item": 40},
    "sd": {"user": 0.5, "item": 0.3},
    "slopes": {"user": {"x": 0.4, "z": 0.2}, "item": 0.1},
    "correlation": {"user": 0.5},
    "fixed": {"(Intercept)": 0.5, "x": 0.3},
    "binary": {"member": -0.4},
}


def test_gaussian_rows_follow_their_truth() -> None:
    made = simulate(40_000, **RICH, residual_sd=0.8, seed=3)
    assert made.formula == "y ~ 1 + x + z + member + (1 + x + z | user) + (1 + x | item)"
    assert made.data.column_names == ["user", "item", "x", "z", "member", "y"]
    assert made.data.schema.field("user").type == pa.int32()
    assert made.truth.beta == {"(Intercept)": 0.5, "x": 0.3, "z": 0.0, "memberyes": -0.4}
    residual = made.data["y"].to_numpy() - predictor(made)
    assert abs(residual.mean()) < 4 * 0.8 / 200
    assert abs(residual.std() / 0.8 - 1) < 4 / np.sqrt(2 * 40_000)
    for covariate in ("x", "z"):
        assert abs(made.data[covariate].to_numpy().std() - 1) < 4 / np.sqrt(2 * 40_000)
    assert abs(np.mean(made.data["member"].to_numpy() == "yes") - 0.5) < 4 * 0.5 / 200


def test_effects_have_the_covariance_asked_for() -> None:
    made = simulate(
        10, {"g": 50_000}, sd=0.5, slopes={"g": {"a": 0.3, "b": 0.0}}, correlation={"g": -0.3}, residual_sd=0.0
    )
    wanted = np.array([[0.25, -0.045, 0.0], [-0.045, 0.09, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(made.truth.covariance["g"], wanted)
    effects = made.truth.effects["g"]
    assert effects.shape == (50_000, 3)
    np.testing.assert_allclose(np.cov(effects.T), wanted, atol=4 * 0.25 * np.sqrt(2 / 50_000))
    np.testing.assert_allclose(made.data["y"].to_numpy(), predictor(made))


def test_correlation_as_a_matrix() -> None:
    matrix = [[1.0, 1.0], [1.0, 1.0]]
    made = simulate(10, {"g": 100}, slopes={"g": 2.0}, correlation={"g": matrix})
    np.testing.assert_allclose(made.truth.effects["g"][:, 1], 2 * made.truth.effects["g"][:, 0])


@pytest.mark.parametrize("family", ["bernoulli", "binomial", "poisson"])
def test_counts_follow_their_truth(family: str) -> None:
    made = simulate(30_000, **RICH, family=family, seed=5)
    y, eta = made.data["y"].to_numpy(), predictor(made)
    trials = 10 if family == "binomial" else 1
    p = 1 / (1 + np.exp(-eta))
    mean, variance = (np.exp(eta), np.exp(eta)) if family == "poisson" else (trials * p, trials * p * (1 - p))
    standard = (y - mean) / np.sqrt(variance)
    assert abs(standard.mean()) * np.sqrt(len(y)) < 4
    assert abs(np.sum((y - mean) * eta)) < 4 * np.sqrt(np.sum(variance * eta**2))
    assert abs(standard.var() - 1) < 0.05
    if family == "binomial":
        assert made.formula.startswith("cbind(y, failures) ~")
        assert np.all(y + made.data["failures"].to_numpy() == 10)


def test_ordinal_rows_follow_their_thresholds() -> None:
    made = simulate(30_000, {"judge": 50}, fixed={"x": 0.7}, family="ordinal", thresholds=[-1.5, 0.2], seed=2)
    assert made.truth.beta == {"x": 0.7}
    assert made.truth.thresholds == (-1.5, 0.2)
    y = made.data["y"].to_numpy()
    assert set(y) == {1, 2, 3}
    for category, threshold in enumerate(made.truth.thresholds, start=1):
        p = 1 / (1 + np.exp(predictor(made) - threshold))
        assert abs(np.sum((y <= category) - p)) < 4 * np.sqrt(np.sum(p * (1 - p)))


def test_activity_has_a_long_tail_or_none() -> None:
    def largest_share(activity: float | str) -> float:
        user = simulate(100_000, {"user": 1000}, activity=activity).data["user"].to_numpy()
        return float(np.bincount(user, minlength=1000).max() / 100_000)

    assert largest_share(0.0) < 0.002
    assert largest_share(1.0) > 0.008
    harmonic = np.sum(1 / np.arange(1, 1001))
    assert largest_share("zipf:1") == pytest.approx(1 / harmonic, rel=0.03)
    assert largest_share("zipf") == largest_share("zipf:1")


def test_nested_levels_lie_in_one_level_of_the_outer_factor() -> None:
    nested = {"class": "school", "school": "district"}
    made = simulate(20_000, {"class": 200, "school": 30, "district": 5}, nested=nested, seed=4)
    table = made.data.to_pandas()
    assert (table.groupby("class")["school"].nunique() == 1).all()
    assert (table.groupby("school")["district"].nunique() == 1).all()
    assert table["district"].nunique() > 1


def test_seed_decides() -> None:
    first, again, other = (simulate(2000, **RICH, seed=seed).data for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_batches_have_their_own_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "BATCH_ROWS", 1000)
    long, short = simulate(2500, **RICH).data, simulate(2000, **RICH).data
    assert long.num_rows == 2500
    assert long.slice(0, 2000).equals(short)
    assert not long.slice(0, 1000).equals(long.slice(1000, 1000))


@pytest.mark.parametrize("ids", ["int", "text"])
def test_a_file_holds_what_memory_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: str) -> None:
    monkeypatch.setattr(simulation, "BATCH_ROWS", 1000)
    path = tmp_path / "rows.parquet"
    made = simulate(2500, **RICH, ids=ids, path=path)
    assert made.data == path
    assert pq.read_table(path).equals(simulate(2500, **RICH, ids=ids).data)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="poisson means overflow"):
        simulate(100, family="poisson", fixed={"(Intercept)": 99}, path=tmp_path / "rows.parquet")
    assert not list(tmp_path.iterdir())


def test_text_ids_sort_as_the_levels_do() -> None:
    numbers, text = (simulate(500, {"user": 120}, ids=ids).data["user"].to_pylist() for ids in ("int", "text"))
    assert text == [f"user{number:03d}" for number in numbers]


def test_other_libraries() -> None:
    assert isinstance(simulate(10, library="pandas").data, pd.DataFrame)
    assert isinstance(simulate(10, library="polars").data, pl.DataFrame)


def test_odd_names_are_quoted_in_the_formula() -> None:
    made = simulate(10, {"user id": 3}, fixed={"log dose": 1.0})
    assert made.formula == "y ~ 1 + `log dose` + (1 | `user id`)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "rows must be a whole number from 1"),
        ({"rows": 2.5}, "rows must be a whole number"),
        ({"rows": float("nan")}, "rows must be a number"),
        ({"groups": {}}, "groups is empty"),
        ({"groups": 5}, "groups must be a mapping"),
        ({"groups": {"user": 0}}, r"groups\['user'\] must be a whole number"),
        ({"sd": {"users": 1.0}}, "sd names 'users'.*did you mean 'user'"),
        ({"sd": -1}, "sd of 'user' must be a number of at least 0"),
        ({"slopes": 0.3}, "slopes must be a mapping"),
        ({"slopes": {"user": {"(Intercept)": 1}}}, r"its standard deviation is sd\['user'\]"),
        ({"slopes": {"user": {"b": 1}}, "binary": {"b": 1}}, "'b' has two levels"),
        ({"slopes": {"user": 1}, "correlation": {"user": 1.5}}, "correlation of 'user'"),
        ({"slopes": {"user": 1}, "correlation": {"user": [[1, 0.2], [0.3, 1]]}}, "symmetric matrix of 2 x 2"),
        ({"fixed": {"user": 1}}, "two columns would be named 'user'"),
        ({"fixed": {"y": 1}}, "two columns would be named 'y'"),
        ({"family": "normal"}, "family must be one of gaussian"),
        ({"family": "poisson", "residual_sd": 1.0}, "residual_sd belongs to the gaussian family"),
        ({"trials": 3}, "trials belongs to the binomial family"),
        ({"family": "ordinal", "thresholds": [1, 0]}, "thresholds must be at least one and increase"),
        ({"family": "ordinal", "fixed": {"(Intercept)": 1}}, "thresholds in place of an intercept"),
        ({"activity": "pareto:1"}, "activity of 'user' must be a number"),
        ({"activity": {"item": "zipf:-1"}}, "activity of 'item' must be a number of at least 0"),
        ({"nested": {"user": "item", "item": "user"}}, "nested goes round in a circle"),
        ({"nested": {"user": "city"}}, "nested names 'city'"),
        ({"ids": "uuid"}, "ids must be one of int, text"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"library": "dask"}, "library must be one of"),
        ({"path": "rows.csv"}, r"path must end in \.parquet"),
        ({"path": "no/such/folder/rows.parquet"}, "does not exist"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        simulate(**{"rows": 100, "groups": {"user": 10, "item": 5}, **options})


def test_flags_say_what_python_says(tmp_path: Path) -> None:
    made = simulate_from_flags(
        "3e3",
        ["user=60", "item=37"],
        tmp_path / "flags.parquet",
        sd=["user=0.45", "item=0.6"],
        slope=["user=0.3", "item:age=0.1"],
        correlation=["user=0.2"],
        fixed=["(Intercept)=3.5"],
        binary=["service=-0.1"],
        activity=["user=1.2", "item=zipf:1.1"],
        residual_sd=0.87,
        seed=1,
    )
    same = simulate(
        3000,
        {"user": 60, "item": 37},
        sd={"user": 0.45, "item": 0.6},
        slopes={"user": {"x": 0.3}, "item": {"age": 0.1}},
        correlation={"user": 0.2},
        fixed={"(Intercept)": 3.5},
        binary={"service": -0.1},
        activity={"user": 1.2, "item": "zipf:1.1"},
        residual_sd=0.87,
        seed=1,
    )
    assert made.formula == same.formula
    assert pq.read_table(made.data).equals(same.data)
    document = made.truth.document()
    assert document["groups"]["user"]["levels"] == 60
    assert document["sigma"] == 0.87


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"sd": ["user"]}, "--sd takes NAME=VALUE, not 'user'"),
        ({"sd": ["user=big"]}, "--sd takes a number, not 'big'"),
        ({"sd": ["user=1", "user=2"]}, "--sd names 'user' twice"),
        ({"rows": "many"}, "--rows takes a number"),
    ],
)
def test_wrong_flags(tmp_path: Path, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        simulate_from_flags(**{"rows": "10", "group": ["user=3"], "out": tmp_path / "x.parquet", **flags})
