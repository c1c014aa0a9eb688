"""The two sides of a pair: which columns of a model belong to the entity, which to the target, and their rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.artifact.model import Model
from ranef.design.attributes import joined_attributes, open_tables, read_attributes, with_made_columns
from ranef.design.spec import FieldSpec
from ranef.errors import OptionError
from ranef.score.latent import latent_columns
from ranef.score.rows import covariate_columns, extended
from ranef.score.select import select
from ranef.table import UNKNOWN, Factor, Levels, Table, open_source, read_table
from ranef.table.arrow import from_numpy
from ranef.table.encode import look_up

Side: TypeAlias = Literal["entity", "target"]


@dataclass(frozen=True, eq=False)
class Columns:
    """Where the columns of a model come from when pairs are made of two factors.

    Attributes
    ----------
    entity, target : str
        The two factors' columns.
    side : mapping of str to {"entity", "target", "context"}
        Of every column that the model reads, made ones (bags, periods) too.
    attributes : mapping of str to pyarrow.Table
        By key.
    context : mapping of str to object
        Values that all pairs have.
    """

    entity: str
    target: str
    side: Mapping[str, str]
    attributes: Mapping[str, pa.Table]
    context: Mapping[str, Any]

    def of(self, names: Collection[str]) -> Side | None:
        """The side that some columns belong to, with the context or without; None if they belong to both.

        The context alone belongs to the entity.
        """
        found = {self.side[name] for name in names} - {"context"}
        if len(found) > 1:
            return None
        return "target" if "target" in found else "entity"

    def key(self, side: Side) -> str:
        return self.entity if side == "entity" else self.target


@dataclass(frozen=True, eq=False)
class SideRows:
    """The levels of one side as rows.

    Attributes
    ----------
    factors : mapping of str to Factor
        As they were read.
    table : Table
        The columns of covariates; factors hold the levels of the fit first.
    """

    factors: Mapping[str, Factor]
    table: Table

    @property
    def rows(self) -> int:
        return self.table.rows


def columns_of_pairs(
    model: Model, entity: str, target: str, tables: Mapping[str, Any] | None, context: Mapping[str, Any] | None
) -> Columns:
    """Find a side for every column that the model reads.

    Parameters
    ----------
    model : Model
    entity, target : str
    tables : mapping of str to table, or None
        Attributes by key, in the place of those that the model keeps or beside them.
    context : mapping of str to object, or None
        Values of columns that belong to neither, such as the hour.

    Raises
    ------
    OptionError
        Nothing gives a column, or an option is wrong.
    DataError
        A table is wrong.
    """
    if context is not None and not (isinstance(context, Mapping) and all(isinstance(name, str) for name in context)):
        raise OptionError('context= is a mapping from a column to the value that all pairs have, as {"hour": 8}')
    given = dict(context or {})
    made = {one.name: one.column for one in model.spec.periods}
    made |= {one.columns[0]: str(one.source) for one in fields_of_model(model) if one.kind == "bag"}
    needed = _needed(model)
    wanted = {made.get(name, name) for name in needed}
    keys = open_source({name: pa.nulls(0, pa.int64()) for name in dict.fromkeys([entity, target, *given])})
    opened = open_tables(tables, keys)
    attributes = joined_attributes(
        model.attributes, {key: one for key, one in opened.items() if key in model.attributes}, keys
    )
    new = {key: one for key, one in opened.items() if key not in model.attributes}
    attributes |= read_attributes(new, keys, wanted, model.spec.formula)
    side: dict[str, str] = {}
    for name in sorted(needed):
        found = _side(made.get(name, name), entity, target, attributes, given)
        if found is None:
            base = made.get(name, name)
            raise OptionError(
                f"the model reads {base!r}, which is no attribute of {entity!r} or {target!r} that it keeps: give "
                f"tables={{{entity!r}: ...}} or tables={{{target!r}: ...}} a table that has it, or "
                f"context={{{base!r}: ...}} the value that holds for all pairs"
            )
        side[name] = found
    unused = sorted(set(given) - wanted)
    if unused:
        raise OptionError(f"context={{{unused[0]!r}: ...}}: the model reads {', '.join(sorted(wanted))}, and not this")
    return Columns(entity, target, side, attributes, given)


def fields_of_model(model: Model) -> list[FieldSpec]:
    """Every factor with more structure, and those of latent terms."""
    fields = [spec.field for spec in model.spec.groups if spec.field is not None]
    return fields + [one for term in model.spec.latent for side in term.sides for one in side]


def side_levels(model: Model, columns: Columns, side: Side) -> tuple[Levels, npt.NDArray[np.bool_]]:
    """The levels of a side: those of the model's column, then those that only a table of attributes has.

    Returns
    -------
    levels : Levels
    known : bool array, shape (levels,)
        Whether some part of the model has effects or a vector of the level.
    """
    key = columns.key(side)
    levels = model.column_levels.get(key, Levels(pa.nulls(0, pa.int64())))
    table = columns.attributes.get(key)
    values = levels.values
    if table is not None:
        own = table.column(0).combine_chunks()
        own = own.dictionary_decode() if pa.types.is_dictionary(own.type) else own
        if len(levels):
            own = own.take(from_numpy(np.flatnonzero(look_up(key, Levels(own), levels) == UNKNOWN)))
            try:
                values = pa.concat_arrays([values, own.cast(values.type)])
            except pa.ArrowInvalid as error:
                raise OptionError(
                    f"the table of {key!r} has new levels that are no {values.type}, the type of the fit's ({error})"
                ) from error
        else:
            values = own
    known = np.zeros(len(values), np.bool_)
    for learned in _levels_by_column(model, key):
        known |= look_up(key, Levels(values), learned) >= 0
    return Levels(values, levels.ordered, levels.declared), known


def side_rows(model: Model, columns: Columns, side: Side, levels: Levels, unknown: int) -> SideRows:
    """The levels of a side as rows of the model's columns, and then ``unknown`` rows of the first levels with the level
    itself unknown: what their attributes alone say.

    Raises
    ------
    LevelError, DataError
        As in predictions.
    """
    key = columns.key(side)
    values = pa.concat_arrays([levels.values, levels.values.slice(0, unknown)])
    own = {name for name, where in columns.side.items() if where in (side, "context")}
    numbers, covariates = covariate_columns(model.spec, select(model.spec))
    factors = (covariates | _grouping(model)) & own
    made = {one.name: one.column for one in model.spec.periods}
    bags = [one for one in fields_of_model(model) if one.kind == "bag" and one.columns[0] in own]
    periods = [one for one in model.spec.periods if one.name in own]
    bases = {made.get(name, name) for name in own} | {str(one.source) for one in bags}
    context = {name: _repeated(value, len(values)) for name, value in columns.context.items() if name in bases}
    source = open_source({key: values, **context})
    # a table that another one leads to comes after it
    attributes = {
        name: table
        for name, table in columns.attributes.items()
        if name == key or (name in columns.side and columns.side[name] == side)
    }
    attributes = dict(sorted(attributes.items(), key=lambda item: item[0] != key))
    source = with_made_columns(source, attributes, periods, bags)
    raw = read_table(source, numbers=[name for name in numbers if name in own], factors=sorted(factors | {key}))
    read = dict(raw.factors)
    if unknown:
        codes = read[key].codes.copy()
        codes[len(levels) :] = UNKNOWN
        read[key] = Factor(codes, read[key].levels)
    table = {name: extended(name, read[name], model.column_levels[name]) for name in sorted(covariates & own)}
    return SideRows(read, Table(len(values), raw.numbers, table))


def _needed(model: Model) -> set[str]:
    numbers, covariates = covariate_columns(model.spec, select(model.spec))
    return set(numbers) | covariates | _grouping(model)


def _grouping(model: Model) -> set[str]:
    """Columns that say of which levels a row is."""
    names = set(latent_columns(model, range(len(model.spec.latent))))
    for spec in model.spec.groups:
        # of a history, whose it is: its levels are the model's
        names |= set(spec.columns[-1:] if spec.kind == "history" else spec.columns)
    return names


def _side(
    name: str, entity: str, target: str, attributes: Mapping[str, pa.Table], context: Mapping[str, Any]
) -> str | None:
    if name == entity:
        return "entity"
    if name == target:
        return "target"
    if name in context:
        return "context"
    for key, table in attributes.items():
        if name != key and name in table.column_names:
            return _side(key, entity, target, attributes, context)
    return None


def _levels_by_column(model: Model, column: str) -> list[Levels]:
    """The levels of one column that grouping factors and factors of latent terms have."""
    found = []
    for spec, group in zip(model.spec.groups, model.groups, strict=True):
        if spec.kind == "history":
            found += [group.owners] if spec.columns[-1] == column and group.owners is not None else []
        elif spec.columns == (column,) and spec.kind != "bag":
            found.append(group.levels)
        elif group.combination is not None and column in spec.columns:
            met = np.unique(group.combination.parts[:, spec.columns.index(column)])
            found.append(Levels(model.column_levels[column].values.take(from_numpy(met))))
    for term, learned in zip(model.spec.latent, model.latent, strict=True):
        for fields, models in zip(term.sides, learned.sides, strict=True):
            for field, own in zip(fields, models, strict=True):
                if field.kind == "history" and field.columns[-1] == column and own.owners is not None:
                    found.append(own.owners)
                elif field.columns == (column,) and field.kind != "bag":
                    found.append(own.levels)
    return found


def _repeated(value: Any, rows: int) -> pa.Array:
    """A column that holds one value."""
    try:
        one = pa.array([value])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise OptionError(f"context=: {value!r} is no value of a column ({error})") from error
    return one.take(from_numpy(np.zeros(rows, np.int64)))
