"""Whole fits beside lme4 and lmerTest, on random designs and on real data; skipped where R or the data are absent."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import ranef

pytestmark = pytest.mark.long

FIXED = ["1", "x", "x + f", "f * x", "poly(x, 2) + h", "h:f + z", "I(x^2) + x + log(w)", "x + offset(o)"]
RANDOM = [
    "(1 | g) + (1 | s)",
    "(1 + x | g) + (1 | s)",
    "(x || g) + (1 | s)",
    "(1 | a/b)",
    "(1 + z | a/b)",
    "(1 | g) + (0 + x | g) + (x | s)",
    "(f | g)",
    "(1 | g) + (1 | s) + (1 | a) + (1 | g:f)",
    "(0 + h | s) + (1 | a/b)",
    "(x + z | g) + (1 | s)",
]
CASES = 30


@dataclass(frozen=True)
class Case:
    """A model for both programs."""

    name: str
    formula: str
    method: str
    weights: str | None
    table: pa.Table


def random_case(seed: int) -> Case:
    """A design, its options and its data; the data need not follow the model."""
    draw = np.random.default_rng(seed)
    rows = int(draw.integers(300, 900))
    code = {name: draw.integers(0, levels, rows) for name, levels in {"g": 40, "s": 15, "a": 12, "b": 5}.items()}
    f, h = draw.integers(0, 3, rows), draw.integers(0, 2, rows)
    x, z, o = draw.normal(size=(3, rows))
    w = draw.uniform(0.3, 3, rows)
    of_g = draw.multivariate_normal([0, 0, 0], [[1, 0.3, 0], [0.3, 0.5, 0.1], [0, 0.1, 0.2]], 40)[code["g"]]
    y = 2 + 0.5 * x + o + np.array([0, 0.4, -0.3])[f] + of_g[:, 0] + of_g[:, 1] * x + of_g[:, 2] * z
    y += 0.6 * draw.normal(size=15)[code["s"]] + 0.5 * draw.normal(size=12)[code["a"]]
    y += 0.4 * draw.normal(size=60)[5 * code["a"] + code["b"]] + draw.normal(size=rows) / np.sqrt(w)
    table = pa.table(
        {name: np.char.add(name, np.char.zfill(codes.astype(str), 2)) for name, codes in code.items()}
        | {"f": np.array(["low", "mid", "top"])[f], "h": np.array(["no", "yes"])[h]}
        | {"x": x, "z": z, "o": o, "w": w, "y": y}
    )
    formula = f"y ~ {FIXED[draw.integers(len(FIXED))]} + {RANDOM[seed % len(RANDOM)]}"
    weights = "w" if seed % 3 == 1 else None
    return Case(f"random-{seed}", formula, "ml" if draw.integers(3) == 0 else "reml", weights, table)


def lme4(cases: list[Case], folder: Path, df: bool, timeout: float) -> dict[str, dict[str, dict[str, float]]]:
    """What lme4 says of each case: kind -> name -> value."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        pytest.skip("Rscript is not on this machine")
    if subprocess.run([rscript, "-e", "library(lme4)"], capture_output=True).returncode:
        pytest.skip("the R package lme4 is not on this machine")
    lines = ["name\tfile\tfactors\tformula\tweights\tmethod\tdf"]
    for case in cases:
        file = folder / f"{case.name}.csv"
        pa.csv.write_csv(case.table, file)
        integers = [name for name in case.table.column_names if name.endswith("_id")]
        words = [case.name, str(file), ",".join(integers), case.formula, case.weights or "", case.method]
        lines.append("\t".join([*words, "yes" if df else "no"]))
    (folder / "cases.tsv").write_text("\n".join(lines) + "\n")
    script = Path(__file__).with_name("lmer.R")
    try:
        done = subprocess.run(
            [rscript, str(script), str(folder / "cases.tsv")], capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"lme4 took more than {timeout:.0f} seconds")
    assert done.returncode == 0, done.stderr
    said: dict[str, dict[str, dict[str, float]]] = {}
    for line in done.stdout.splitlines():
        name, kind, what, value = line.split("\t")
        said.setdefault(name, {}).setdefault(kind, {})[what] = float(value)
    return said


def fitted(case: Case) -> ranef.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.SingularFitWarning)
        warnings.simplefilter("ignore", ranef.DroppedColumnsWarning)
        return ranef.fit(case.formula, case.table, method=case.method, weights=case.weights)


