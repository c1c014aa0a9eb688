"""Sources in memory: data frames and dicts of columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ranef.errors import DataError, counted
from ranef.table.kinds import ColumnKind, family, kind_of
from ranef.table.source import BATCH_ROWS, STORAGE_ORDER, Source, check_names, kinds

if TYPE_CHECKING:
    import narwhals as nw

# what Arrow raises for values that it cannot hold in one column
_UNCONVERTIBLE = (pa.ArrowException, TypeError, ValueError, OverflowError)


def open_frame(data: Any) -> Source | None:
    """A source from a data frame that narwhals knows; None if ``data`` is none."""
    import narwhals as nw

    if hasattr(data, "iloc") and hasattr(data, "columns"):  # pandas allows duplicates, narwhals does not
        check_names([str(name) for name in data.columns])
    frame = nw.from_native(data, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        return _open_lazy(frame)
    return _open_collected(frame) if isinstance(frame, nw.DataFrame) else None


def open_columns(columns: Mapping[Any, Any]) -> Source:
    """A source from a dict of arrays, lists or series."""
    check_names([str(name) for name in columns])
    fields: list[pa.Field] = []
    arrays: list[pa.Array] = []
    for key, values in columns.items():
        field, array = _column(str(key), values)
        if arrays and len(array) != len(arrays[0]):
            raise DataError(
                f"column {field.name!r} has {counted(len(array), 'row')}, but {fields[0].name!r} has "
                f"{len(arrays[0]):,}; "
                "all columns of a dict need the same length",
                column=field.name,
            )
        fields.append(field)
        arrays.append(array)
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        return iter(table.select(names).to_batches(max_chunksize=BATCH_ROWS))

    return Source(kinds(table.schema), table.num_rows, "dict", read)


def _open_lazy(frame: nw.LazyFrame[Any]) -> Source:
    check_names(frame.collect_schema().names())
    empty = _open_collected(frame.head(0).collect())

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        return _open_collected(frame.select(names).collect()).batches(names)

    return Source(empty.columns, None, empty.library, read)


def _open_collected(frame: nw.DataFrame[Any]) -> Source:
    return _open_pandas(frame.to_native()) if frame.implementation.is_pandas_like() else _open_eager(frame)


def _open_eager(frame: nw.DataFrame[Any]) -> Source:
    names = frame.columns
    check_names(names)
    empty = frame.head(0)

    def kind(name: str) -> ColumnKind:
        try:
            return kind_of(_frame_to_arrow(empty.select(name)).schema.field(0).type)
        except _UNCONVERTIBLE:
            return "other"

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        chosen = frame.select(names)
        for start in range(0, max(len(frame), 1), BATCH_ROWS):
            yield from _frame_to_arrow(chosen[start : start + BATCH_ROWS]).to_batches()

    library = "polars" if frame.implementation.is_polars() else "pyarrow"
    return Source({name: kind(name) for name in names}, len(frame), library, read)


def _open_pandas(frame: Any) -> Source:
    """A source from a frame with pandas' interface. Columns go by position, so that names need not be text."""
    names = [str(name) for name in frame.columns]
    check_names(names)
    position = {name: i for i, name in enumerate(names)}

    def kind(name: str) -> ColumnKind:
        series = frame.iloc[:, position[name]]
        try:  # only a column of objects must be seen whole to be known
            return kind_of(_series_to_arrow(series if series.dtype == object else series.iloc[:0]).type)
        except _UNCONVERTIBLE:
            return "other"

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        for start in range(0, max(len(frame), 1), BATCH_ROWS):
            arrays = []
            for name in names:
                try:
                    arrays.append(_series_to_arrow(frame.iloc[start : start + BATCH_ROWS, position[name]]))
                except _UNCONVERTIBLE as error:
                    raise _unconvertible(name, error) from error
            yield from pa.table(arrays, names=names).to_batches()

    return Source({name: kind(name) for name in names}, len(frame), "pandas", read)


def _frame_to_arrow(frame: nw.DataFrame[Any]) -> pa.Table:
    import narwhals as nw

    table = frame.to_arrow()
    if not frame.implementation.is_polars():
        return table
    # the dictionary of polars' Categorical says nothing of an order
    storage = {name for name, dtype in frame.schema.items() if dtype == nw.Categorical}
    return table.cast(
        pa.schema([field.with_metadata(STORAGE_ORDER) if field.name in storage else field for field in table.schema])
    )


def _series_to_arrow(series: Any) -> pa.Array:
    import narwhals as nw

    if str(series.dtype).startswith("Sparse"):
        series = series.sparse.to_dense()
    if str(series.dtype) != "category":
        return nw.from_native(series, series_only=True).to_arrow()
    codes = np.asarray(series.cat.codes)
    values = pa.array(series.cat.categories)
    if family(values.type) is None:  # such as the intervals of pandas.cut
        values = pa.array([str(value) for value in series.cat.categories], pa.large_string())
    ordered = bool(series.cat.ordered)
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), values, ordered=ordered)


def _column(name: str, values: Any) -> tuple[pa.Field, pa.Array]:
    import narwhals as nw

    if isinstance(values, pa.Array | pa.ChunkedArray):
        return pa.field(name, values.type), values
    try:
        if getattr(values, "ndim", 1) == 1 and nw.dependencies.is_into_series(values):
            series = nw.from_native(values, series_only=True)
            if not series.implementation.is_pandas_like():
                table = _frame_to_arrow(series.to_frame())
                return table.schema.field(0).with_name(name), table.column(0)
            array = _series_to_arrow(values)
        else:
            array = _array_to_arrow(name, values)
    except _UNCONVERTIBLE as error:
        if isinstance(error, DataError):
            raise
        raise _unconvertible(name, error) from error
    return pa.field(name, array.type), array


def _array_to_arrow(name: str, values: Any) -> pa.Array:
    if isinstance(values, str | bytes) or not (hasattr(values, "__len__") and hasattr(values, "__getitem__")):
        raise DataError(
            f"column {name!r} is {type(values).__name__}; a column must be an array, list or series", column=name
        )
    shape = getattr(values, "shape", (len(values),))
    if len(shape) != 1:
        raise DataError(
            f"column {name!r} has shape {tuple(shape)}; a column has one dimension: pass each of its columns by itself",
            column=name,
        )
    return pa.array(values, from_pandas=True)  # NaN among objects is a missing value


def _unconvertible(name: str, error: Exception) -> DataError:
    return DataError(
        f"column {name!r} mixes types or holds objects that are neither numbers, text, booleans nor dates "
        f"({str(error).splitlines()[0]}); convert it to one type",
        column=name,
    )
