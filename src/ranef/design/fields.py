"""Factors as a formula writes them, with bags, histories and walks among them: their columns, codes and levels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import pyarrow as pa

from ranef.design.membership import CodeArray, FloatArray, IntArray, Membership, Walk
from ranef.design.periods import Period, period_of
from ranef.design.spec import FieldSpec
from ranef.errors import DataError, FormulaError
from ranef.formula import label
from ranef.formula.latent import owners_of
from ranef.formula.nodes import Call, Expression, Formula, LatentField, Name, RandomTerm, Text
from ranef.storage import MEMORY, Storage
from ranef.table import Combination, Factor, Levels, Source, Table, interaction, used
from ranef.table.arrow import from_texts
from ranef.table.bags import bag_column, split_bags
from ranef.table.encode import look_up
from ranef.table.source import Made, with_columns
from ranef.table.table import UNKNOWN


@dataclass(frozen=True, eq=False)
class FieldDesign:
    """A factor on the fit's rows.

    Attributes
    ----------
    spec : FieldSpec
    codes : int32 array, shape (rows,)
        The unit of each row; units are the levels where there is no membership.
    levels : Levels
        Those that occur, in order.
    combination : Combination or None
        For a product of columns, which of their levels make up each level.
    membership : Membership or None
        The levels of each unit of a bag or history.
    walk : Walk or None
        Where the levels stand in time.
    owners : Levels or None
        Of a history: whose it is, its units.
    """

    spec: FieldSpec
    codes: CodeArray
    levels: Levels
    combination: Combination | None = None
    membership: Membership | None = None
    walk: Walk | None = None
    owners: Levels | None = None

    @property
    def units(self) -> int:
        return len(self.levels) if self.membership is None else self.membership.units


def group_field(term: RandomTerm) -> FieldSpec:
    """The factor right of a bar."""
    return _field(term.group, None)


def side_fields(side: Sequence[LatentField]) -> tuple[FieldSpec, ...]:
    """The factors of a latent term's side."""
    owners = owners_of(tuple(side))
    owner = owners[0].name if owners else None
    return tuple(_field(one.expression, owner) for one in side)


def fields_of(formula: Formula) -> tuple[FieldSpec, ...]:
    """Every factor of a formula's random and latent terms, in the order of first appearance.

    Raises
    ------
    FormulaError
        The same column as two bags that are read or weighted differently.
    """
    found: dict[str, FieldSpec] = {}
    written = [(group_field(term), term.span) for term in formula.random]
    for latent in formula.latent:
        for side in latent.sides:
            written += [(spec, latent.span) for spec in side_fields(side)]
    for spec, span in written:
        if found.setdefault(spec.name, spec) != spec:
            raise FormulaError(
                f"{spec.name} stands here with two separators, scales or weights; a column is one bag.",
                formula.text,
                span.start,
                span.end,
            )
    return tuple(found.values())


def with_bags(source: Source, fields: Iterable[FieldSpec]) -> Source:
    """The source with a column of text for every bag, under the bag's name.

    Raises
    ------
    DataError
        It has a column of such a name already, or the bag's column holds one level a row.
    """
    bags = {spec.name: spec for spec in fields if spec.kind == "bag"}
    for name, spec in bags.items():
        kind = source.columns.get(cast(str, spec.source))
        if kind in ("number", "boolean", "date"):
            raise DataError(
                f"column {spec.source!r} holds {_HOLDS[kind]}, and {name} takes lists of levels, or text that lists "
                f"them; for one level a row write {spec.source} alone",
                column=spec.source,
            )

    def text(spec: FieldSpec) -> Made:
        column = cast(str, spec.source)
        return Made(column, "category", lambda values, row: bag_column(values, column, spec.separator, spec.name, row))

    return with_columns(source, {name: text(spec) for name, spec in bags.items()})


