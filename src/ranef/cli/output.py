"""Tables of commands: to a file, or as CSV on stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranef.errors import OptionError

_BATCH_ROWS = 1 << 16


def check_out(out: Path | None) -> None:
    """Whether a table can be written to ``out``, to be known before the work.

    Raises
    ------
    OptionError
    """
    if out is None:
        return
    if out.suffix.lower() not in (".parquet", ".csv"):
        raise OptionError(f"--out {out}: the extension must be .parquet or .csv")
    if not out.parent.is_dir():
        raise OptionError(f"--out {out}: there is no folder {out.parent}; make it first")


def write_csv(columns: Mapping[str, Any], header: bool = True) -> None:
    """CSV on stdout, piece by piece; NaN is an empty field."""
    import pyarrow as pa
    from pyarrow import csv

    from ranef.table import csv_table

    table = csv_table(columns)
    for start in range(0, max(table.num_rows, 1), _BATCH_ROWS):
        sink = pa.BufferOutputStream()
        csv.write_csv(table.slice(start, _BATCH_ROWS), sink, csv.WriteOptions(include_header=header and start == 0))
        sys.stdout.write(sink.getvalue().to_pybytes().decode())
