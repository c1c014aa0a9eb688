"""Values to levels and codes, and back."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranef.errors import DataError
from ranef.table import MISSING, UNKNOWN, Factor, Levels, decode, labels_of, open_source, read_table, used
from ranef.table.encode import encode_integers

DAY, TIME = datetime.date, datetime.datetime


def factor(data: Any, levels: Levels | None = None, column: str = "g") -> Factor:
    source = open_source({column: data} if isinstance(data, pa.Array | pa.ChunkedArray) else data)
    given = {} if levels is None else {column: levels}
    return read_table(source, numbers=[], factors=[column], levels=given).factors[column]


def chunks(*parts: Any) -> pa.RecordBatchReader:
    """A stream whose batches may differ in their dictionaries."""
    batches = [pa.RecordBatch.from_arrays([part], names=["g"]) for part in parts]
    return pa.RecordBatchReader.from_batches(batches[0].schema, batches)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (pa.array([3, -1, 2]), ("-1", "2", "3")),
        (pa.array([200, 1], pa.uint8()), ("1", "200")),
        (pa.array([2**64 - 1, 2**63, 5], pa.uint64()), ("5", str(2**63), str(2**64 - 1))),
        (pa.array([2**62, -(2**62)]), (str(-(2**62)), str(2**62))),
        (pa.array(["b", "B", "a", "", "10", "9"]), ("", "10", "9", "B", "a", "b")),
        (pa.array(["b", "a"], pa.string_view()), ("a", "b")),
        (pa.array([True, False]), ("FALSE", "TRUE")),
        (pa.array([1.5, 2.0, 0.1, -0.0, 1e5, 1e20]), ("0", "0.1", "1.5", "2", "100000", "1e+20")),
        (pa.array([0.1, 2.0], pa.float32()), ("0.1", "2")),
        (pa.array([1.5, 0.5], pa.float16()), ("0.5", "1.5")),
        (pa.array([math.inf, -math.inf, 1.0]), ("-Inf", "1", "Inf")),
        (pa.array([Decimal("1.50"), Decimal("-2.00"), Decimal("10.00")]), ("-2", "1.5", "10")),
        (pa.array([DAY(2024, 2, 29), DAY(1969, 1, 1)]), ("1969-01-01", "2024-02-29")),
        (pa.array([TIME(2024, 1, 2), TIME(2023, 1, 1)]), ("2023-01-01", "2024-01-02")),
        (
            pa.array([TIME(2024, 1, 2, 3, 4, 5, 500000), TIME(2023, 1, 1)]),
            ("2023-01-01T00:00:00", "2024-01-02T03:04:05.5"),
        ),
        (pa.array([TIME(2024, 1, 2)], pa.timestamp("s", "UTC")), ("2024-01-02T00:00:00Z",)),
    ],
)
def test_sorted_levels_and_labels(values: pa.Array, labels: tuple[str, ...]) -> None:
    found = factor(values)
    assert found.levels.labels == labels
    assert len(found.levels) == len(labels)
    assert sorted(found.codes.tolist()) == list(range(len(labels)))
    assert not found.levels.declared


def test_levels_keep_the_callers_type() -> None:
    assert factor(pa.array([3, 1], pa.int16())).levels.values.type == pa.int16()
    assert factor(pa.array(["a"])).levels.values.type == pa.large_string()
    assert factor(pa.array([DAY(2024, 1, 1)])).levels.values.type == pa.date32()


def test_time_labels_keep_trailing_zeros_of_whole_seconds() -> None:
    assert labels_of(pa.array([TIME(2024, 1, 1, 10, 20, 30)], pa.timestamp("s"))) == ("2024-01-01T10:20:30",)
    assert labels_of(pa.array([TIME(2024, 1, 1, 10, 20, 30)], pa.timestamp("ns"))) == ("2024-01-01T10:20:30",)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([2.0, None, math.nan, 1.0]),
        pa.array([2, None, None, 1]),
        pa.array(["b", None, None, "a"]),
        pd.Series([2, np.nan, None, 1]),
        pd.Series(["b", np.nan, None, "a"], dtype=object),
        pd.Series(["b", np.nan, None, "a"], dtype="category"),
        pd.Series([2, pd.NA, None, 1], dtype="Int64"),
        pl.Series([2.0, None, float("nan"), 1.0]),
        ["b", None, float("nan"), "a"],
        pa.DictionaryArray.from_arrays(pa.array([1, 2, None, 0]), pa.array(["a", "b", None])),
    ],
)
def test_missing_values(values: Any) -> None:
    found = factor({"g": values})
    assert found.codes.tolist() == [1, MISSING, MISSING, 0]
    assert found.levels.labels in (("1", "2"), ("a", "b"))


def test_all_missing() -> None:
    for values in ([None, None], pa.nulls(2), pd.Series([None, None]), np.array([np.nan, np.nan])):
        found = factor({"g": values})
        assert found.codes.tolist() == [MISSING, MISSING]
        assert found.levels.labels == ()
        assert factor({"g": values}, Levels(pa.array(["a"]))).codes.tolist() == [MISSING, MISSING]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("way", ["pandas", "dict", "arrow", "parquet"])
def test_pandas_categorical(way: str, ordered: bool, tmp_path: Path) -> None:
    series = pd.Categorical(["low", "high", None, "low"], categories=["low", "mid", "high"], ordered=ordered)
    frame = pd.DataFrame({"g": series})
    frame.to_parquet(tmp_path / "g.parquet", row_group_size=2)
    data = {
        "pandas": frame,
        "dict": {"g": frame["g"]},
        "arrow": pa.Table.from_pandas(frame),
        "parquet": tmp_path / "g.parquet",
    }[way]
    found = factor(data)
    assert found.levels.labels == ("low", "mid", "high")
    assert found.codes.tolist() == [0, 2, MISSING, 0]
    assert found.levels.declared
    assert found.levels.ordered is ordered
    assert open_source(data).columns == {"g": "category"}


def test_pandas_intervals_and_integer_categories() -> None:
    cut = pd.cut(pd.Series([5, 15, 25]), [0, 10, 20, 30])
    assert factor(pd.DataFrame({"g": cut})).levels.labels == ("(0, 10]", "(10, 20]", "(20, 30]")
    integers = pd.Series([3, 1], dtype=pd.CategoricalDtype([3, 1, 2]))
    found = factor({"g": integers})
    assert found.levels.values.to_pylist() == [3, 1, 2]
    assert found.codes.tolist() == [0, 1]


@pytest.mark.parametrize("way", ["polars", "lazy", "dict", "arrow", "parquet"])
def test_polars_enum_and_categorical(way: str, tmp_path: Path) -> None:
    enum, categorical = pl.Enum(["low", "mid", "high"]), pl.Categorical()
    frame = pl.DataFrame(
        {"e": ["low", "high", None], "c": ["b", "a", None]}, schema_overrides={"e": enum, "c": categorical}
    )
    frame.write_parquet(tmp_path / "g.parquet")
    data = {
        "polars": frame,
        "lazy": frame.lazy(),
        "dict": {"e": frame["e"], "c": frame["c"]},
        "arrow": frame.to_arrow(),
        "parquet": tmp_path / "g.parquet",
    }[way]
    table = read_table(open_source(data), numbers=[], factors=["e", "c"])
    declared, storage = table.factors["e"].levels, table.factors["c"].levels
    assert (declared.labels, declared.declared, declared.ordered) == (("low", "mid", "high"), True, False)
    assert (storage.labels, storage.declared) == (("a", "b"), False)
    assert table.factors["c"].codes.tolist() == [1, 0, MISSING]


def test_dictionaries_that_differ_between_batches() -> None:
    first = pa.DictionaryArray.from_arrays([0, 1], ["z", "m"])
    second = pa.DictionaryArray.from_arrays([1, 0, None], ["a", "z"])
    found = factor(chunks(first, second))
    assert found.levels.labels == ("z", "m", "a")
    assert found.codes.tolist() == [0, 1, 0, 2, MISSING]


def test_types_that_differ_between_files(tmp_path: Path) -> None:
    def files(*columns: pa.Array) -> list[Path]:
        paths = [tmp_path / f"{i}.parquet" for i in range(len(columns))]
        for path, column in zip(paths, columns, strict=True):
            pq.write_table(pa.table({"g": column}), path)
        return paths

    mixed = factor(files(pa.array([1, 2]), pa.nulls(1), pa.array([2.0, math.nan, 3.0]), pa.array([1], pa.int8())))
    assert mixed.codes.tolist() == [0, 1, MISSING, 1, MISSING, 2, 0]
    assert mixed.levels.labels == ("1", "2", "3")
    days = factor(files(pa.array([DAY(2024, 1, 1)]), pa.array([TIME(2024, 1, 1)], pa.timestamp("ms"))))
    assert days.levels.labels == ("2024-01-01",)
    text = factor(files(pa.array([math.nan]), pa.array(["a"]), pa.array(["b", "a"]).dictionary_encode()))
    assert (text.levels.labels, text.levels.declared) == (("a", "b"), False)
    with pytest.raises(DataError, match="'g' is integer in its first rows and text from row 2; convert") as caught:
        factor(files(pa.array([1, 2]), pa.array(["a"])))
    assert (caught.value.column, caught.value.row) == ("g", 2)


@pytest.mark.parametrize(
    ("fitted", "new", "codes"),
    [
        (pa.array([1, 2]), pa.array([2, 3, None], pa.int8()), [1, UNKNOWN, MISSING]),
        (pa.array([1, 2], pa.int8()), pa.array([2, 300, -5]), [1, UNKNOWN, UNKNOWN]),
        (pa.array([1, 2]), pa.array([2**64 - 1, 1], pa.uint64()), [UNKNOWN, 0]),
        (pa.array([1, 2]), pa.array([2.0, 1.5, math.nan, 1.0]), [1, UNKNOWN, MISSING, 0]),
        (pa.array([1.0, 2.0, math.nan]), pa.array([2, 1, 7]), [1, 0, UNKNOWN]),
        (pa.array([0.1], pa.float32()), pa.array([0.1, 0.2]), [0, UNKNOWN]),
        (pa.array([0.0]), pa.array([-0.0]), [0]),
        (pa.array([Decimal("1.5")]), pa.array([1.5, 2.5]), [0, UNKNOWN]),
        (pa.array(["a", "b"]), pa.array(["b", "c", None], pa.large_string()), [1, UNKNOWN, MISSING]),
        (pa.array(["a", "b"]), pa.array(["c", "b", None]).dictionary_encode(), [UNKNOWN, 1, MISSING]),
        (pa.array(["b", "a"]).dictionary_encode(), pa.array(["a", "x"]), [1, UNKNOWN]),
        (pa.array([True]), pa.array([False, True]), [UNKNOWN, 0]),
        (pa.array([DAY(2024, 1, 1)]), pa.array([TIME(2024, 1, 1), TIME(2024, 1, 1, 5)]), [0, UNKNOWN]),
        (pa.array(["a"]), pa.array([None, None], pa.string()), [MISSING, MISSING]),
        (pa.array([], pa.string()), pa.array(["a"]), [UNKNOWN]),
        # text and whole numbers, text and dates: by label
        (pa.array([308, 12]), pa.array(["12", "NEW", None, "308", "012"]), [0, UNKNOWN, MISSING, 1, UNKNOWN]),
        (pa.array(["12", "308"]), pa.array([308, 12, 7, None], pa.int16()), [1, 0, UNKNOWN, MISSING]),
        (pa.array(["12", "NEW"]), pa.array([12.0, math.nan, 3.0]), [0, MISSING, UNKNOWN]),
        (pa.array([12.0, 3.0]), pa.array(["12", "x"]).dictionary_encode(), [1, UNKNOWN]),
        (pa.array(["12"]).dictionary_encode(), pa.array([2**64 - 1, 12], pa.uint64()), [UNKNOWN, 0]),
        (pa.array(["2024-01-01", "NEW"]), pa.array([DAY(2024, 1, 1), DAY(2024, 1, 2)]), [0, UNKNOWN]),
        (pa.array([TIME(2024, 1, 1), TIME(2024, 1, 1, 5)]), pa.array(["2024-01-01 05:00:00", "2024-01-01"]), [1, 0]),
        (pa.array(["2024-01-01 00:00:00", "x"]), pa.array([TIME(2024, 1, 1)]), [0]),
    ],
)
def test_look_up(fitted: pa.Array, new: pa.Array, codes: list[int]) -> None:
    levels = factor(fitted).levels
    found = factor(new, levels)
    assert found.codes.tolist() == codes
    assert found.codes.dtype == np.int32
    assert found.levels is levels


@pytest.mark.parametrize(
    ("fitted", "new", "message"),
    [
        (
            pa.array([True]),
            pa.array(["TRUE"]),
            "'g' was boolean when the model was fitted and is text now; convert it back to boolean",
        ),
        (pa.array(["12"]), pa.array([12, 1.5]), "'g' was text when the model was fitted and is floating-point now"),
        (pa.array([12]), pa.array([DAY(2024, 1, 1)]), "'g' was integer when the model was fitted and is date now"),
        (pa.array([True]), pa.array([1.5]), "'g' was boolean when the model was fitted and is floating-point now"),
        (pa.array([1.5]), pa.array(["1.5"]).dictionary_encode(), "was floating-point when .* fitted and is text now"),
        (
            pa.array([TIME(2024, 1, 1)], pa.timestamp("s", "UTC")),
            pa.array([TIME(2024, 1, 1)]),
            "'g' was date-time with a time zone when the model was fitted and is date-time now",
        ),
    ],
)
def test_look_up_of_another_type(fitted: pa.Array, new: pa.Array, message: str) -> None:
    levels = factor(fitted).levels
    with pytest.raises(DataError, match=message) as caught:
        factor(new, levels)
    assert caught.value.column == "g"


def test_columns_that_cannot_be_factors() -> None:
    for values in (pa.array([[1]]), pa.array([b"x"]), pa.array([{"a": 1}])):
        with pytest.raises(DataError, match=r"holds neither numbers, text, booleans nor dates \(its type is"):
            factor(values)


def test_used() -> None:
    levels = Levels(pa.array(["a", "b", "c", "d"]), ordered=True, declared=True)
    found = used(Factor(np.array([3, 1, MISSING, UNKNOWN, 3], np.int32), levels))
    assert found.codes.tolist() == [1, 0, MISSING, UNKNOWN, 1]
    assert found.levels.labels == ("b", "d")
    assert found.levels.ordered
    assert found.levels.declared
    assert used(found) is found


VALUES = {
    "int64": st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5),
    "uint64": st.integers(0, 2**64 - 1) | st.integers(2**64 - 10, 2**64 - 1),
    "int8": st.integers(-128, 127),
    "float64": st.floats(allow_nan=False),
    "float32": st.floats(allow_nan=False, width=32),
    "string": st.text(st.characters(codec="utf-8"), max_size=4),
    "bool": st.booleans(),
    "date32[day]": st.dates(),
    "timestamp[us]": st.datetimes(),
}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_decode_inverts_encode(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(VALUES)))
    dtype = pa.type_for_alias(name)
    rows = data.draw(st.lists(st.none() | VALUES[name], max_size=40))
    cut = data.draw(st.integers(0, len(rows)))
    values = pa.chunked_array([pa.array(rows[:cut], dtype), pa.array(rows[cut:], dtype)])
    found = factor(values)
    assert decode(found).to_pylist() == values.to_pylist()
    levels = found.levels.values.to_pylist()
    assert levels == sorted({row for row in rows if row is not None})
    assert len(set(found.levels.labels)) == len(levels)
    again = factor(values, found.levels)
    np.testing.assert_array_equal(again.codes, found.codes)


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 50)))
def test_integers_by_table_or_hash(values: list[int]) -> None:
    codes, distinct = encode_integers(np.array(values, np.int64))
    assert distinct[codes].tolist() == values
    assert len(set(distinct.tolist())) == len(distinct)
