"""Where rows come from: a source of Arrow batches whose columns are known beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from ranef.errors import DataError, OptionError, nearest
from ranef.table.kinds import ColumnKind, kind_of

BATCH_ROWS = 1 << 20

# Says that the dictionary of a column is compression only: its order means nothing.
STORAGE_ORDER = {b"ranef.levels": b"storage"}


@dataclass(frozen=True, eq=False)
class Source:
    """A table that is read batch by batch.

    Attributes
    ----------
    columns : mapping of str to ColumnKind
        Name to kind, in the order of the data.
    rows : int or None
        None where it is not known without reading.
    library : {"pandas", "polars", "pyarrow", "dict"}
        The library of the tables to give back to the caller.
    read : callable
        From names of columns to batches that hold at least these columns; ``batches`` is the way to use it.
    """

    columns: Mapping[str, ColumnKind]
    rows: int | None
    library: str
    read: Callable[[list[str]], Iterator[pa.RecordBatch]]

    def batches(self, columns: Iterable[str]) -> Iterator[pa.RecordBatch]:
        """The rows in order, with exactly ``columns`` in the order given; no other column is read.

        A dictionary column carries its declared levels (see `level_order`).

        Raises
        ------
        OptionError
            A column is not in the data.
        DataError
            The rows cannot be read.
        """
        names = list(columns)
        for name in names:
            if name not in self.columns:
                raise OptionError(f"no column {name!r} in the data; {_advice(name, self.columns)}")
        # a generator of its own, so that a wrong name raises here and not at the first row
        return (batch.select(names) for batch in self.read(names))


@dataclass(frozen=True)
class Made:
    """A column that is made from another.

    Attributes
    ----------
    source : str
        The column it is made from.
    kind : ColumnKind
    make : callable
        From the values of a batch, and the number of its first row, to those of the new column.
    metadata : mapping of bytes to bytes, or None
        Of the new column's field; by default that its dictionary means no order.
    """

    source: str
    kind: ColumnKind
    make: Callable[[pa.Array, int], pa.Array]
    metadata: Mapping[bytes, bytes] | None = field(default_factory=lambda: STORAGE_ORDER)


def with_columns(source: Source, made: Mapping[str, Made]) -> Source:
    """The source with further columns.

    Raises
    ------
    DataError
        It has a column of such a name already.
    """
    if not made:
        return source
    for name in made:
        if name in source.columns:
            raise DataError(
                f"the data have a column named {name!r}, which is what the formula calls a column of its own; rename "
                "that column",
                column=name,
            )

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        own = [made[name].source if name in made else name for name in names]
        return with_made(source.batches(dict.fromkeys(own)), names)

    def with_made(batches: Iterator[pa.RecordBatch], names: list[str]) -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in batches:
            fields, arrays = [], []
            for name in names:
                if name in made:
                    array = made[name].make(batch.column(made[name].source), row)
                    column = pa.field(name, array.type, metadata=made[name].metadata)
                else:
                    column, array = batch.schema.field(name), batch.column(name)
                fields.append(column)
                arrays.append(array)
            yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
            row += batch.num_rows

    columns = {**source.columns, **{name: one.kind for name, one in made.items()}}
    return Source(columns, source.rows, source.library, read)


def _advice(name: str, known: Iterable[str]) -> str:
    spaced = next((one for one in known if one.strip() == name.strip()), None)
    if spaced is not None:
        return f"there is {spaced!r}: spaces are part of a name; rename the column"
    close = nearest(name, known)
    if close:
        return f"the nearest {'is' if len(close) == 1 else 'are'} {', '.join(map(repr, close))}"
    return f"they have {', '.join(map(repr, list(known)[:5]))}"


def level_order(field: pa.Field) -> tuple[bool, bool]:
    """Whether a column declares the order of its levels, and whether that order is a ranking (R's ``ordered``).

    Arrow dictionary columns declare theirs: the order of the dictionary. Exceptions are dictionaries that only save
    space: polars' Categorical and the text of CSV files. polars' Enum declares an order without ranking, like R's
    ``factor(x, levels=...)``; pandas' categorical says itself whether it is ordered.
    """
    if not pa.types.is_dictionary(field.type):
        return False, False
    keys = field.metadata or {}
    if keys.items() >= STORAGE_ORDER.items() or any(key.startswith(b"_PL_CATEGORICAL") for key in keys):
        return False, False
    return True, bool(field.type.ordered) and not any(key.startswith(b"_PL_ENUM") for key in keys)


def check_names(names: Sequence[str], where: str = "the data") -> None:
    """Raise DataError unless there are columns and all names differ."""
    if not names:
        raise DataError(f"{where} have no columns" if where == "the data" else f"{where} has no columns")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise DataError(f"{count} columns of {where} are named {name!r}; rename or drop all but one", column=name)


def kinds(schema: pa.Schema) -> dict[str, ColumnKind]:
    """Name to kind for every column of ``schema``."""
    return {field.name: kind_of(field.type) for field in schema}
