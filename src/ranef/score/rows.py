"""New rows as the model sees them: levels matched by value, then covariates batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.artifact.latent import FieldModel
from ranef.artifact.model import FloatArray, Model
from ranef.design.attributes import joined_attributes, open_tables, with_made_columns
from ranef.design.columns import Column, Operation, evaluate, leaves
from ranef.design.matrix import Value, model_matrix
from ranef.design.response import response_columns, response_values
from ranef.design.spec import DesignSpec, FieldSpec, GroupSpec
from ranef.errors import DataError, counted
from ranef.score.latent import TermRows, field_rows, latent_columns
from ranef.score.select import Selection
from ranef.score.units import Units, units_of
from ranef.table import (
    MISSING,
    UNKNOWN,
    CodeArray,
    Factor,
    Levels,
    Source,
    Table,
    encode_combination,
    from_numpy,
    labels_of,
    read_table,
)
from ranef.table.arrow import from_texts
from ranef.table.bags import BETWEEN
from ranef.table.encode import EncodedBatch, merge
from ranef.table.kinds import common_type

T = TypeVar("T")


class Unknown(NamedTuple):
    """Rows whose level of a grouping factor the model has not seen: how many, the first, and its level as text."""

    rows: int
    first: int
    label: str


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of new data.

    Attributes
    ----------
    table : Table
        The columns of the covariates. Factors hold the levels of the fit, then those that are new.
    codes : mapping of int to int32 array, shape (rows,)
        For each grouping factor that takes part, by its place in the model: codes into its `GroupModel.levels`,
        MISSING or UNKNOWN; or into its units.
    units : mapping of int to Units
        Of bags, histories and walks.
    unknown : mapping of str to Unknown
        By name of the grouping factor; those with unknown levels only.
    weights : float64 array, shape (rows,), or None
        Trials of ``cbind()``. None where they were not asked for, or the data have no such column.
    latent : mapping of int to TermRows
        The latent terms that take part, by place in the model.
    """

    table: Table
    codes: Mapping[int, CodeArray]
    units: Mapping[int, Units]
    unknown: Mapping[str, Unknown]
    weights: FloatArray | None
    latent: Mapping[int, TermRows] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class GroupBatch:
    """One grouping factor on a batch of rows.

    Attributes
    ----------
    group : int
        Its place in the model.
    coefficients : int64 array, shape (k,)
        Which of a level's coefficients take part.
    codes : int32 array, shape (rows,)
    covariates : float64 array, shape (rows, k)
    units : Units or None
        If there are any, ``codes`` are theirs.
    """

    group: int
    coefficients: npt.NDArray[np.int64]
    codes: CodeArray
    covariates: FloatArray
    units: Units | None = None

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether a row has a level, or a unit; shape (rows,)."""
        return self.codes >= 0

    def by_code(self, values: FloatArray) -> FloatArray:
        """What levels have, shape (levels, ...), as what ``codes`` have."""
        return values if self.units is None else self.units.membership.sums(values)

    @property
    def surplus(self) -> FloatArray:
        """Variance that the known levels of a row do not explain, over that of a level; shape (rows,)."""
        if self.units is None:
            return np.where(self.codes == UNKNOWN, 1.0, 0.0)
        return np.append(self.units.surplus, 0.0)[self.codes]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some of the rows; NaN where a covariate is missing.

    Attributes
    ----------
    rows : int64 array, shape (rows,)
        Their places in the data.
    x : float64 array, shape (rows, p), or None
        Columns of the estimated fixed effects; None if the fixed part takes no part.
    offset : float64 array, shape (rows,), or None
    groups : tuple of GroupBatch
    """

    rows: npt.NDArray[np.int64]
    x: FloatArray | None
    offset: FloatArray | None
    groups: tuple[GroupBatch, ...]


