"""Dates to days, weeks, months and years, beside Python's own calendar."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranef.errors import DataError
from ranef.table.periods import FIRST_DAY, LAST_DAY, bin_column, numbers_of_days, period_labels, period_numbers

EPOCH = datetime.date(1970, 1, 1)
KINDS = ("day", "week", "month", "year")


def in_python(date: datetime.date, kind: str) -> str:
    year, week, _ = date.isocalendar()
    return {
        "day": date.isoformat(),
        "week": f"{year:04d}-W{week:02d}",
        "month": date.isoformat()[:7],
        "year": date.isoformat()[:4],
    }[kind]


def binned(values: pa.Array, kind: str = "day", unit: str | None = None) -> list[str | None]:
    return bin_column(values, "t", kind, unit, f"{kind}(t)").to_pylist()


@given(st.lists(st.dates(datetime.date(1, 1, 1), datetime.date(9999, 12, 31)), min_size=1), st.sampled_from(KINDS))
def test_labels_are_those_of_the_calendar_and_sort_as_time_does(dates: list[datetime.date], kind: str) -> None:
    days = np.array([(date - EPOCH).days for date in dates], np.int64)
    labels = period_labels(numbers_of_days(days, kind), kind)
    assert labels == tuple(in_python(date, kind) for date in dates)
    assert sorted(labels) == [labels[place] for place in np.argsort(days, kind="stable")]


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_go_up_by_one_from_period_to_period(kind: str) -> None:
    numbers = numbers_of_days(np.arange(-40_000, 40_000), kind)
    assert set(np.diff(numbers)) <= {0, 1}
    assert numbers[40_000] == 0, "1970-01-01"
    np.testing.assert_array_equal(period_numbers(period_labels(numbers, kind), kind), numbers)


def test_the_ends_of_time() -> None:
    assert period_labels(np.array([FIRST_DAY, LAST_DAY]), "day") == ("0001-01-01", "9999-12-31")


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (pa.array([datetime.date(2000, 7, 31), None]), None),
        (pa.array([datetime.datetime(2000, 7, 31, 23, 59, 59), None]), None),
        (pa.array([datetime.datetime(2000, 7, 31, 5), None], pa.timestamp("ns")), None),
        (pa.array([datetime.date(2000, 7, 31), None], pa.date64()), None),
        (pa.array([datetime.date(2000, 7, 31), None]).dictionary_encode(), None),
        (pa.array([965_087_999, None], pa.int32()), "s"),
        (pa.array([965_087_999, None], pa.uint64()), "s"),
        (pa.array([965_087_999.5, float("nan")]), "s"),
        (pa.array([965_087_999_999, None]), "ms"),
        (pa.array([11_169, None], pa.int16()), "D"),
    ],
)
def test_dates_of_every_type_and_numbers_of_every_unit(values: pa.Array, unit: str | None) -> None:
    assert binned(values, "day", unit) == ["2000-07-31", None]


def test_before_1970_and_columns_without_a_value() -> None:
    assert binned(pa.array([-1]), "day", "s") == ["1969-12-31"]
    assert binned(pa.nulls(2)) == binned(pa.nulls(2), "day", "s") == [None, None]
    assert binned(pa.array([], pa.date32())) == []


def test_a_column_with_a_time_zone_has_its_local_days() -> None:
    local = pd.Series(pd.to_datetime(["2000-01-01 00:30"]).tz_localize("Europe/Paris"))
    assert binned(pa.Array.from_pandas(local)) == ["2000-01-01"]
    assert binned(pa.Array.from_pandas(local.dt.tz_convert("UTC"))) == ["1999-12-31"]


@pytest.mark.parametrize(
    ("values", "unit", "said"),
    [
        (pa.array([None, 5]), None, r'row 8 holds 5.*day\(t, unit = "s"\)'),
        (pa.array(["x", "2000-01-01"]), None, "row 7 holds x.*convert it to dates"),
        (pa.array([datetime.date(2000, 1, 1)]), "s", "leave the unit out"),
        (pa.array([10**13]), "s", "in row 7 the number 10000000000000, .* unit 's'; the units are D, s, ms"),
        (pa.array([10**7]), "D", "outside the years"),
        (pa.array([0.0, float("inf")]), "s", "in row 8 the number inf"),
        (pa.array([10**7], pa.int32()).cast(pa.date32()), None, "in row 7 the date .*make it missing"),
    ],
)
def test_what_is_no_date(values: pa.Array, unit: str | None, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        bin_column(values, "t", "day", unit, "day(t)", row=7)
    assert caught.value.column == "t"
