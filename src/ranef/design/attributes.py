"""Attributes of levels that stand in tables of their own, one row a key: read as if they were columns of the data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ranef.design.fields import with_bags
from ranef.design.periods import Period, with_periods
from ranef.design.spec import FieldSpec
from ranef.errors import DataError, OptionError, nearest
from ranef.table import MISSING, Levels, Source, from_numpy, labels_of, open_source
from ranef.table.encode import encode_batch, look_up
from ranef.table.kinds import is_text, plain_type
from ranef.table.source import STORAGE_ORDER, Made, with_columns


def open_tables(tables: Any, data: Source) -> dict[str, Source]:
    """The tables of ``tables=`` as sources.

    Parameters
    ----------
    tables : mapping of str to table, or None
        From a column of the data, the key, to any table that has the column too.
    data : Source

    Raises
    ------
    OptionError
        It is no such mapping, or a key is not a column of both.
    """
    if tables is None:
        return {}
    if not isinstance(tables, Mapping) or not all(isinstance(key, str) for key in tables):
        raise OptionError('tables= is a mapping from a column of the data to a table, as {"user_id": users}')
    opened = {}
    for key, table in tables.items():
        opened[key] = open_source(table)
        for where, columns in (("the data have", data.columns), ("its table has", opened[key].columns)):
            if key not in columns:
                close = nearest(key, columns)
                hint = (
                    f"did you mean {' or '.join(map(repr, close))}?"
                    if close
                    else f"the columns are {', '.join(columns)}"
                )
                raise OptionError(f"tables={{{key!r}: ...}}: {where} no column {key!r}; {hint}")
    return opened


def read_attributes(
    tables: Mapping[str, Source], data: Source, wanted: Collection[str], formula: str
) -> dict[str, pa.Table]:
    """The rows of the tables, with the columns that are wanted and the data lack.

    Parameters
    ----------
    tables : mapping of str to Source
        As `open_tables` makes them.
    data : Source
    wanted : collection of str
        Columns.
    formula : str
        For messages.

    Returns
    -------
    mapping of str to pyarrow.Table
        By key; the key is the first column. Tables without a wanted column are left out.

    Raises
    ------
    DataError
        A column is in more than one of these places; a key stands twice in its table, or is missing there.
    """
    found = {}
    for key, table in tables.items():
        columns = [name for name in table.columns if name in wanted and name not in tables and name != key]
        for name in columns:
            places = ["the data"] * (name in data.columns)
            places += [f"the table of {other!r}" for other, one in tables.items() if name in one.columns]
            if len(places) > 1:
                raise DataError(
                    f"column {name!r} of {formula} is in {' and in '.join(places)}: rename or drop all but one",
                    column=name,
                )
        if columns:
            found[key] = _checked(key, pa.Table.from_batches(list(table.batches([key, *columns]))).combine_chunks())
    return found


def joined_attributes(kept: Mapping[str, pa.Table], given: Mapping[str, Source], data: Source) -> dict[str, pa.Table]:
    """The attributes of a fitted model with the rows of new tables, which take the place of those with the same key.

    Parameters
    ----------
    kept : mapping of str to pyarrow.Table
        Of the model.
    given : mapping of str to Source
        As `open_tables` makes them.
    data : Source

    Raises
    ------
    OptionError
        The model has no attributes by such a key, or a table lacks a column that the model reads.
    DataError
        As `read_attributes`.
    """
    for key in given:
        if key not in kept:
            known = f"those by {', '.join(map(repr, kept))}" if kept else "none"
            raise OptionError(f"tables={{{key!r}: ...}}: the model reads no attributes by {key!r}; it reads {known}")
    out = dict(kept)
    for key, table in given.items():
        names = kept[key].column_names
        for name in names:
            if name not in table.columns:
                raise OptionError(f"tables={{{key!r}: ...}}: the table lacks {name!r}, which the model reads")
            if name != key and name in data.columns:
                raise DataError(f"column {name!r} is in the data and in the table of {key!r}: drop one", column=name)
        new = _checked(key, pa.Table.from_batches(list(table.batches(names))).combine_chunks())
        code = look_up(key, _levels(kept[key]), _levels(new))
        old = kept[key].filter(pc.less(from_numpy(code), 0))
        try:
            both = pa.concat_tables([_plain(new), _plain(old)], promote_options="permissive")
        except pa.ArrowException as error:
            raise DataError(f"the table of {key!r} has other types than in the fit: {error}", column=key) from error
        out[key] = both.combine_chunks()
    return out


def lacking(attributes: Mapping[str, pa.Table], source: Source) -> dict[str, pa.Table]:
    """The attributes that a source lacks, by the keys that it has."""
    found = {}
    for key, table in attributes.items():
        names = [name for name in table.column_names if name == key or name not in source.columns]
        if key in source.columns and len(names) > 1:
            found[key] = table.select(names)
    return found


def with_made_columns(
    source: Source, attributes: Mapping[str, pa.Table], periods: Sequence[Period], fields: Sequence[FieldSpec]
) -> Source:
    """The source with every column that a model makes: attributes by their keys, periods and bags.

    Raises
    ------
    DataError
        While rows are read, too.
    """
    bags = [spec for spec in fields if spec.kind == "bag"]
    for key, table in attributes.items():
        own = open_source(table)
        columns = [name for name in table.column_names if name != key and name not in source.columns]
        own_periods = [one for one in periods if one.column in columns]
        own_bags = [one for one in bags if one.source in columns]
        # made once a level, not once a row
        made = with_bags(with_periods(own, own_periods), own_bags)
        listed = {one.source for one in own_bags}
        names = [name for name in columns if name not in listed]
        names += [*(one.name for one in own_periods), *(one.name for one in own_bags)]
        source = with_columns(source, {name: _looked_up(key, table, made, name) for name in names})
        periods = [one for one in periods if one not in own_periods]
        bags = [one for one in bags if one not in own_bags]
    return with_bags(with_periods(source, periods), bags)


def _looked_up(key: str, table: pa.Table, made: Source, name: str) -> Made:
    """The values of a column of a table for the keys of rows."""
    levels = _levels(table)
    whole = pa.Table.from_batches(list(made.batches([name]))).combine_chunks()
    field, values = whole.schema.field(name), whole.column(0)
    values = values.chunk(0) if values.num_chunks else pa.nulls(0, field.type)
    metadata = field.metadata
    if is_text(values.type):
        values, metadata = values.dictionary_encode(), STORAGE_ORDER

    def take(keys: pa.Array, row: int) -> pa.Array:
        codes, batch = encode_batch(keys, pa.field(key, keys.type), row)
        place = look_up(key, Levels(batch.distinct), levels)
        found = pa.nulls(0, pa.int32()) if not len(place) else from_numpy(place, place >= 0)
        rows = found.take(from_numpy(codes, codes != MISSING)) if len(found) else pa.nulls(len(codes), pa.int32())
        return values.take(rows)

    return Made(key, made.columns[name], take, metadata)


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries, whose order a fitted model does not need."""
    fields = [
        pa.field(one.name, pa.large_string() if is_text(plain_type(one.type)) else plain_type(one.type))
        for one in table.schema
    ]
    return table.cast(pa.schema(fields))


def _levels(table: pa.Table) -> Levels:
    column = table.column(0)
    values = column.chunk(0) if column.num_chunks else pa.nulls(0, column.type)
    return Levels(values.dictionary_decode() if pa.types.is_dictionary(values.type) else values)


def _checked(key: str, table: pa.Table) -> pa.Table:
    levels = _levels(table).values
    if levels.null_count:
        raise DataError(
            f"the table of {key!r} has {levels.null_count:,} rows without a key; leave them out", column=key
        )
    counts = pc.value_counts(levels)
    most = pc.max(counts.field("counts")).as_py() if len(counts) else 1
    if most > 1:
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        raise DataError(
            f"the table of {key!r} has several rows for {len(twice):,} of its keys, such as "
            f"{labels_of(twice[:1])[0]!r}: keep one row a key",
            column=key,
        )
    return table
