"""What can be wrong with given covariances -> the words that help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ranef
from ranef import OptionError

ROWS = 60
FORMULA = "y ~ x + (1 + x | g) + (1 | h)"
Row = tuple[Any, Any, Any, Any]
GOOD: list[Row] = [
    ("g", "(Intercept)", None, 1.0),
    ("g", "x", None, 0.5),
    ("g", "(Intercept)", "x", 0.1),
    ("h", "(Intercept)", None, 0.3),
    ("Residual", None, None, 1.2),
]


def rows() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    number = np.arange(ROWS)
    y = rng.normal(size=ROWS) + rng.normal(size=10)[number // 6]
    x = rng.normal(size=ROWS)
    return {"y": y, "x": x, "g": number // 6, "h": number % 4, "liked": (y > 0).astype(int)}


def table(changed: list[Row]) -> dict[str, list[Any]]:
    return {name: [row[i] for row in changed] for i, name in enumerate(("grp", "var1", "var2", "vcov"))}


def changed(number: int, row: Row) -> dict[str, list[Any]]:
    return table([row if i == number else one for i, one in enumerate(GOOD)])


CASES: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "unknown factor": (FORMULA, changed(3, ("hh", "(Intercept)", None, 1.0)), ("row 3", "'hh'", "did you mean 'h'?")),
    "no factor": (FORMULA, changed(3, (None, "(Intercept)", None, 1.0)), ("row 3", "None", "'g', 'h', 'Residual'")),
    "unknown coefficient": (
        *(FORMULA, changed(1, ("g", "z", None, 1.0))),
        ("row 1", "'z' of 'g'", "'(Intercept)', 'x'"),
    ),
    "unknown second coefficient": (FORMULA, changed(2, ("g", "x", "w", 1.0)), ("row 2", "'w' of 'g'")),
    "twice the same coefficient": (FORMULA, changed(2, ("g", "x", "x", 1.0)), ("row 2", "var1 and in var2")),
    "variance lacks": (FORMULA, table(GOOD[1:]), ("'g' lack (g, (Intercept))", "given as a whole")),
    "covariance lacks": (FORMULA, table(GOOD[:2]), ("'g' lack (g, (Intercept), x)",)),
    "variance twice": (FORMULA, table([*GOOD, GOOD[3]]), ("row 5", "(h, (Intercept)) a second time")),
    "covariance twice, turned": (
        *(FORMULA, table([*GOOD, ("g", "x", "(Intercept)", 0.1)])),
        ("row 5 gives (g, (Intercept), x) a second time",),
    ),
    "negative variance": (
        *(FORMULA, changed(3, ("h", "(Intercept)", None, -1.0))),
        ("'h' is not positive semi-definite", "a variance is negative"),
    ),
    "correlation above one": (
        *(FORMULA, changed(2, ("g", "(Intercept)", "x", 0.9))),
        ("'g' is not positive semi-definite", "contradict", "-0.27"),
    ),
    "no number": (FORMULA, changed(3, ("h", "(Intercept)", None, None)), ("vcov of (h, (Intercept)) (row 3)",)),
    "infinite": (FORMULA, changed(3, ("h", "(Intercept)", None, np.inf)), ("not a finite number",)),
    "residual of zero": (FORMULA, changed(4, ("Residual", None, None, 0.0)), ("residual variance is 0", "positive")),
    "text": (FORMULA, {"grp": ["h"], "var1": ["(Intercept)"], "vcov": ["big"]}, ("vcov holds", "not numbers")),
    "no column": (FORMULA, {"grp": ["h"], "var1": ["(Intercept)"], "sd": [1.0]}, ("no column 'vcov'", "varcorr()")),
    "no rows": (FORMULA, pd.DataFrame(table(GOOD))[:0], ("no rows",)),
    "no table": (FORMULA, 3.0, ("covariance: float 3.0 is not a table",)),
    "no file": (FORMULA, "variances.csv", ("covariance: no such file",)),
    "keep": (FORMULA, "keep", ("covariance='keep' is for refit()",)),
    "no random terms": ("y ~ x", changed(0, GOOD[0]), ("row 0", "does not have")),
    "independent coefficients": (
        *("y ~ x + diag(1 + x | g)", table(GOOD[:3])),
        ("(g, (Intercept), x) is 0.1", "independent"),
    ),
    "one variance": ("y ~ x + homdiag(1 + x | g)", table(GOOD[:2]), ("one variance", "'g' has several")),
}


@pytest.mark.parametrize("case", CASES)
def test_the_message_names_what_is_wrong(case):
    formula, given, words = CASES[case]
    with pytest.raises(OptionError) as caught:
        ranef.fit(formula, rows(), covariance=given)
    assert str(caught.value).startswith("covariance")
    for word in words:
        assert word in str(caught.value)


def test_a_family_without_a_residual_variance():
    with pytest.raises(OptionError, match=r"row 4 is of Residual: family='bernoulli' has no residual variance"):
        ranef.fit(FORMULA.replace("y", "liked", 1), rows(), family="bernoulli", covariance=table(GOOD))


def test_a_fit_of_another_family():
    fit = ranef.fit("y ~ x + (1 | g)", rows())
    with pytest.raises(OptionError, match=r"that fit is of family='gaussian'.*another scale.*'bernoulli'"):
        ranef.fit("liked ~ x + (1 | g)", rows(), family="bernoulli", covariance=fit)


def test_what_was_given_has_no_limits():
    fit = ranef.fit("y ~ x + (1 | g)", rows(), covariance={"grp": ["g"], "var1": ["(Intercept)"], "vcov": [0.4]})
    limits = pd.DataFrame(fit.confint()).set_index("parameter")
    assert limits.loc["sd_(Intercept)|g", ["lower", "upper"]].isna().all()
    assert limits.loc[["sigma", "x"], ["lower", "upper"]].notna().all().all()


def test_any_table_will_do(tmp_path: Path):
    frame = pd.DataFrame(table(GOOD))
    frame.to_csv(tmp_path / "given.csv", index=False)
    frame.to_parquet(tmp_path / "given.parquet")
    # as R writes it
    (tmp_path / "r.csv").write_text(frame.to_csv(index=False, na_rep="NA"))
    kinds = [
        *(frame, pl.from_pandas(frame), pa.Table.from_pandas(frame), table(GOOD)),
        *(tmp_path / name for name in ("given.csv", "given.parquet", "r.csv")),
    ]
    found = [ranef.fit(FORMULA, rows(), covariance=kind) for kind in kinds]
    for fit in found:
        np.testing.assert_array_equal(fit.fixef()["estimate"], found[0].fixef()["estimate"])
    assert "Variances given, not learned: g, h, Residual" in str(found[0])