def read_rows(
    model: Model,
    source: Source,
    selection: Selection,
    weights: bool = False,
    tables: Mapping[str, Any] | None = None,
) -> Rows:
    """Read the columns that the selected parts need, and no other.

    Parameters
    ----------
    model : Model
    source : Source
    selection : Selection
    weights : bool
        Read the column of the fit's weights too, if there is one, and what says the trials of a proportion.
    tables : mapping of str to table, optional
        Attributes of levels that the model does not have, or other ones, by key.

    Raises
    ------
    OptionError
        A column is not in the data.
    DataError
        A column has another type than in the fit, or a weight is negative or infinite.
    """
    numbers, covariates = covariate_columns(model.spec, selection)
    response = model.spec.response
    of_trials = response_columns(response).numbers if weights and response.failures is not None else frozenset()
    numbers += sorted(of_trials.difference(numbers))
    active = [g for g, terms in enumerate(selection.terms) if terms]
    grouping = {name for g in active for name in model.spec.groups[g].columns}
    weight = model.spec.weights if weights and model.spec.weights in source.columns else None
    numbers += [weight] if weight and weight not in numbers else []
    attributes = joined_attributes(model.attributes, open_tables(tables, source), source)
    fields = [spec.field for spec in model.spec.groups if spec.field is not None]
    fields += [one for t in selection.latent for side in model.spec.latent[t].sides for one in side]
    grouping |= latent_columns(model, selection.latent)
    source = with_made_columns(source, attributes, model.spec.periods, fields)
    raw = read_table(source, numbers=numbers, factors=sorted(covariates | grouping))
    codes, units, unknown = dict[int, CodeArray](), dict[int, Units](), dict[str, Unknown]()
    for g in active:
        spec = model.spec.groups[g]
        codes[g], own = group_codes(model, g, raw.factors)
        new = codes[g] == UNKNOWN
        if own is not None:
            units[g] = own
            new = np.append(own.new, False)[codes[g]]
        if new.any():
            row = int(np.argmax(new))
            unknown[spec.name] = Unknown(
                int(np.count_nonzero(new)), row, _what(spec, [raw.factors[name] for name in spec.columns], row)
            )
    latent = {t: _latent_rows(model, t, raw, unknown) for t in selection.latent}
    factors = {name: extended(name, raw.factors[name], model.column_levels[name]) for name in sorted(covariates)}
    given = None if weight is None else _weights(weight, raw.numbers[weight])
    if of_trials:
        given = response_values(response, raw)[1]
    return Rows(Table(raw.rows, raw.numbers, factors), codes, units, unknown, given, latent)


def group_codes(model: Model, group: int, factors: Mapping[str, Factor]) -> tuple[CodeArray, Units | None]:
    """The level of each row of a grouping factor, MISSING or UNKNOWN where it has none of the model's; or its unit, and
    the units, of bags, histories and walks.

    Parameters
    ----------
    model : Model
    group : int
        Its place in the model.
    factors : mapping of str to Factor
        Its columns, levels as they are in the data.
    """
    spec, learned = model.spec.groups[group], model.groups[group]
    if spec.field is not None:
        return units_of(spec.field, learned, factors, model.column_levels, model.spec.periods)
    if learned.combination is None:
        return match(spec.name, factors[spec.columns[0]], learned.levels), None
    own = [match(name, factors[name], model.column_levels[name]) for name in spec.columns]
    return encode_combination(own, learned.combination), None


def field_codes(model: Model, spec: FieldSpec, field: FieldModel, factors: Mapping[str, Factor]) -> CodeArray:
    """The level of each row of a factor of a latent term, as `field_rows` takes it."""
    if field.combination is not None:
        own = [match(name, factors[name], model.column_levels[name]) for name in spec.columns]
        return encode_combination(own, field.combination)
    name = spec.columns[-1] if spec.kind == "history" else spec.columns[0]
    if spec.kind == "bag":
        return factors[name].codes
    return match(name, factors[name], field.levels if field.owners is None else field.owners)


def _latent_rows(model: Model, place: int, raw: Table, unknown: dict[str, Unknown]) -> TermRows:
    """A latent term on the rows; ``unknown`` is added to."""
    sides = []
    for specs, fields in zip(model.spec.latent[place].sides, model.latent[place].sides, strict=True):
        side = []
        for spec, own in zip(specs, fields, strict=True):
            codes = field_codes(model, spec, own, raw.factors)
            new = codes == UNKNOWN
            if spec.kind in ("factor", "walk") and spec.name not in unknown and new.any():
                row = int(np.argmax(new))
                label = _label([raw.factors[one] for one in spec.columns], row)
                unknown[spec.name] = Unknown(int(np.count_nonzero(new)), row, label)
            side.append(field_rows(spec, own, raw, codes))
        sides.append(tuple(side))
    return tuple(sides)


def _weights(column: str, values: FloatArray) -> FloatArray:
    bad = (values < 0) | np.isinf(values)
    if bad.any():
        row, count = int(np.argmax(bad)), int(np.count_nonzero(bad))
        raise DataError(
            f"column {column!r} has {counted(count, 'negative or infinite weight')}, the first in row {row} "
            f"({values[row]:g}), and the variance of a new response is sigma^2 / weight: correct them, or leave the "
            "column out for weight 1",
            column=column,
            row=row,
            count=count,
        )
    return values


