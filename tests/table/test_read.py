"""Numbers, and the rows that lack them."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ranef.errors import DataError, OptionError
from ranef.table import Gap, Table, check_finite, complete_rows, open_source, read_table, unusable


def numbers(data: Any, column: str = "x") -> np.ndarray[Any, Any]:
    table = read_table(open_source(data), numbers=[column], factors=[])
    assert table.numbers[column].dtype == np.float64
    return table.numbers[column]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, None, 0], pa.int8()),
        pa.array([1, None, 0], pa.uint64()),
        pa.array([1, None, 0], pa.float16()),
        pa.array([1, None, 0], pa.float32()),
        pa.array([Decimal("1.00"), None, Decimal("0.00")]),
        pa.array([True, None, False]),
        pd.Series([1, None, 0]),
        pd.Series([1, None, 0], dtype="Int32"),
        pd.Series([True, None, False], dtype=object),
        pd.Series([1, np.nan, 0], dtype=pd.SparseDtype(float)),
        pl.Series([1, None, 0]),
        np.ma.masked_array([1.0, 5.0, 0.0], [False, True, False]),
        [1, None, 0],
        (1.0, float("nan"), 0),
    ],
)
def test_numbers_of_every_type(values: Any) -> None:
    np.testing.assert_array_equal(numbers({"x": values}), [1, np.nan, 0])


def test_wide_integers_are_rounded() -> None:
    assert numbers({"x": [2**62 + 1]}).tolist() == [2.0**62]


def test_the_table_does_not_share_memory_with_the_caller() -> None:
    values = np.arange(3.0)
    found = numbers({"x": values})
    values[0] = 99
    assert found[0] == 0


def test_all_missing_is_a_number() -> None:
    assert np.isnan(numbers({"x": [None, None]})).all()


DAY = datetime.date(2024, 1, 1)


@pytest.mark.parametrize(
    ("values", "message", "row"),
    [
        (["1", "2", None, "n/a?"], r"'x' is text: row 3 holds 'n/a\?', but a number is needed; correct that value", 3),
        ([None, "1.5", "2e3"], r"'x' is text \(row 1 holds '1.5'\), but a number is needed; convert it", 1),
        (pa.array(["a"]).dictionary_encode(), r"'x' is text: row 0 holds 'a'", 0),
        (pd.Series([4, 5], dtype="category"), r"'x' is categorical \(row 0 holds 4\), but a number is needed", 0),
        ([None, DAY], r"'x' is date \(row 1 .*\), but a number is needed; convert it to a number such as the days", 1),
        (pd.Series(pd.to_datetime(["2024-01-01"])), r"'x' is date-time .* days since a date", 0),
        ([[1.0]], r"'x' is list", 0),
        (pa.array([None], pa.string()), "'x' is text, but", None),
    ],
)
def test_what_is_no_number(values: Any, message: str, row: int | None) -> None:
    with pytest.raises(DataError, match=message) as caught:
        numbers({"x": values})
    assert (caught.value.column, caught.value.row) == ("x", row)


def test_periods_and_durations_have_their_own_advice() -> None:
    frame = pd.DataFrame({"p": pd.period_range("2024", periods=2), "t": pd.to_timedelta([1, 2]), "x": [1, 2]})
    source = open_source(frame)
    said = {name: str(unusable(source, name)) for name in frame.columns}
    assert "'p' holds neither numbers, text, booleans nor dates (its type is period);" in said["p"]
    assert "convert it to dates (.dt.to_timestamp()) or to text (.astype(str))" in said["p"]
    assert "'t' holds neither numbers, text, booleans nor dates (its type is timedelta);" in said["t"]
    assert "such as its seconds (.dt.total_seconds())" in said["t"]
    assert said["x"] == "None"
    with pytest.raises(DataError, match=r"'t' is timedelta .* but a number is needed; .* its seconds"):
        numbers(frame, "t")
    with pytest.raises(DataError, match=r"'t' is timedelta"):
        numbers(pl.from_pandas(frame[["t"]]), "t")


def test_what_counts_as_missing_in_a_file(tmp_path: Path) -> None:
    texts = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]
    (tmp_path / "x.csv").write_text("\n".join(["x,g", "1,a", *(f"{text},{text}" for text in texts)]))
    table = read_table(open_source(tmp_path / "x.csv"), numbers=["x"], factors=["g"])
    np.testing.assert_array_equal(table.numbers["x"], [1, *[np.nan] * len(texts)])
    assert table.factors["g"].codes.tolist() == [0, *[-1] * len(texts)]
    for text in (".", "-", "$5"):
        (tmp_path / "x.csv").write_text(f"x\n1\n{text}\n")
        with pytest.raises(DataError, match=r"is text: row 1 holds .*\(missing in CSV files are empty fields, NA, N/A"):
            numbers(tmp_path / "x.csv")


def test_the_offending_text_is_found_in_a_later_batch(tmp_path: Path) -> None:
    batches = [pa.RecordBatch.from_arrays([pa.array(part)], names=["x"]) for part in (["1", "2"], ["3"], ["4", "five"])]
    with pytest.raises(DataError, match="row 4 holds 'five'"):
        numbers(pa.RecordBatchReader.from_batches(batches[0].schema, batches))
    (tmp_path / "x.csv").write_text("x\n1\n2\nthree\n")
    with pytest.raises(DataError, match="row 2 holds 'three'"):
        numbers(tmp_path / "x.csv")


def test_a_column_as_both() -> None:
    table = read_table(open_source({"x": [2, 1, 2]}), numbers=["x"], factors=["x"])
    assert table.numbers["x"].tolist() == [2, 1, 2]
    assert table.factors["x"].codes.tolist() == [1, 0, 1]


def test_unknown_columns() -> None:
    with pytest.raises(OptionError, match="no column 'ratng' in the data; the nearest is 'rating'"):
        read_table(open_source({"rating": [1]}), numbers=["ratng"], factors=[])
    with pytest.raises(OptionError, match="no column 'zzz' in the data; they have 'rating'"):
        read_table(open_source({"rating": [1]}), numbers=[], factors=["zzz"])


def test_check_finite() -> None:
    table = Table(4, {"ok": np.array([1, np.nan, 2, 3.0]), "bad": np.array([1, np.inf, 2, -np.inf])}, {})
    check_finite(table, ["ok"])
    with pytest.raises(DataError, match="'bad' has 2 infinite values, the first in row 1; replace") as caught:
        check_finite(table, ["ok", "bad"])
    assert (caught.value.column, caught.value.row, caught.value.count) == ("bad", 1, 2)


def test_complete_rows() -> None:
    data = {"y": [1.0, None, 3.0, None, 5.0], "g": ["a", None, "b", "a", "new"], "x": [1, 2, 3, 4, 5]}
    levels = read_table(open_source({"g": ["a", "b"]}), numbers=[], factors=["g"]).factors["g"].levels
    table = read_table(open_source(data), numbers=["y", "x"], factors=["g", "y"], levels={"g": levels})
    complete, gaps = complete_rows(table)
    assert complete.tolist() == [True, False, True, False, True]
    assert gaps == {"y": Gap(2, 1), "g": Gap(1, 1)}
    kept = table.take(complete)
    assert kept.rows == 3
    assert kept.factors["g"].codes.tolist() == [0, 1, -2]


def test_complete_rows_of_nothing() -> None:
    complete, gaps = complete_rows(Table(0, {}, {}))
    assert complete is None
    assert gaps == {}
