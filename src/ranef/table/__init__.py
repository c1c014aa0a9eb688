"""Tables in and out: any data frame, Arrow, Parquet or CSV to numbers and codes, and back. Knows no formula."""

from ranef.table.arrow import from_numpy, to_numpy
from ranef.table.encode import decode
from ranef.table.files import preferred_library
from ranef.table.interaction import Combination, encode_combination, interaction
from ranef.table.kinds import ColumnKind
from ranef.table.levels import labels_of, used
from ranef.table.missing import MISSING_IN_CSV, Gap, complete_rows
from ranef.table.open import open_source
from ranef.table.output import csv_table, table_writer, to_library, write_table
from ranef.table.read import check_finite, read_table, text_example, unusable
from ranef.table.source import Source
from ranef.table.table import MISSING, UNKNOWN, CodeArray, Factor, FloatArray, Levels, Table

__all__ = [
    "MISSING",
    "MISSING_IN_CSV",
    "UNKNOWN",
    "CodeArray",
    "ColumnKind",
    "Combination",
    "Factor",
    "FloatArray",
    "Gap",
    "Levels",
    "Source",
    "Table",
    "check_finite",
    "complete_rows",
    "csv_table",
    "decode",
    "encode_combination",
    "from_numpy",
    "interaction",
    "labels_of",
    "open_source",
    "preferred_library",
    "read_table",
    "table_writer",
    "text_example",
    "to_library",
    "to_numpy",
    "unusable",
    "used",
    "write_table",
]
