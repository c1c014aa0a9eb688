"""Levels as JSON has them: numbers and texts, and where each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from ranef.table import Levels, labels_of

Id = int | float | str


@dataclass(frozen=True, eq=False)
class Ids:
    """The levels of a factor by id.

    Attributes
    ----------
    column : str
    values : list of int, float or str
        By place.
    places : dict from these to int
    kind : {"number", "text"}
        What an id has to be; dates are texts in the form of ISO 8601.
    """

    column: str
    values: list[Id]
    places: dict[Id, int]
    kind: str

    @classmethod
    def of(cls, column: str, levels: Levels) -> Ids:
        """The ids of some levels."""
        kind = levels.values.type
        values: list[Id]
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            values = levels.values.to_pylist()
            return cls(column, values, {value: place for place, value in enumerate(values)}, "number")
        values = [_text(value) for value in levels.values.to_pylist()]
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_date(kind)):
            values = list(labels_of(levels.values))
        return cls(column, values, {value: place for place, value in enumerate(values)}, "text")

    def fits(self, one: Id) -> bool:
        """Whether an id is of this column's type."""
        return isinstance(one, str) == (self.kind == "text")

    def look_up(self, ids: Sequence[Id]) -> list[int]:
        """The place of each; -1 of an id that is none."""
        find = self.places.get
        return [find(one, -1) for one in ids]


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
