"""Tables given back to the caller, or written to a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ranef.errors import OptionError

Column: TypeAlias = npt.NDArray[Any] | Sequence[Any] | pa.Array


def to_library(columns: Mapping[str, Column], library: str) -> Any:
    """A table in the caller's own library.

    Parameters
    ----------
    columns : mapping of str to array, list or pyarrow.Array, all of one length
        Arrow arrays keep their type (levels that were integers stay integers); NaN stays NaN.
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
    table = _arrow_table(columns)
    if library == "pyarrow":
        return table
    if library == "dict":
        return {name: column.to_numpy() for name, column in zip(table.column_names, table.columns, strict=True)}
    try:
        if library == "polars":
            import polars

            return polars.from_arrow(table)
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
    target = Path(path)
    if target.suffix.lower() not in (".parquet", ".csv"):
        raise OptionError(f"{target}: the extension must be .parquet or .csv")
    table = _arrow_table(columns)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        if target.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, partial)
        else:
            from pyarrow import csv

            csv.write_csv(
                pa.table([_nan_to_null(column) for column in table.columns], names=table.column_names), partial
            )
        partial.replace(target)
    except OSError as error:
        raise OptionError(f"{target} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _arrow_table(columns: Mapping[str, Column]) -> pa.Table:
    arrays = [
        values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values) for values in columns.values()
    ]
    return pa.table(arrays, names=list(columns))


def _nan_to_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