def compare(fit: ranef.Fit, said: Mapping[str, Mapping[str, float]]) -> None:
    assert fit.converged
    # lme4's derivative-free optimiser may stop short of the optimum, ranef's may not
    better = said["deviance"][""] - fit.deviance
    assert -1e-6 < better < 1e-5
    fixed = {row["term"]: row for row in fit.fixef().to_pylist()}
    assert fixed.keys() == said["estimate"].keys()
    for term, row in fixed.items():
        assert abs(row["estimate"] - said["estimate"][term]) < 1e-3 * row["se"], term
        assert row["se"] == pytest.approx(said["se"][term], rel=1e-3), term
    rows = fit.varcorr().to_pylist()
    components = {"|".join(row[key] or "NA" for key in ("grp", "var1", "var2")): row for row in rows}
    assert components.keys() == said["vcov"].keys()
    for name, row in components.items():
        # a deviance 1e-5 above its minimum is 3e-3 standard errors away from it
        near = 3e-3 * row["se"] if np.isfinite(row["se"]) else 1e-3 * fit.sigma**2
        assert abs(row["vcov"] - said["vcov"][name]) < near, name
    if "df" in said and not fit.singular and fit.model.info.information == "observed":
        for term, row in fixed.items():
            assert row["df"] == pytest.approx(said["df"][term], rel=0.01), term


@pytest.fixture(scope="module")
def random_said(tmp_path_factory):
    return lme4([random_case(seed) for seed in range(CASES)], tmp_path_factory.mktemp("lme4"), True, 600)


@pytest.mark.parametrize("seed", range(CASES), ids=lambda seed: random_case(seed).formula)
def test_random_design(seed, random_said):
    case = random_case(seed)
    compare(fitted(case), random_said[case.name])


REAL = {
    "assistments": "correct ~ log(order + 1) + (1 | user_id) + (1 | item_id)",
    "ml-100k": "rating ~ age + gender + (1 | user_id) + (1 | item_id)",
    "ml-1m": "rating ~ gender + age + (1 | user_id) + (1 | item_id)",
    "goodbooks": "rating ~ average_rating + (1 | user_id) + (1 | item_id)",
}
# not so many that lme4 takes minutes
WITH_LME4 = "assistments"


def real_table(name: str) -> pa.Table:
    """The rows of one data set with the covariates of users or items, or a skip."""
    root = os.environ.get("RANEF_TEST_DATA")
    if root is None:
        pytest.skip("RANEF_TEST_DATA does not name a folder of data")
    folder = Path(root) / {"assistments": "assistments-2009"}.get(name, name)
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in the folder of data")
    if name == "assistments":
        return pq.read_table(folder / "responses.parquet")
    ratings = pq.read_table(folder / "ratings.parquet")
    if name == "goodbooks":
        # the books with the most readers: the exact path is dense in the items
        often = np.argsort(-np.bincount(ratings["item_id"]), kind="stable")[:2000]
        ratings = ratings.filter(pa.array(np.isin(ratings["item_id"], often)))
        return ratings.join(pq.read_table(folder / "items.parquet", columns=["item_id", "average_rating"]), "item_id")
    if name == "ml-1m":
        ratings = ratings.take(np.sort(np.random.default_rng(1).choice(len(ratings), 100_000, replace=False)))
    return ratings.join(pq.read_table(folder / "users.parquet"), "user_id")


@pytest.mark.parametrize("name", REAL)
def test_real_data(name):
    table = real_table(name)
    fit = ranef.fit(REAL[name], table)
    assert fit.converged
    assert not fit.singular
    assert fit.nobs == len(table)
    limits = fit.confint()
    assert np.isfinite(np.asarray(limits["lower"])).all()
    assert fit.model.info.gradient < 1e-3
    # the model's own data give the model back
    again = table.append_column("again", fit.simulate(seed=3)["sim_1"])
    response = fit.formula.split("~")[0].strip()
    refit = fit.update(fit.formula.replace(response, "again", 1), data=again)
    for row, truth in zip(refit.varcorr().to_pylist(), fit.varcorr().to_pylist(), strict=True):
        assert abs(row["vcov"] - truth["vcov"]) < 3.5 * row["se"], row
    for row, truth in zip(refit.fixef().to_pylist(), fit.fixef().to_pylist(), strict=True):
        assert abs(row["estimate"] - truth["estimate"]) < 3.5 * row["se"], row


def test_real_data_beside_lme4(tmp_path):
    case = Case(WITH_LME4, REAL[WITH_LME4], "reml", None, real_table(WITH_LME4))
    compare(fitted(case), lme4([case], tmp_path, False, 180)[WITH_LME4])
