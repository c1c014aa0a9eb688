"""Every kind of source gives the same table."""

from __future__ import annotations

import datetime
import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from ranef.errors import DataError, OptionError
from ranef.table import open_source, read_table

DAY = datetime.date
COLUMNS: dict[str, list[Any]] = {
    "y": [1.5, None, 3.0, -2.0, 0.25, 6.0],
    "n": [3, 1, 2, 2, 9, 3],
    "id": [30, 7, 30, -4, 7, 1000000],
    "name": ["b", "a", None, "Z", "b", "é"],
    "flag": [True, False, True, True, False, False],
    "day": [DAY(2024, 3, 1), DAY(2023, 1, 5), DAY(2024, 3, 1), None, DAY(2024, 2, 29), DAY(2024, 3, 1)],
    "unused": ["x"] * 6,
}
KINDS = {
    "y": "number",
    "n": "number",
    "id": "number",
    "name": "category",
    "flag": "boolean",
    "day": "date",
    "unused": "category",
}


def arrow() -> pa.Table:
    return pa.table({name: pa.array(values) for name, values in COLUMNS.items()})


def pandas() -> pd.DataFrame:
    frame = pd.DataFrame(COLUMNS)
    frame["day"] = pd.to_datetime(frame["day"])
    return frame


def polars() -> pl.DataFrame:
    return pl.DataFrame(COLUMNS)


def dictionary() -> dict[str, Any]:
    return {
        "y": np.array([np.nan if value is None else value for value in COLUMNS["y"]]),
        "n": np.array(COLUMNS["n"], np.int16),
        "id": pd.Series(COLUMNS["id"], index=list("abcdef")),
        "name": pl.Series(COLUMNS["name"]),
        "flag": COLUMNS["flag"],
        "day": pa.array(COLUMNS["day"]),
        "unused": np.array(COLUMNS["unused"]),
    }


