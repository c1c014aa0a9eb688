"""CSV files: Arrow reads them; what keeps one from being read is said in words."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from ranef.errors import DataError
from ranef.table.kinds import plain_type
from ranef.table.source import BATCH_ROWS, STORAGE_ORDER

_BLOCK = 1 << 24
_LONGEST_HEADER = 1 << 20
_SEPARATORS = {",": "commas", ";": "semicolons (';')", "\t": "tabs"}


def csv_schema(file: Path) -> pa.Schema:
    """Names and types of the columns, told from the first rows."""
    from pyarrow import csv

    _check_header(file)
    convert = csv.ConvertOptions(strings_can_be_null=True)
    with csv.open_csv(file, convert_options=convert, **_options(file)) as reader:
        schema = reader.schema
    _check_encoding(file, schema)
    return schema


def csv_batches(file: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Read whole, so that a column's type is that of all its rows; text is kept as its distinct values.

    Missing are what Arrow takes for it: empty fields, NA, N/A, NaN, null and their spellings.
    """
    from pyarrow import csv

    convert = csv.ConvertOptions(
        include_columns=names, strings_can_be_null=True, auto_dict_encode=True, auto_dict_max_cardinality=2**31 - 1
    )
    table = csv.read_csv(file, convert_options=convert, **_options(file))
    _check_encoding(file, table.schema)
    fields = [
        field.with_metadata(STORAGE_ORDER) if pa.types.is_dictionary(field.type) else field for field in table.schema
    ]
    yield from pa.Table.from_arrays(table.columns, schema=pa.schema(fields)).to_batches(max_chunksize=BATCH_ROWS)


def _options(file: Path) -> dict[str, Any]:
    from pyarrow import csv

    return {
        "read_options": csv.ReadOptions(block_size=_BLOCK),
        "parse_options": csv.ParseOptions(delimiter=_delimiter(file), newlines_in_values=True),
    }


def _delimiter(file: Path) -> str:
    return "\t" if file.name.lower().removesuffix(".gz").endswith(".tsv") else ","


def _check_header(file: Path) -> None:
    """Refuse names that are not UTF-8, and a single name that another separator would split."""
    with pa.input_stream(str(file)) as stream:
        line = stream.read(_LONGEST_HEADER).partition(b"\n")[0]
    if len(line) == _LONGEST_HEADER:
        return
    try:
        names = line.decode()
    except UnicodeDecodeError:
        _refuse_bytes(file)
        raise
    own = _delimiter(file)
    found = next((one for one in _SEPARATORS if one != own and one in names), None)
    if own in names or found is None:
        return
    remedy = "save it with commas" if own == "," else "name it .csv" if found == "," else "save it with tabs"
    raise DataError(
        f"{file}: the fields seem to be separated by {_SEPARATORS[found]}, not {_SEPARATORS[own]}; {remedy}, or read "
        "it with pandas or polars and pass the frame"
    )


def _check_encoding(file: Path, schema: pa.Schema) -> None:
    if any(pa.types.is_binary(plain_type(field.type)) for field in schema):  # Arrow's type for text that is not UTF-8
        _refuse_bytes(file)


def _refuse_bytes(file: Path) -> None:
    """Raise DataError at the first byte that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with pa.input_stream(str(file)) as stream:
        while True:
            block = stream.read(_BLOCK)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line += error.object.count(b"\n", 0, error.start)
                place = f"byte 0x{error.object[error.start]:02x} in line {line}"
                raise DataError(
                    f"{file} is not UTF-8 (the first bad place is {place}): save it as UTF-8, or read it with pandas "
                    "or polars and pass the frame"
                ) from error
            if not block:
                return
            line += block.count(b"\n")
