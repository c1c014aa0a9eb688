"""Tables out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ranef.errors import OptionError
from ranef.table import open_source, read_table, to_library, write_table

COLUMNS: dict[str, Any] = {
    "level": pa.array([3, 1], pa.int32()),
    "name": ["a", "b"],
    "x": np.array([1.5, np.nan]),
    "ok": np.array([True, False]),
}


def test_pandas() -> None:
    frame = to_library(COLUMNS, "pandas")
    assert isinstance(frame, pd.DataFrame)
    assert frame["level"].dtype == np.int32
    assert frame["x"].dtype == np.float64
    assert frame["name"].tolist() == ["a", "b"]
    assert np.isnan(frame["x"][1])


def test_polars_and_arrow_keep_nan_apart_from_null() -> None:
    frame = to_library(COLUMNS, "polars")
    assert isinstance(frame, pl.DataFrame)
    assert frame.schema == {"level": pl.Int32, "name": pl.String, "x": pl.Float64, "ok": pl.Boolean}
    assert frame["x"].null_count() == 0
    table = to_library(COLUMNS, "pyarrow")
    assert table["x"].null_count == 0
    assert table["level"].type == pa.int32()


def test_dict() -> None:
    columns = to_library(COLUMNS, "dict")
    assert columns["level"].dtype == np.int32
    assert columns["name"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(columns["x"], [1.5, np.nan])


def test_wrong_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="not 'excel'"):
        to_library(COLUMNS, "excel")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(OptionError, match="polars is not installed"):
        to_library(COLUMNS, "polars")


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_written_tables_read_back(name: str, tmp_path: Path) -> None:
    for _ in range(2):  # an existing file is replaced
        write_table(tmp_path / name, COLUMNS)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    table = read_table(open_source(tmp_path / name), numbers=["x", "ok"], factors=["level", "name"])
    np.testing.assert_array_equal(table.numbers["x"], [1.5, np.nan])
    assert table.factors["level"].levels.labels == ("1", "3")
    assert table.factors["name"].levels.labels == ("a", "b")


def test_csv_text(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", COLUMNS)
    assert (tmp_path / "t.csv").read_text() == '"level","name","x","ok"\n3,"a",1.5,true\n1,"b",,false\n'


def test_where_a_table_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"the extension must be \.parquet or \.csv"):
        write_table(tmp_path / "t.txt", COLUMNS)
    with pytest.raises(OptionError, match="cannot be written"):
        write_table(tmp_path / "no" / "t.csv", COLUMNS)