def batches(
    model: Model, rows: Rows, selection: Selection, size: int, order: npt.NDArray[np.int64] | None = None
) -> Iterator[Batch]:
    """The covariates of at most ``size`` rows at a time.

    Parameters
    ----------
    model : Model
    rows : Rows
    selection : Selection
    size : int
    order : int64 array, shape (rows,), optional
        The order to take the rows in; default: as they come.

    Raises
    ------
    LevelError
        A covariate has a level that was not there in fitting.
    DataError
        An operation of the formula cannot take a value.
    """
    spec, kept = model.spec, list(model.fixed_columns)
    coefficients = {
        g: np.concatenate([np.arange(t.start, t.start + t.size) for t in (spec.groups[g].terms[i] for i in chosen)])
        for g, chosen in enumerate(selection.terms)
        if chosen
    }

    def fixed(table: Table) -> FloatArray:
        matrix = model_matrix(spec.fixed, table)
        return matrix if len(kept) == matrix.shape[1] else matrix[:, kept]

    def offset(table: Table) -> FloatArray:
        total: FloatArray = np.sum([evaluate(cast(Operation, value), table) for value in spec.offsets], axis=0)
        return total

    def effects(group: int) -> Callable[[Table], FloatArray]:
        terms = [spec.groups[group].terms[i].effects for i in selection.terms[group]]
        return lambda table: np.concatenate([model_matrix(one, table) for one in terms], axis=1)

    order = np.arange(rows.table.rows) if order is None else order
    for start in range(0, rows.table.rows, size):
        chosen = order[start : start + size]
        part = rows.table.take(chosen)

        def on_part(compute: Callable[[Table], T], part: Table = part) -> T:
            try:
                return compute(part)
            except DataError:
                compute(rows.table)  # the same error, with the row and the count in the whole data
                raise

        yield Batch(
            chosen,
            on_part(fixed) if selection.fixed else None,
            on_part(offset) if selection.fixed and spec.offsets else None,
            tuple(
                GroupBatch(g, coefficients[g], codes[chosen], on_part(effects(g)), rows.units.get(g))
                for g, codes in rows.codes.items()
            ),
        )


def with_units_met(batch: Batch) -> Batch:
    """The batch with no other units than its rows have."""
    groups = []
    for group in batch.groups:
        if group.units is None:
            groups.append(group)
            continue
        met, codes = np.unique(group.codes, return_inverse=True)
        missing = int(met[:1].min(initial=0) < 0)
        places = (codes.reshape(-1) - missing).astype(np.int32)
        groups.append(replace(group, codes=places, units=group.units.take(met[missing:])))
    return replace(batch, groups=tuple(groups))


def match(column: str, factor: Factor, levels: Levels) -> CodeArray:
    """Codes of a factor's rows into other levels, by value; UNKNOWN where they lack it.

    Parameters
    ----------
    column : str
        For messages.
    factor : Factor
    levels : Levels

    Returns
    -------
    int32 array, shape (rows,)

    Raises
    ------
    DataError
        The levels are of types that cannot be compared, such as text and booleans.
    """
    # the codes UNKNOWN and MISSING index the lookup from its end
    return np.append(_lookup(column, factor.levels, levels), np.array([UNKNOWN, MISSING], np.int32))[factor.codes]


def _lookup(column: str, own: Levels, levels: Levels) -> CodeArray:
    each = EncodedBatch(len(own), own.values, False, False, own.values.type)
    return merge(column, np.arange(len(own), dtype=np.int32), [each], levels).codes


def extended(column: str, factor: Factor, levels: Levels) -> Factor:
    """A column's factor with the levels of the fit first and its own new ones behind, so that errors can name these."""
    lookup = _lookup(column, factor.levels, levels)
    new = lookup == UNKNOWN
    values = levels.values
    if new.any():
        lookup[new] = len(levels) + np.arange(np.count_nonzero(new), dtype=np.int32)
        added = factor.levels.values.take(from_numpy(np.flatnonzero(new)))
        dtype = common_type([values.type, added.type]) if len(levels) else added.type
        if dtype is None:  # matched by label, see `merge`
            dtype, values, added = pa.large_string(), from_texts(levels.labels), from_texts(labels_of(added))
        values = pa.concat_arrays([values.cast(dtype, safe=False), added.cast(dtype, safe=False)])
    codes = np.append(lookup, np.array([UNKNOWN, MISSING], np.int32))[factor.codes]
    return Factor(codes, Levels(values, levels.ordered, levels.declared))


def _what(spec: GroupSpec, factors: list[Factor], row: int) -> str:
    """What a row has of a grouping factor, as text."""
    if spec.kind == "bag" and spec.field is not None:
        return _label(factors, row).replace(BETWEEN, spec.field.separator)
    return _label(factors[1:] if spec.kind == "history" else factors, row)


def _label(factors: list[Factor], row: int) -> str:
    return ":".join(labels_of(factor.levels.values.slice(factor.codes[row], 1))[0] for factor in factors)


def covariate_columns(spec: DesignSpec, selection: Selection) -> tuple[list[str], set[str]]:
    """Columns that the selected covariates read as numbers, and as factors."""
    parts = [spec.groups[g].terms[t].effects for g, terms in enumerate(selection.terms) for t in terms]
    if selection.fixed:
        parts.append(spec.fixed)
    values: list[Value] = [variable.value for part in parts for variable in part.variables]
    values += spec.offsets if selection.fixed else ()
    numbers: set[str] = set()
    factors: set[str] = set()
    for value in values:
        for leaf in leaves(value):
            if isinstance(leaf, Column):
                numbers.add(leaf.name)
            else:
                factors.add(leaf.column)
    return sorted(numbers), factors