def field_design(spec: FieldSpec, table: Table, periods: Sequence[Period], storage: Storage = MEMORY) -> FieldDesign:
    """The factor on the rows of a table.

    Raises
    ------
    DataError
        The time of a walk has levels without an order.
    """
    if spec.kind == "bag":
        factor = used(table.factors[spec.columns[0]], storage)
        levels, membership = bag_membership(spec, factor.levels)
        return FieldDesign(spec, factor.codes, levels, membership=membership)
    if spec.kind == "history":
        return _history(spec, table, storage)
    factor, combination = _factor(spec.columns, table, storage)
    walk = None
    if spec.kind == "walk":
        walk = walk_of(spec, factor.levels, combination, [table.factors[name].levels for name in spec.columns], periods)
    return FieldDesign(spec, factor.codes, factor.levels, combination, walk=walk)


def bag_membership(spec: FieldSpec, bags: Levels, levels: Levels | None = None) -> tuple[Levels, Membership]:
    """The levels in distinct bags, and their weights.

    Parameters
    ----------
    spec : FieldSpec
    bags : Levels
        The texts that `with_bags` makes.
    levels : Levels, optional
        Of a fitted model: parts that are not among these have the level UNKNOWN, and come first.
    """
    start, part, parts = split_bags(bags.labels)
    count = np.ones(len(part))
    if spec.weights:
        part, parts, count = _own_weights(spec, part, parts)
    found = Levels(parts) if levels is None else levels
    code = part if levels is None else look_up(spec.columns[0], Levels(parts), levels)[part]
    return found, weighted(spec, start, code.astype(np.int32), count)


def _own_weights(spec: FieldSpec, part: CodeArray, parts: pa.Array) -> tuple[CodeArray, pa.Array, FloatArray]:
    """Parts such as ``drama:2`` as their levels, and the weight of each; one where none is written.

    Raises
    ------
    DataError
        A weight is no positive number.
    """
    names, values = [], np.ones(len(parts))
    for place, text in enumerate(parts.to_pylist()):
        name, mark, written = text.rpartition(spec.weights)
        names.append(name.strip() if mark else text)
        if mark:
            try:
                values[place] = float(written)
            except ValueError:
                values[place] = np.nan
        if not (names[-1] and 0 < values[place] < np.inf):
            raise DataError(
                f"column {spec.source!r} holds {text!r}, where {spec.name} has a level, {spec.weights!r} and its "
                f"weight, a positive number, such as drama{spec.weights}2",
                column=spec.source,
            )
    distinct = sorted(set(names))
    known = {name: code for code, name in enumerate(distinct)}
    code_of = np.array([known[name] for name in names], np.int32)
    return code_of[part], from_texts(distinct), values[part]


def walk_of(
    spec: FieldSpec,
    levels: Levels,
    combination: Combination | None,
    column_levels: Sequence[Levels],
    periods: Sequence[Period],
) -> Walk:
    """Where the levels of a factor stand in time.

    Parameters
    ----------
    levels, combination
        Of the factor.
    column_levels : sequence of Levels
        Of its columns, to which the combination refers.
    """
    name = spec.columns[spec.time]
    if combination is None:
        return Walk(np.zeros(len(levels), np.int32), times_of(name, levels, periods))
    time = times_of(name, column_levels[spec.time], periods)[combination.parts[:, spec.time]]
    others = np.delete(combination.parts, spec.time, axis=1)
    _, series = np.unique(others, axis=0, return_inverse=True)
    return Walk(series.reshape(-1).astype(np.int32), time)


