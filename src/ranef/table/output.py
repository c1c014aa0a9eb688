"""Tables given back to the caller, or written to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ranef.errors import OptionError
from ranef.table.arrow import from_numpy

Column: TypeAlias = npt.NDArray[Any] | Sequence[Any] | pa.Array


def to_library(columns: Mapping[str, Column], library: str) -> Any:
    """A table in the caller's own library.

    Parameters
    ----------
    columns : mapping of str to array, list or pyarrow.Array, all of one length
        Arrow arrays keep their type (levels that were integers stay integers) and an ordered dictionary its order; NaN
        stays NaN.
    library : {"pandas", "polars", "pyarrow", "dict"}
        ``"dict"`` gives NumPy arrays, text as objects.

    Returns
    -------
    pandas.DataFrame, polars.DataFrame, pyarrow.Table or dict of str to numpy.ndarray

    Raises
    ------
    OptionError
        The library is unknown or not installed.
    """
    if library not in ("pandas", "polars", "pyarrow", "dict"):
        raise OptionError(f"tables come as 'pandas', 'polars', 'pyarrow' or 'dict', not {library!r}")
    if library == "dict":
        return {name: _numpy_column(values) for name, values in columns.items()}
    table = _arrow_table(columns)
    if library == "pyarrow":
        return table
    try:
        if library == "polars":
            import polars

            frame = polars.from_arrow(table)
            # its other categoricals have no declared order
            ordered = {
                name: polars.Enum(values.dictionary.to_pylist())
                for name, values in columns.items()
                if isinstance(values, pa.DictionaryArray) and values.type.ordered
            }
            return frame.cast(ordered) if ordered else frame
        import pandas  # noqa: F401  (Arrow's conversion needs it)

        return table.to_pandas()
    except ImportError as error:
        raise OptionError(f"{library} is not installed; install it or ask for tables as 'pyarrow' or 'dict'") from error


def write_table(path: str | os.PathLike[str], columns: Mapping[str, Column]) -> None:
    """Write a table to a ``.parquet`` or ``.csv`` file, whole or not at all.

    In a CSV file NaN is an empty field, which every reader takes as missing.

    Parameters
    ----------
    path : path
        An existing file is replaced.
    columns : mapping of str to array, list or pyarrow.Array, all of one length

    Raises
    ------
    OptionError
        The extension is another one, or the folder cannot be written to.
    """
    with table_writer(path) as write:
        write(columns)


@contextmanager
def table_writer(path: str | os.PathLike[str]) -> Iterator[Callable[[Mapping[str, Column]], None]]:
    """Write a table piece by piece to a ``.parquet`` or ``.csv`` file, which is there when all pieces are.

    Parameters
    ----------
    path : path
        An existing file is replaced.

    Yields
    ------
    callable
        Takes the columns of the next rows, as `write_table`; the same columns of the same types each time.

    Raises
    ------
    OptionError
        The extension is another one, or the folder cannot be written to.
    """
    target = Path(path)
    if target.suffix.lower() not in (".parquet", ".csv"):
        raise OptionError(f"{target}: the extension must be .parquet or .csv")
    import pyarrow.parquet as pq
    from pyarrow import csv

    parquet = target.suffix.lower() == ".parquet"
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    with ExitStack() as stack:
        stack.callback(partial.unlink, missing_ok=True)
        try:
            with ExitStack() as open_file:
                writer: Any = None

                def write(columns: Mapping[str, Column]) -> None:
                    nonlocal writer
                    table = _arrow_table(columns) if parquet else csv_table(columns)
                    if writer is None:
                        kind = pq.ParquetWriter if parquet else csv.CSVWriter
                        writer = open_file.enter_context(kind(partial, table.schema))
                    writer.write_table(table)

                yield write
            if writer is not None:
                partial.replace(target)
        except OSError as error:
            raise OptionError(f"{target} cannot be written: {error}") from error


def csv_table(columns: Mapping[str, Column]) -> pa.Table:
    """An Arrow table whose NaN are nulls, which CSV writes as empty fields; ``columns`` as for `write_table`."""
    table = _arrow_table(columns)
    return pa.table([_nan_to_null(column) for column in table.columns], names=table.column_names)


def _arrow_table(columns: Mapping[str, Column]) -> pa.Table:
    return pa.table([_arrow_column(values) for values in columns.values()], names=list(columns))


def _arrow_column(values: Column) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
        return from_numpy(values)
    return pa.array(values)


def _numpy_column(values: Column) -> npt.NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values.copy()
    found: npt.NDArray[Any] = _arrow_column(values).to_numpy(zero_copy_only=False)
    return found


def _nan_to_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), pa.nulls(1, column.type)[0], column)
