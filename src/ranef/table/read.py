"""From a source to a Table: numbers as float64, factors as codes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ranef.errors import DataError, counted
from ranef.storage import MEMORY, Storage
from ranef.table.arrow import to_numpy
from ranef.table.encode import EncodedBatch, encode_batch, merge
from ranef.table.filling import Filling
from ranef.table.kinds import describe, is_text, plain_type, remedy
from ranef.table.missing import MISSING_IN_CSV
from ranef.table.source import BATCH_ROWS, Source
from ranef.table.table import FloatArray, Levels, Table

_NUMERAL = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"


def read_table(
    source: Source,
    *,
    numbers: Collection[str],
    factors: Collection[str],
    levels: Mapping[str, Levels] | None = None,
    storage: Storage = MEMORY,
) -> Table:
    """Read columns of a source, batch by batch.

    Parameters
    ----------
    source : Source
    numbers : collection of str
        Columns wanted as float64: numbers, and booleans as 0 and 1.
    factors : collection of str
        Columns wanted as codes; a column may be wanted as both.
    levels : mapping of str to Levels, optional
        Levels of a fitted model by column. Values not among them become UNKNOWN; null and NaN become MISSING. Numbers
        match whatever their width, and 1.0 matches 1; text matches whole numbers and dates by label (``"308"`` is 308).
    storage : Storage
        Where the columns live.

    Returns
    -------
    Table
        Without ``levels`` for a column, its levels are the distinct values of the data in declared order, else sorted;
        declared levels that do not occur are kept.

    Raises
    ------
    OptionError
        A column is not in the data.
    DataError
        A column cannot be what it is wanted as, or changes its type; carries the column, the row and the remedy.
    """
    parts = {name: Filling(np.float64, source.rows, storage) for name in numbers}
    codes = {name: Filling(np.int32, source.rows, storage) for name in factors}
    encoded: dict[str, list[EncodedBatch]] = {name: [] for name in factors}
    names = list(dict.fromkeys([*parts, *codes]))
    if not names and source.rows is not None:
        return Table(source.rows, {}, {})
    rows = 0
    batches = source.batches(names or list(source.columns)[:1])  # the rows are counted even if no column is wanted
    for batch in batches:
        for name, part in parts.items():
            if is_text(plain_type(batch.schema.field(name).type)):
                raise _text_error(name, rows, chain([batch], batches))
            part.append(to_float64(batch.column(name), name, rows))
        for name, part in codes.items():
            found, distinct = encode_batch(batch.column(name), batch.schema.field(name), rows)
            part.append(found)
            encoded[name].append(distinct)
        rows += batch.num_rows
        storage.trim()
    del batches
    if rows > BATCH_ROWS:
        # Arrow keeps what it has used, for its next use
        pa.default_memory_pool().release_unused()
    given = levels or {}
    return Table(
        rows,
        {name: part.column() for name, part in parts.items()},
        {name: merge(name, part.column(), encoded[name], given.get(name), storage) for name, part in codes.items()},
    )


def to_float64(values: pa.Array, column: str, row: int = 0) -> FloatArray:
    """Numbers of any width, decimals and booleans as float64, null as NaN.

    Parameters
    ----------
    values : pyarrow.Array, shape (rows,)
    column : str
        For messages.
    row : int
        Number of the first value's row, for messages.

    Returns
    -------
    float64 array, shape (rows,)

    Raises
    ------
    DataError
        The column is no number.
    """
    dtype = values.type
    if pa.types.is_boolean(dtype):
        values = values.cast(pa.uint8())
    elif pa.types.is_null(dtype):
        return np.full(len(values), np.nan)
    elif not (pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype)):
        raise _not_number(values, column, row)
    return to_numpy(values.cast(pa.float64(), safe=False), np.nan)


def check_finite(table: Table, names: Iterable[str], storage: Storage = MEMORY) -> None:
    """Raise DataError at the first of the number columns ``names`` that holds an infinite value; NaN passes."""
    for name in names:
        column, count, row = table.numbers[name], 0, 0
        for piece in storage.pieces(table.rows):
            infinite = np.flatnonzero(np.isinf(column[piece]))
            if len(infinite) and not count:
                row = piece.start + int(infinite[0])
            count += len(infinite)
        if count:
            raise DataError(
                f"column {name!r} has {counted(count, 'infinite value')}, the first in row {row}; "
                "replace them by missing values or leave these rows out",
                column=name,
                row=row,
                count=count,
            )


def _not_number(values: pa.Array, column: str, row: int) -> DataError:
    valid = to_numpy(pc.is_valid(values))
    first = int(np.argmax(valid)) if valid.any() else 0
    example = f" (row {row + first} holds {values[first]})" if valid.any() else ""
    dtype = plain_type(values.type)
    if pa.types.is_date(dtype) or pa.types.is_timestamp(dtype):
        advice = "convert it to a number such as the days since a date, or take it as a factor"
    elif pa.types.is_dictionary(values.type):
        advice = "convert its values to numbers, or take it as a factor"
    else:
        advice = remedy(dtype)
    text = f"column {column!r} is {describe(values.type)}{example}, but a number is needed; {advice}"
    return DataError(text, column=column, row=row + first)


def text_example(source: Source, column: str) -> tuple[int, str] | None:
    """Row and value of the first text of a column that is no numeral, else of its first text; None without text."""
    found = _first_text(column, 0, source.batches([column]))
    return None if found is None else found[:2]


def unusable(source: Source, column: str) -> DataError | None:
    """Why a column can be neither numbers nor levels, with its type and what to do; None if it can."""
    try:
        read_table(source, numbers=[], factors=[column])
    except DataError as error:
        return error
    return None


def _first_text(column: str, row: int, batches: Iterator[pa.RecordBatch]) -> tuple[int, str, bool] | None:
    """Row and value of the first text that is no numeral, and True; else of the first text, and False."""
    first: tuple[int, str, bool] | None = None
    for batch in batches:
        values = batch.column(column)
        if is_text(plain_type(values.type)):
            values = values.cast(pa.large_string())
            bad = pc.index(pc.match_substring_regex(values, _NUMERAL), False).as_py()
            if bad >= 0:
                return row + bad, values[bad].as_py(), True
            start = pc.index(pc.is_valid(values), True).as_py()
            if first is None and start >= 0:
                first = row + start, values[start].as_py(), False
        row += batch.num_rows
    return first


def _text_error(column: str, row: int, batches: Iterator[pa.RecordBatch]) -> DataError:
    """The error for text where numbers are needed: shows the first value that is no numeral, else the first value."""
    first = _first_text(column, row, batches)
    if first is not None and first[2]:
        return DataError(
            f"column {column!r} is text: row {first[0]} holds {first[1]!r}, but a number is needed; correct that value "
            f"and convert the column to numbers, or take it as a factor ({MISSING_IN_CSV})",
            column=column,
            row=first[0],
        )
    example = f" (row {first[0]} holds {first[1]!r})" if first else ""
    return DataError(
        f"column {column!r} is text{example}, but a number is needed; convert it to numbers, or take it as a factor",
        column=column,
        row=first[0] if first else None,
    )
