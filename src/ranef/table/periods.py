"""Dates and times to the day, ISO week, month or year that holds them: as a number, and as text.

The periods of a kind are numbered without gaps and are equally spaced: a structure over time, such as a random walk,
finds from the text of its levels how far apart they are (`period_numbers`), whichever of them occur in the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ranef.errors import DataError
from ranef.table.arrow import from_numpy, from_texts, to_numpy
from ranef.table.encode import encode_integers
from ranef.table.kinds import describe, plain_type

PeriodKind: TypeAlias = Literal["day", "week", "month", "year"]
Unit: TypeAlias = Literal["D", "s", "ms", "us", "ns"]
IntArray: TypeAlias = npt.NDArray[np.int64]

# How many of a unit make a day.
UNITS: dict[str, int] = {"D": 1, "s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}

# Days since 1970-01-01 of the first and last whose year has four digits: text then sorts as time does.
FIRST_DAY, LAST_DAY = -719_162, 2_932_896


def numbers_of_days(days: IntArray, kind: PeriodKind) -> IntArray:
    """The number of the period that holds each day.

    Parameters
    ----------
    days : int64 array
        Since 1970-01-01, which is 0.
    kind : {"day", "week", "month", "year"}

    Returns
    -------
    int64 array, of the same shape
        0 is the period of 1970-01-01; weeks begin on Monday.
    """
    if kind == "day":
        return days
    if kind == "week":
        return (days + 3) // 7  # 1970-01-01 was a Thursday
    dates = days.astype("datetime64[D]")
    return dates.astype("datetime64[M]" if kind == "month" else "datetime64[Y]").astype(np.int64)


def period_labels(numbers: IntArray, kind: PeriodKind) -> tuple[str, ...]:
    """Periods as text: ``2000-07-31``, ``2000-W31`` (ISO 8601: the year is that of the week's Thursday), ``2000-07``,
    ``2000``; shape (periods,)."""
    if kind != "week":
        unit = {"day": "D", "month": "M", "year": "Y"}[kind]
        return tuple(np.datetime_as_string(numbers.astype(f"datetime64[{unit}]")).tolist())
    thursdays = (7 * numbers).astype("datetime64[D]")
    years = thursdays.astype("datetime64[Y]")
    weeks = (thursdays - years.astype("datetime64[D]")).astype(np.int64) // 7 + 1
    return tuple(f"{year}-W{week:02d}" for year, week in zip(np.datetime_as_string(years), weeks, strict=True))


def period_numbers(labels: Sequence[str], kind: PeriodKind) -> IntArray:
    """The inverse of `period_labels`: the numbers of periods, shape (periods,)."""
    if kind == "week":
        years = np.array([label[:4] for label in labels], "datetime64[Y]")
        fourths = (years.astype("datetime64[D]") + 3).astype(np.int64)  # 4 January is in the first week of its year
        return numbers_of_days(fourths, "week") + np.array([int(label[-2:]) - 1 for label in labels], np.int64)
    unit = {"day": "D", "month": "M", "year": "Y"}[kind]
    return np.array(labels, f"datetime64[{unit}]").astype(np.int64)


def bin_column(
    values: pa.Array, column: str, kind: PeriodKind, unit: Unit | None, operation: str, row: int = 0
) -> pa.DictionaryArray:
    """The period of every row as text, null where the value is missing.

    Parameters
    ----------
    values : pyarrow.Array, shape (rows,)
        Dates or times; of a column with a time zone, its local days count. Numbers where ``unit`` is given.
    column : str
        For messages.
    kind : {"day", "week", "month", "year"}
    unit : {"D", "s", "ms", "us", "ns"} or None
        What a number counts since 1970-01-01 00:00.
    operation : str
        As the formula writes it, for messages.
    row : int
        Number of the first row, for messages.

    Raises
    ------
    DataError
        The column is neither, or one of both while the other was said; a date is outside the years 1 to 9999.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_null(values.type):
        values = pa.nulls(len(values), pa.date32())
        unit = None
    valid = to_numpy(pc.is_valid(values))
    days, valid = _days(values, valid, column, kind, unit, operation, row)
    outside = valid & ((days < FIRST_DAY) | (days > LAST_DAY))
    if outside.any():
        first = int(np.argmax(outside))
        remedy = "correct it, or make it missing" if unit is None else f"the units are {', '.join(UNITS)}"
        raise DataError(
            f"column {column!r} has in row {row + first} the {'date' if unit is None else 'number'} "
            f"{_text(values, first)}, which is outside the years 1 to 9999 that {operation} takes"
            f"{'' if unit is None else f', read with unit {unit!r}'}; {remedy}",
            column=column,
            row=row + first,
            count=int(np.count_nonzero(outside)),
        )
    days[~valid] = days[valid][:1] if valid.any() else 0
    codes, numbers = encode_integers(numbers_of_days(days, kind))
    labels = from_texts(period_labels(numbers.astype(np.int64), kind))
    return pa.DictionaryArray.from_arrays(from_numpy(codes, valid), labels)


def _days(
    values: pa.Array,
    valid: npt.NDArray[np.bool_],
    column: str,
    kind: PeriodKind,
    unit: Unit | None,
    operation: str,
    row: int,
) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """Days since 1970-01-01, anything where invalid; and which are valid."""
    dtype = values.type
    if pa.types.is_date(dtype) or pa.types.is_timestamp(dtype):
        if unit is not None:
            raise DataError(
                f"column {column!r} holds dates, and {operation} was told to read numbers with the unit {unit!r}: "
                "leave the unit out in fitting, or give the column as the fit had it",
                column=column,
            )
        return _days_of_dates(values), valid
    if not (pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype)):
        raise DataError(
            f"column {column!r} is {describe(plain_type(dtype))}{_example(values, valid, row)}, and {operation} takes "
            "dates; convert it to dates or times (such as by pandas.to_datetime)",
            column=column,
        )
    if unit is None:
        raise DataError(
            f"column {column!r} holds numbers{_example(values, valid, row)}, and {operation} takes dates: say what "
            f'they count since 1970-01-01, as in {kind}({column}, unit = "s") for seconds (the units are '
            f"{', '.join(UNITS)}), or convert the column to dates",
            column=column,
        )
    if pa.types.is_integer(dtype):
        counts = to_numpy(values, 0)
        wide = counts.dtype == np.uint64
        return (counts // np.uint64(UNITS[unit]) if wide else counts.astype(np.int64) // UNITS[unit]).astype(
            np.int64
        ), valid
    numbers = to_numpy(values.cast(pa.float64(), safe=False), np.nan)
    valid = valid & ~np.isnan(numbers)
    return np.clip(np.nan_to_num(np.floor(numbers / UNITS[unit])), FIRST_DAY - 1, LAST_DAY + 1).astype(np.int64), valid


def _days_of_dates(values: pa.Array) -> IntArray:
    if pa.types.is_timestamp(values.type):
        if values.type.tz is not None:
            values = pc.local_timestamp(values)
        return to_numpy(values.cast(pa.int64()), 0) // UNITS[values.type.unit]
    return to_numpy(values.cast(pa.date32()).cast(pa.int32()), 0).astype(np.int64)


def _example(values: pa.Array, valid: npt.NDArray[np.bool_], row: int) -> str:
    if not valid.any():
        return ""
    first = int(np.argmax(valid))
    return f" (row {row + first} holds {_text(values, first)})"


def _text(values: pa.Array, place: int) -> str:
    """A value as Arrow writes it: Python's dates end with the year 9999."""
    found: str = values.slice(place, 1).cast(pa.string())[0].as_py()
    return found
