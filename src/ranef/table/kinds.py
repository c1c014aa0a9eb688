"""What a column is, told from its Arrow type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.types as pt

ColumnKind: TypeAlias = Literal["number", "boolean", "category", "date", "other"]


def is_text(dtype: pa.DataType) -> bool:
    """Whether ``dtype`` is one of Arrow's string types."""
    return str(dtype) in ("string", "large_string", "string_view")


def plain_type(dtype: pa.DataType) -> pa.DataType:
    """``dtype``, or that of its values where it is a dictionary."""
    return dtype.value_type if pt.is_dictionary(dtype) else dtype


def kind_of(dtype: pa.DataType) -> ColumnKind:
    """Kind of a column of Arrow type ``dtype``; an all-missing column without a type is a number."""
    if pt.is_dictionary(dtype):
        return "other" if family(dtype.value_type) is None else "category"
    if pt.is_null(dtype):
        return "number"
    kinds: dict[str | None, ColumnKind] = {"number": "number", "boolean": "boolean", "text": "category", "date": "date"}
    return kinds.get(family(dtype), "other")


def family(dtype: pa.DataType) -> str | None:
    """The family whose members can be compared: number, boolean, text or date; None for any other type."""
    dtype = plain_type(dtype)
    if pt.is_integer(dtype) or pt.is_floating(dtype) or pt.is_decimal(dtype):
        return "number"
    if pt.is_boolean(dtype):
        return "boolean"
    if is_text(dtype):
        return "text"
    return "date" if pt.is_date(dtype) or pt.is_timestamp(dtype) else None


def describe(dtype: pa.DataType) -> str:
    """``dtype`` in words, for messages."""
    if pt.is_dictionary(dtype):
        return "categorical"
    dtype = plain_type(dtype)
    if pt.is_integer(dtype):
        return "integer"
    if pt.is_floating(dtype):
        return "floating-point"
    if pt.is_date(dtype):
        return "date"
    if pt.is_timestamp(dtype):
        return "date-time" if dtype.tz is None else "date-time with a time zone"
    if pt.is_decimal(dtype):
        return "decimal"
    if pt.is_duration(dtype):
        return "timedelta"
    return "period" if _is_period(dtype) else family(dtype) or str(dtype)


def remedy(dtype: pa.DataType) -> str:
    """What to do with a column whose values are neither numbers nor levels, for messages."""
    dtype = plain_type(dtype)
    if pt.is_duration(dtype):
        return "convert it to a number, such as its seconds (.dt.total_seconds())"
    if _is_period(dtype):
        return "convert it to dates (.dt.to_timestamp()) or to text (.astype(str))"
    return "convert it to numbers or to text"


def _is_period(dtype: pa.DataType) -> bool:
    return str(dtype).startswith("extension<pandas.period")


def common_type(types: Iterable[pa.DataType]) -> pa.DataType | None:
    """The type in which values of all ``types`` can be compared for equality; None if there is none.

    Integers of any width meet in int64 (with uint64 in a decimal), text in large_string, dates and times in the finest
    unit. An integer meets a floating-point column in float64, because data frames turn integers with missing values
    into floats; float32 meets float64 in float32, so that 0.1 is 0.1 in both.
    """
    distinct = list(dict.fromkeys(_canonical(plain_type(dtype)) for dtype in types))
    families = {family(dtype) for dtype in distinct}
    if len(families) != 1 or None in families:
        return None
    if len(distinct) == 1:
        return distinct[0]
    if families == {"date"}:
        return _common_time(distinct)
    if all(pt.is_integer(dtype) for dtype in distinct):
        return pa.decimal128(20) if pa.uint64() in distinct else pa.int64()
    only_floats = all(pt.is_floating(dtype) for dtype in distinct)
    return pa.float32() if only_floats else pa.float64()


def _canonical(dtype: pa.DataType) -> pa.DataType:
    if is_text(dtype):
        return pa.large_string()
    return pa.float32() if pt.is_float16(dtype) else dtype


def _common_time(types: list[pa.DataType]) -> pa.DataType | None:
    zones = [dtype.tz if pt.is_timestamp(dtype) else None for dtype in types]
    if any(zone is None for zone in zones) and any(zone is not None for zone in zones):
        return None
    finest = max((dtype.unit if pt.is_timestamp(dtype) else "s" for dtype in types), key=["s", "ms", "us", "ns"].index)
    return pa.timestamp(finest, zones[0])
