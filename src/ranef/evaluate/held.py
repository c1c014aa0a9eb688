"""The caller's rows: columns to compute with, and parts of them given back in the caller's own library."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.errors import DataError, OptionError, counted
from ranef.table import Factor, FloatArray, Source, from_numpy, open_source, read_table, to_library

RowArray = npt.NDArray[np.int64]


class Held:
    """A table that is read more than once.

    Parameters
    ----------
    data : any data that `ranef.fit` takes
        What can be read only once, or lies in files, is read into memory here.
    """

    def __init__(self, data: Any):
        import narwhals as nw

        frame = nw.from_native(data, pass_through=True, eager_only=True)
        self._frame = frame if isinstance(frame, nw.DataFrame) else None
        source = open_source(data)
        self._library = source.library
        if self._frame is None:
            self._table = _whole(source)
            source = open_source(self._table)
        self._source: Source = source

    @property
    def source(self) -> Source:
        """The table as a source, to be read as often as needed."""
        return self._source

    @property
    def library(self) -> str:
        """The library of the tables to give back."""
        return self._library

    @property
    def columns(self) -> Collection[str]:
        return self._source.columns.keys()

    def factor(self, name: str) -> Factor:
        """A column as codes into its levels.

        Raises
        ------
        OptionError
            There is no such column.
        DataError
            It lacks values.
        """
        found = read_table(self._source, numbers=[], factors=[name]).factors[name]
        _refuse_missing(name, found.codes < 0)
        return found

    def instants(self, name: str) -> npt.NDArray[Any]:
        """A column of numbers, dates or times as numbers in the same order, shape (rows,).

        Raises
        ------
        OptionError
            There is no such column.
        DataError
            It lacks values.
        """
        if self._source.columns.get(name, "number") in ("number", "boolean"):
            values: FloatArray = read_table(self._source, numbers=[name], factors=[]).numbers[name]
            _refuse_missing(name, np.isnan(values))
            return values
        # levels are sorted by time: their codes have the order of their values
        return self.factor(name).codes

    def instant_of(self, name: str, value: Any) -> float:
        """Where ``value`` stands among the `instants` of a column: rows at or after it have at least this number."""
        if self._source.columns.get(name, "number") in ("number", "boolean"):
            if isinstance(value, bool) or not isinstance(value, int | float | np.number):
                raise OptionError(f"at={value!r}: column {name!r} holds numbers; give a number")
            return float(value)
        import pyarrow.compute as pc

        levels = self.factor(name).levels
        try:
            point = pa.array([value]).cast(levels.values.type)[0]
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise OptionError(f"at={value!r} cannot be compared with column {name!r} ({levels.values.type})") from error
        if not levels.declared:
            return float(pc.sum(pc.less(levels.values, point)).as_py() or 0)
        # the order of the levels is the caller's, which no comparison of their values knows
        place = pc.index(levels.values, point).as_py()
        if place < 0:
            raise OptionError(f"at={value!r} is no level of column {name!r}")
        return float(place)

    @property
    def rows(self) -> int:
        if self._frame is not None:
            return len(self._frame)
        return int(self._table.num_rows)

    def take(self, rows: RowArray) -> Any:
        """The rows at the places ``rows``, in the caller's library."""
        if self._frame is not None:
            return self._frame[rows, :].to_native()
        taken = self._table.take(from_numpy(rows))
        return to_library({name: taken[name].combine_chunks() for name in taken.column_names}, self._library)


def _whole(source: Source) -> pa.Table:
    batches = list(source.batches(source.columns))
    if not batches:
        raise DataError("the data have no rows", count=0)
    return pa.Table.from_batches(batches).unify_dictionaries()


def _refuse_missing(name: str, missing: npt.NDArray[np.bool_]) -> None:
    count = int(np.count_nonzero(missing))
    if count:
        row = int(np.argmax(missing))
        raise DataError(
            f"column {name!r} lacks {counted(count, 'value')}, the first in row {row}: leave these rows out first",
            column=name,
            row=row,
            count=count,
        )