class Stream:
    """Nothing but the Arrow stream interface."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return arrow().__arrow_c_stream__(requested_schema)


def parquet(folder: Path) -> str:
    pq.write_table(arrow(), folder / "rows.parquet", row_group_size=2)
    return str(folder / "rows.parquet")


def parquet_parts(folder: Path) -> list[Path]:
    (folder / "parts").mkdir()
    paths = [folder / "parts" / f"{i}.parquet" for i in range(3)]
    for i, path in enumerate(paths):
        pq.write_table(arrow().slice(2 * i, 2), path)
    return paths


def parquet_partitioned(folder: Path) -> Path:
    for i, value in enumerate(["x", "x"]):
        (folder / "tree" / f"unused={value}").mkdir(parents=True, exist_ok=True)
        part = arrow().drop_columns(["unused"]).slice(3 * i, 3)
        pq.write_table(part, folder / "tree" / f"unused={value}" / f"{i}.parquet")
    return folder / "tree"


def csv_file(folder: Path, name: str = "rows.csv", delimiter: str = ",") -> Path:
    csv.write_csv(arrow(), folder / name, csv.WriteOptions(delimiter=delimiter))
    return folder / name


def csv_gz(folder: Path) -> Path:
    packed = folder / "rows.csv.gz"
    packed.write_bytes(gzip.compress(csv_file(folder).read_bytes()))
    return packed


def feather(folder: Path) -> Path:
    pyarrow.feather.write_feather(arrow(), str(folder / "rows.feather"), compression="uncompressed")
    return folder / "rows.feather"


SOURCES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pandas": (lambda folder: pandas(), "pandas"),
    "pandas arrow-backed": (lambda folder: arrow().to_pandas(types_mapper=pd.ArrowDtype), "pandas"),
    "pandas objects": (lambda folder: pd.DataFrame(COLUMNS, dtype=object), "pandas"),
    "polars": (lambda folder: polars(), "polars"),
    "polars lazy": (lambda folder: polars().lazy(), "polars"),
    "arrow table": (lambda folder: arrow(), "pyarrow"),
    "arrow batch": (lambda folder: arrow().to_batches()[0], "pyarrow"),
    "arrow reader": (lambda folder: arrow().to_reader(max_chunksize=2), "pyarrow"),
    "arrow chunks": (lambda folder: pa.concat_tables([arrow().slice(0, 1), arrow().slice(1)]), "pyarrow"),
    "arrow dataset": (lambda folder: ds.dataset(parquet(folder)), "pyarrow"),
    "stream": (lambda folder: Stream(), "pyarrow"),
    "source": (lambda folder: open_source(arrow()), "pyarrow"),
    "dict": (lambda folder: dictionary(), "dict"),
    "parquet": (parquet, "pandas"),
    "list of parquet": (parquet_parts, "pandas"),
    "glob": (lambda folder: str(parquet_parts(folder)[0].parent / "*.parquet"), "pandas"),
    "folder": (lambda folder: parquet_parts(folder)[0].parent, "pandas"),
    "partitioned folder": (parquet_partitioned, "pandas"),
    "csv": (csv_file, "pandas"),
    "csv.gz": (csv_gz, "pandas"),
    "tsv": (lambda folder: csv_file(folder, "rows.tsv", "\t"), "pandas"),
    "feather": (feather, "pandas"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_same_table(kind: str, tmp_path: Path) -> None:
    make, library = SOURCES[kind]
    source = open_source(make(tmp_path))
    assert dict(source.columns) == KINDS
    assert list(source.columns) == list(KINDS)
    assert source.library == library
    assert source.rows in (6, None)
    table = read_table(source, numbers=["y", "n", "flag"], factors=["id", "name", "flag", "day"])
    assert table.rows == 6
    np.testing.assert_array_equal(table.numbers["y"], [1.5, np.nan, 3.0, -2.0, 0.25, 6.0])
    np.testing.assert_array_equal(table.numbers["n"], [3, 1, 2, 2, 9, 3])
    np.testing.assert_array_equal(table.numbers["flag"], [1, 0, 1, 1, 0, 0])
    labels = {name: factor.levels.labels for name, factor in table.factors.items()}
    assert labels == {
        "id": ("-4", "7", "30", "1000000"),
        "name": ("Z", "a", "b", "é"),
        "flag": ("FALSE", "TRUE"),
        "day": ("2023-01-05", "2024-02-29", "2024-03-01"),
    }
    codes = {name: factor.codes.tolist() for name, factor in table.factors.items()}
    assert codes == {
        "id": [2, 1, 2, 0, 1, 3],
        "name": [2, 1, -1, 0, 2, 3],
        "flag": [1, 0, 1, 1, 0, 0],
        "day": [2, 0, 2, -1, 1, 2],
    }
    for column in [*table.numbers.values(), *(factor.codes for factor in table.factors.values())]:
        assert column.flags.writeable
    assert {factor.codes.dtype for factor in table.factors.values()} == {np.dtype(np.int32)}
    assert not any(factor.levels.declared or factor.levels.ordered for factor in table.factors.values())


@pytest.mark.parametrize("kind", SOURCES)
def test_no_column_wanted(kind: str, tmp_path: Path) -> None:
    assert read_table(open_source(SOURCES[kind][0](tmp_path)), numbers=[], factors=[]).rows == 6


@pytest.mark.parametrize("kind", SOURCES)
def test_batches_hold_what_was_asked_for(kind: str, tmp_path: Path) -> None:
    source = open_source(SOURCES[kind][0](tmp_path))
    batches = list(source.batches(["name", "y"]))
    assert all(batch.schema.names == ["name", "y"] for batch in batches)
    assert sum(batch.num_rows for batch in batches) == 6


@pytest.mark.parametrize("data", [arrow().slice(0, 0), pandas().iloc[:0], polars().head(0), {"y": [], "name": []}])
def test_no_rows(data: Any) -> None:
    table = read_table(open_source(data), numbers=["y"], factors=["name"])
    assert table.rows == 0
    assert table.numbers["y"].shape == (0,)
    assert len(table.factors["name"].levels) == 0


def test_reader_is_read_once() -> None:
    source = open_source(arrow().to_reader())
    read_table(source, numbers=["y"], factors=[])
    with pytest.raises(DataError, match="was read already"):
        read_table(source, numbers=["y"], factors=[])


def test_stream_object_is_read_again() -> None:
    source = open_source(Stream())
    for _ in range(2):
        assert read_table(source, numbers=["n"], factors=[]).rows == 6


def test_pandas_names_that_are_not_text() -> None:
    source = open_source(pd.DataFrame([[1, 2.5], [3, 4.5]]))
    np.testing.assert_array_equal(read_table(source, numbers=["1"], factors=[]).numbers["1"], [2.5, 4.5])


def test_dotted_parquet_names_are_kept_apart(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0], "x.1": [2.0]}), tmp_path / "d.parquet")
    [batch] = open_source(tmp_path / "d.parquet").batches(["x"])
    assert batch.to_pydict() == {"x": [1.0]}


def test_csv_types_are_those_of_all_rows(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text('x,g,t\n1,"multi\nline",NA\n2.5,b,\n')
    table = read_table(open_source(path), numbers=["x"], factors=["g", "t"])
    np.testing.assert_array_equal(table.numbers["x"], [1, 2.5])
    assert table.factors["g"].levels.labels == ("b", "multi\nline")
    assert table.factors["t"].codes.tolist() == [-1, -1]


def test_kind_from_the_first_file_with_values(tmp_path: Path) -> None:
    pq.write_table(pa.table({"g": pa.nulls(2)}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"g": ["a", "b"]}), tmp_path / "2.parquet")
    source = open_source([tmp_path / "1.parquet", tmp_path / "2.parquet"])
    assert source.columns == {"g": "category"}
    assert read_table(source, numbers=[], factors=["g"]).factors["g"].codes.tolist() == [-1, -1, 0, 1]


def test_other_kinds() -> None:
    frame = pd.DataFrame(
        {"mixed": pd.Series([1, "a"], dtype=object), "list": [[1], [2]], "gap": pd.to_timedelta([1, 2])}
    )
    frame["period"] = pd.period_range("2024", periods=2)
    assert set(open_source(frame).columns.values()) == {"other"}
    assert open_source(pl.DataFrame({"o": [object()], "x": [1]})).columns == {"o": "other", "x": "number"}


def raises(error: type[Exception], data: Any, *parts: str) -> Exception:
    with pytest.raises(error) as caught:
        for _ in open_source(data).batches(open_source(data).columns):
            pass
    for part in parts:
        assert part in str(caught.value)
    return caught.value


@pytest.mark.parametrize("data", [3, None, [1, 2], [], [{"a": 1}], np.zeros((2, 2)), pa.array([1]), pl.Series([1])])
def test_not_a_table(data: Any) -> None:
    raises(OptionError, data, "is not a table; pass a data frame" if not hasattr(data, "to_list") else "not a table")


def test_paths_that_are_wrong(tmp_path: Path) -> None:
    pq.write_table(arrow(), tmp_path / "ratings.parquet")
    raises(OptionError, tmp_path / "rating.parquet", "no such file", "did you mean ratings.parquet?")
    raises(OptionError, tmp_path / "no" / "rating.parquet", "no such file", "no folder")
    raises(OptionError, str(tmp_path / "*.csv"), "no file matches")
    raises(OptionError, "", "the path is empty")
    (tmp_path / "empty").mkdir()
    raises(OptionError, tmp_path / "empty", "holds no .parquet, .csv, .tsv, .arrow or .feather file")
    raises(OptionError, "-", "standard input", "write the rows to a file")
    (tmp_path / "rows.xlsx").touch()
    raises(OptionError, tmp_path / "rows.xlsx", "extension", ".csv")
    raises(OptionError, [tmp_path / "ratings.parquet", tmp_path / "rows.xlsx"], "extension")


@pytest.mark.parametrize("name", ["bad.parquet", "bad.arrow", "bad.csv.gz", "empty.csv"])
def test_files_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"" if name == "empty.csv" else b"neither this nor that")
    error = raises(DataError, tmp_path / name, name, "cannot be read as")
    assert error.__cause__ is not None


def test_truncated_parquet_and_ragged_csv(tmp_path: Path) -> None:
    path = Path(parquet(tmp_path))
    path.write_bytes(path.read_bytes()[:200])
    raises(DataError, path, "rows.parquet cannot be read as Parquet")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n")
    raises(DataError, tmp_path / "ragged.csv", "ragged.csv cannot be read as CSV", "Expected 2 columns, got 1")


def test_files_with_different_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1], "z": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "2.parquet")
    paths = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    error = raises(DataError, paths, "column 'z'", "1.parquet is not in", "2.parquet")
    assert isinstance(error, DataError)
    assert error.column == "z"
    raises(DataError, paths[::-1], "column 'z' of", "1.parquet is not in", "2.parquet")


def test_duplicate_names(tmp_path: Path) -> None:
    raises(DataError, pd.DataFrame([[1, 2]], columns=["a", "a"]), "2 columns", "'a'", "rename or drop")
    raises(DataError, pa.table([[1], [2]], names=["a", "a"]), "2 columns", "'a'")
    (tmp_path / "twice.csv").write_text("a,b,a\n1,2,3\n")
    raises(DataError, tmp_path / "twice.csv", "2 columns", "twice.csv", "'a'")


@pytest.mark.parametrize("data", [{}, pd.DataFrame(), pl.DataFrame(), pl.LazyFrame(), pa.table({})])
def test_no_columns(data: Any) -> None:
    raises(DataError, data, "have no columns")


def test_dicts_that_are_wrong() -> None:
    raises(DataError, {"a": [1, 2], "b": [1]}, "'b' has 1 row,", "'a' has 2")
    raises(DataError, {"a": np.zeros((3, 2))}, "'a' has shape (3, 2)", "one dimension")
    raises(DataError, {"a": pd.DataFrame({"x": [1]})}, "'a' has shape (1, 1)")
    raises(DataError, {"a": 3.0}, "'a' is float")
    raises(DataError, {"a": "text"}, "'a' is str")
    raises(DataError, {"a": {1, 2}}, "'a' is set")
    raises(DataError, {"a": [1, "b"]}, "'a' mixes types")
    raises(DataError, {"a": np.array([1j])}, "'a' mixes types or holds objects")


def test_unconvertible_pandas_column() -> None:
    error = raises(DataError, pd.DataFrame({"m": pd.Series([1, "a"], dtype=object)}), "'m' mixes types", "convert it")
    assert isinstance(error, DataError)
    assert error.column == "m"


def test_unknown_column() -> None:
    with pytest.raises(OptionError, match=r"no column 'nme' in the data; the nearest are 'name', 'n'"):
        open_source(arrow()).batches(["nme"])


def test_import_is_light() -> None:
    code = (
        "import sys, ranef.table; print(sorted({'numba', 'pandas', 'polars', 'scipy', 'narwhals'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_folders(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "more/c.tsv", "model/levels/g.csv", "other/d.csv", "._b.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"x\n{ord(name[0])}\n")
    (tmp_path / "other/manifest.json").touch()  # not a model by itself
    for name in ("manifest.json", "arrays.safetensors"):
        (tmp_path / "model" / name).touch()
    table = read_table(open_source(tmp_path), numbers=["x"], factors=[])
    assert table.numbers["x"].tolist() == [ord(name) for name in "abmo"]
    raises(OptionError, tmp_path / "model", "is a saved model, not data")
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "e.parquet")
    raises(OptionError, tmp_path, "several formats", "a.csv and e.parquet", "*.csv'")


@pytest.mark.parametrize(
    ("content", "byte", "line"),
    [
        ("x,né\n1,a\n".encode("latin-1"), "e9", 1),
        ("x,n\n1,a\n2,Müller\n".encode("latin-1"), "fc", 3),
        (b"x,n\n" + b"1,a\n" * 4_500_000 + b"2,M\xfcller\n", "fc", 4_500_002),
        ("x,n\n1,a\n".encode("utf-16"), "ff", 1),
        (b"x,n\n1,\xc3", "c3", 2),
    ],
)
def test_csv_that_is_not_utf8(content: bytes, byte: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(content)
    raises(DataError, tmp_path / "l.csv", f"l.csv is not UTF-8 (the first bad place is byte 0x{byte} in line {line})")
    (tmp_path / "l.csv.gz").write_bytes(gzip.compress(content, 1))
    raises(DataError, tmp_path / "l.csv.gz", "is not UTF-8", f"in line {line}): save it as UTF-8")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.csv", "y;x\n1;2\n", "by semicolons (';'), not commas; save it with commas, or read it with pandas"),
        ("d.csv", "y;x\n1,5;2,5\n", "by semicolons (';'), not commas"),
        ("d.csv", "y\tx\n1\t2\n", "by tabs, not commas"),
        ("d.tsv", "y,x\n1,2\n", "by commas, not tabs; name it .csv"),
    ],
)
def test_csv_with_another_separator(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    raises(DataError, tmp_path / name, said)


def test_names_with_spaces(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("\ufeffy, x\n1,2\n", encoding="utf-8")
    source = open_source(tmp_path / "d.csv")
    assert list(source.columns) == ["y", " x"]
    with pytest.raises(OptionError, match="no column 'x' in the data; there is ' x': spaces are part of a name"):
        source.batches(["x"])
