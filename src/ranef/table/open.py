"""From whatever holds the caller's rows to a Source."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from ranef.errors import DataError, OptionError
from ranef.table.files import open_files
from ranef.table.frames import open_columns, open_frame
from ranef.table.source import BATCH_ROWS, Source, check_names, kinds

ACCEPTED = (
    "a data frame (pandas, polars or any other that narwhals knows), an Arrow table, stream or dataset, "
    "a dict of columns, a path to a Parquet, CSV or Arrow file, a list of paths, a glob or a folder of such files"
)


def open_source(data: Any) -> Source:
    """A source of rows from anything that holds a table; nothing but the columns' names and types is read yet.

    Parameters
    ----------
    data : object
        A data frame narwhals knows (eager or lazy), an Arrow table, record batch, reader or dataset, any object with
        ``__arrow_c_stream__``, a dict of arrays, lists or series, a path (``.parquet``, ``.csv``, ``.tsv``, these with
        ``.gz``, ``.arrow``, ``.feather``), a list of paths, a glob, a folder, or a Source. A folder holds files of one
        of these formats, in folders too; saved models in it are passed over. In CSV files (UTF-8) empty fields, NA,
        N/A, NaN and null count as missing.

    Raises
    ------
    OptionError
        ``data`` is no table, or no such file exists.
    DataError
        Columns are of unequal length, have the same name or more than one dimension; files differ in their columns,
        cannot be read or are not UTF-8.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, str | os.PathLike):
        return open_files([data])
    if isinstance(data, list | tuple) and data and all(isinstance(item, str | os.PathLike) for item in data):
        return open_files(data)
    if isinstance(data, Mapping):
        return open_columns(data)
    if isinstance(data, pa.RecordBatch):
        return _open_table(pa.Table.from_batches([data]))
    if isinstance(data, pa.Table):
        return _open_table(data)
    if isinstance(data, pa.RecordBatchReader):
        return _open_reader(data)
    datasets = sys.modules.get("pyarrow.dataset")  # who has a dataset has imported it
    if datasets is not None and isinstance(data, datasets.Dataset):
        return open_dataset(data)
    frame = open_frame(data)
    if frame is not None:
        return frame
    if hasattr(data, "__arrow_c_stream__"):
        return _open_stream(data)
    raise OptionError(f"data: {_what(data)} is not a table; pass {ACCEPTED}")


def open_dataset(dataset: Any) -> Source:
    """A source from a ``pyarrow.dataset.Dataset``."""
    check_names(dataset.schema.names)

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            yield from dataset.to_batches(columns=names, batch_size=BATCH_ROWS)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"the dataset cannot be read: {error}") from error

    return Source(kinds(dataset.schema), None, "pyarrow", read)


def _open_table(table: pa.Table) -> Source:
    check_names(table.column_names)

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        return iter(table.select(names).to_batches(max_chunksize=BATCH_ROWS))

    return Source(kinds(table.schema), table.num_rows, "pyarrow", read)


def _open_reader(reader: pa.RecordBatchReader) -> Source:
    check_names(reader.schema.names)
    unread = iter([reader])

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        return iter(_once(unread))

    return Source(kinds(reader.schema), None, "pyarrow", read)


def _open_stream(data: Any) -> Source:
    try:
        first = pa.RecordBatchReader.from_stream(data)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise OptionError(f"data: {_what(data)} is not a table ({error}); pass {ACCEPTED}") from error
    check_names(first.schema.names)
    unread = iter([first])

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        # the reader that told the schema serves the first reading; most objects can be exported again
        reader = next(unread, None)
        return iter(pa.RecordBatchReader.from_stream(data) if reader is None else reader)

    return Source(kinds(first.schema), None, "pyarrow", read)


def _once(unread: Iterator[pa.RecordBatchReader]) -> pa.RecordBatchReader:
    reader = next(unread, None)
    if reader is None:
        raise DataError("this stream of batches was read already; read it into a table first (reader.read_all())")
    return reader


def _what(data: Any) -> str:
    if isinstance(data, list | tuple):
        inner = f" of {type(data[0]).__name__}" if data else ", empty"
        return f"a {type(data).__name__}{inner}"
    shape = getattr(data, "shape", None)
    return f"{type(data).__name__} {data!r}" if shape is None and len(repr(data)) < 40 else type(data).__name__
