"""``day(t)``, ``week(t)``, ``month(t)`` and ``year(t)``: columns of levels that a formula makes from dates.

They are read as if they were columns of the data, under the name that the formula gives them, so that whatever takes a
factor takes them: grouping factors and products of them, fixed effects, saved models and unknown levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import msgspec
import pyarrow as pa

from ranef.errors import DataError, FormulaError
from ranef.formula import label
from ranef.formula.columns import calls
from ranef.formula.nodes import Call, Formula, Name, Text
from ranef.formula.operations import PERIODS
from ranef.table.periods import IntArray, PeriodKind, Unit, bin_column, period_numbers
from ranef.table.source import STORAGE_ORDER, Source
from ranef.table.table import Levels


class Period(msgspec.Struct, frozen=True):
    """A column of levels made from a column of dates.

    Attributes
    ----------
    name : str
        Of the new column: ``week(t)``, without the unit.
    column : str
    kind : {"day", "week", "month", "year"}
    unit : {"D", "s", "ms", "us", "ns"} or None
        What numbers count since 1970-01-01; None for dates.
    """

    name: str
    column: str
    kind: PeriodKind
    unit: Unit | None

    def numbers(self, levels: Levels) -> IntArray:
        """How far each level is from 1970-01-01 in periods, shape (levels,): ascending, with gaps where periods lack
        rows. Two levels are neighbours in time where these differ by 1."""
        return period_numbers(levels.labels, self.kind)


def period_of(call: Call) -> Period:
    """The column that a call of `PERIODS`, checked by the parser, means."""
    column = cast(Name, call.arguments[0])
    unit = next((cast(Text, one).value for one in (*call.arguments[1:], *(v for _, v in call.keywords))), None)
    name = label(Call(call.function, (column,)))
    return Period(name, column.name, cast(PeriodKind, call.function), cast(Unit | None, unit))


def periods_of(formula: Formula) -> tuple[Period, ...]:
    """Every such column of a formula, in the order of first appearance.

    Raises
    ------
    FormulaError
        The same column with two units.
    """
    found: dict[str, Period] = {}
    for call in calls(formula):
        if call.function not in PERIODS:
            continue
        period = period_of(call)
        if found.setdefault(period.name, period) != period:
            raise FormulaError(
                f"{period.name} stands with two units; a column has one.", formula.text, call.span.start, call.span.end
            )
    return tuple(found.values())


def with_periods(source: Source, periods: Sequence[Period]) -> Source:
    """The source with these columns beside its own.

    Raises
    ------
    DataError
        It has a column of such a name already; while rows are read, as `ranef.table.periods.bin_column`.
    """
    if not periods:
        return source
    made = {period.name: period for period in periods}
    for name in made:
        if name in source.columns:
            raise DataError(
                f"the data have a column named {name!r}, which is what the formula calls a column of its own; rename "
                "that column",
                column=name,
            )

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        own = [name for name in names if name not in made] + [made[name].column for name in names if name in made]
        return _binned(source.batches(dict.fromkeys(own)), names)

    def _binned(batches: Iterator[pa.RecordBatch], names: list[str]) -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in batches:
            fields, arrays = [], []
            for name in names:
                period = made.get(name)
                if period is None:
                    field, array = batch.schema.field(name), batch.column(name)
                else:
                    array = bin_column(batch.column(period.column), period.column, period.kind, period.unit, name, row)
                    field = pa.field(name, array.type, metadata=STORAGE_ORDER)
                fields.append(field)
                arrays.append(array)
            yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
            row += batch.num_rows

    return Source({**source.columns, **dict.fromkeys(made, "category")}, source.rows, source.library, read)
