"""Predictions piece by piece are those of all rows at once."""

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_array_equal

import ranef
from ranef.errors import DroppedRowsWarning, LevelError, UnknownLevelWarning
from ranef.result import prediction_parts as parts
from ranef.table import open_source


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    user, item, x = rng.integers(0, 20, 300), rng.integers(0, 15, 300), rng.normal(size=300)
    y = x + rng.normal(size=20)[user] + rng.normal(size=15)[item] + 0.5 * rng.normal(size=300)
    grade = np.array(list("abc"))[np.digitize(y, [-0.5, 0.5])]
    return pl.DataFrame({"y": y, "x": x, "user": user, "item": [f"i{i}" for i in item], "grade": grade})


def together(found):
    pieces = [columns for columns, _ in found]
    return len(pieces), {name: np.concatenate([np.asarray(one[name]) for one in pieces]) for name in pieces[0]}


@pytest.mark.parametrize("options", [{}, {"interval": "prediction"}])
def test_pieces_have_what_the_whole_has(data, monkeypatch, options):
    monkeypatch.setattr(parts, "ROWS", 64)
    fit = ranef.fit("y ~ x + (1 | user) + (1 | item)", data)
    rows = data.with_columns(
        x=pl.when(pl.int_range(300) == 200).then(None).otherwise(pl.col("x")),
        user=pl.when(pl.int_range(300) > 250).then(99).otherwise(pl.col("user")),
    )
    with pytest.warns(UnknownLevelWarning), pytest.warns(DroppedRowsWarning):
        want = fit.predict(rows, **options)
    with pytest.warns(UnknownLevelWarning, match="49 of 300 rows.*'99' in row 251"), pytest.warns(DroppedRowsWarning):
        count, got = together(parts.prediction_parts(fit, open_source(rows), ["item"], **options))
    assert count == 5
    assert got["item"].tolist() == rows["item"].to_list()
    if not options:
        want = {"fit": want}
    for name in ("fit", "lwr", "upr"):
        if name in got:
            np.testing.assert_allclose(got[name], np.asarray(want[name]), rtol=1e-12)
    with pytest.raises(LevelError, match="in row 251"):
        list(parts.prediction_parts(fit, open_source(rows), new_levels="raise"))


@pytest.mark.filterwarnings("ignore::ranef.errors.CategoryOrderWarning")
def test_categories_and_no_rows(data, monkeypatch):
    monkeypatch.setattr(parts, "ROWS", 64)
    fit = ranef.fit("grade ~ x + (1 | user)", data, family="ordinal")
    for kind in ("class", "probabilities"):
        _, got = together(parts.prediction_parts(fit, open_source(data), kind=kind))
        want = fit.predict(data, type=kind)
        if kind == "class":
            assert_array_equal(got["fit"].astype(str), np.asarray(want).astype(str))
        else:
            assert_array_equal(got["b"], np.asarray(want["b"]))
    (columns, missing), *rest = parts.prediction_parts(fit, open_source(data[:0]))
    assert (len(columns["b"]), missing, rest) == (0, 0, [])
