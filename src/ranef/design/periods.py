"""``day(t)``, ``week(t)``, ``month(t)`` and ``year(t)``: columns of levels that a formula makes from dates.

They are read as if they were columns of the data, under the name that the formula gives them, so that whatever takes a
factor takes them: grouping factors and products of them, fixed effects, saved models and unknown levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from ranef.errors import FormulaError
from ranef.formula import label
from ranef.formula.columns import calls
from ranef.formula.nodes import Call, Formula, Name, Text
from ranef.formula.operations import PERIODS
from ranef.table.periods import IntArray, PeriodKind, Unit, bin_column, period_numbers
from ranef.table.source import Made, Source, with_columns
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

    def bins(period: Period) -> Made:
        return Made(
            period.column,
            "category",
            lambda values, row: bin_column(values, period.column, period.kind, period.unit, period.name, row),
        )

    return with_columns(source, {period.name: bins(period) for period in periods})