def times_of(column: str, levels: Levels, periods: Sequence[Period]) -> FloatArray:
    """The place of each level in time: in periods, in days, as the number it is, or in declared order.

    Raises
    ------
    DataError
        The levels are text or booleans without an order.
    """
    period = next((one for one in periods if one.name == column), None)
    values = levels.values
    if period is not None:
        return period.numbers(levels).astype(np.float64)
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        return np.array(values.cast(pa.float64(), safe=False).to_pylist(), np.float64)
    if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
        ticks = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False).cast(pa.int64())
        return np.array(ticks.to_pylist(), np.float64) / 86_400e6
    if levels.declared:
        return np.arange(len(levels), dtype=np.float64)
    raise DataError(
        f"rw({column}) needs levels with a place in time, and column {column!r} holds "
        f"{'booleans' if pa.types.is_boolean(values.type) else 'text'} without an order, such as "
        f"{levels.labels[0] if len(levels) else ''!r}: convert it to numbers or dates, or to a category whose levels "
        "are declared in order",
        column=column,
    )


_HOLDS = {"number": "numbers", "boolean": "booleans", "date": "dates"}


def _field(factors: Sequence[Expression], owner: str | None) -> FieldSpec:
    match factors:
        case [Call("bag", (inside,), keywords)]:
            options = {name: cast(Text, value).value for name, value in keywords}
            scale = cast(Literal["sqrt", "mean", "sum"], options.get("scale", "sqrt"))
            name = f"bag({label(inside)})"
            if isinstance(inside, Name):
                separator, mark = options.get("sep", "|"), options.get("weights", "")
                return FieldSpec(name, (name,), "bag", inside.name, separator, scale, weights=mark)
            columns = [cast(Name, one).name for one in cast(Call, inside).arguments]
            columns += [owner] if len(columns) == 1 and owner is not None else []
            return FieldSpec(name, tuple(columns), "history", scale=scale)
        case _:
            columns, names, time = [], [], -1
            for place, factor in enumerate(factors):
                walk = isinstance(factor, Call) and factor.function == "rw"
                column = _column(cast(Call, factor).arguments[0] if walk else factor)
                columns.append(column)
                names.append(f"rw({column})" if walk else column)
                time = place if walk else time
            return FieldSpec(":".join(names), tuple(columns), "factor" if time < 0 else "walk", time=time)


def _column(factor: Expression) -> str:
    return period_of(factor).name if isinstance(factor, Call) else cast(Name, factor).name


def _factor(columns: tuple[str, ...], table: Table, storage: Storage) -> tuple[Factor, Combination | None]:
    if len(columns) == 1:
        return used(table.factors[columns[0]], storage), None
    return interaction([table.factors[name] for name in columns], storage)


def _history(spec: FieldSpec, table: Table, storage: Storage) -> FieldDesign:
    """The owner's levels are the units; each has the distinct levels that it has in the rows."""
    own, owner = (used(table.factors[name], storage) for name in spec.columns)
    _, pairs = interaction([owner, own], storage)
    start = np.searchsorted(pairs.parts[:, 0], np.arange(len(owner.levels) + 1)).astype(np.int64)
    level = np.ascontiguousarray(pairs.parts[:, 1])
    membership = weighted(spec, start, level, np.ones(len(level)))
    return FieldDesign(spec, owner.codes, own.levels, membership=membership, owners=owner.levels)


def weighted(spec: FieldSpec, start: IntArray, level: CodeArray, count: FloatArray) -> Membership:
    """The levels of units: those that stand twice put together, and their counts scaled."""
    units = len(start) - 1
    unit = np.repeat(np.arange(units), np.diff(start))
    order = np.lexsort((level, unit))
    unit, level, count = unit[order], level[order], count[order]
    # two unknown levels are not one
    new = np.append(True, (unit[1:] != unit[:-1]) | (level[1:] != level[:-1]) | (level[1:] == UNKNOWN))[: len(unit)]
    place = np.cumsum(new) - 1
    count = np.bincount(place, count, int(new.sum())).astype(np.float64)
    unit, level = unit[new], level[new]
    if spec.scale == "sqrt":
        count = count / np.sqrt(np.bincount(unit, count**2, units))[unit]
    elif spec.scale == "mean":
        count = count / np.bincount(unit, count, units)[unit]
    start = np.concatenate([[0], np.cumsum(np.bincount(unit, minlength=units))]).astype(np.int64)
    return Membership(start, level, count)
