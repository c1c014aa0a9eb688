"""Formula and table to a design: response, fixed part, grouping factors with their covariates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.design.attributes import open_tables, read_attributes, with_made_columns
from ranef.design.columns import Operation, evaluate
from ranef.design.fields import field_design, fields_of, group_field
from ranef.design.latent import LatentDesign, latent_designs
from ranef.design.learn import learn_expression
from ranef.design.matrix import ModelMatrixSpec, learn, model_matrix
from ranef.design.membership import Membership, Walk
from ranef.design.periods import Period, periods_of
from ranef.design.pieces import Derived, Numbers, by_pieces, is_constant
from ranef.design.response import (
    WEIGHTS,
    check_trials,
    check_variation,
    learn_response,
    response_by_pieces,
    response_of,
    response_roles,
    without_intercept,
)
from ranef.design.roles import Roles, needed, require_levels
from ranef.design.rows import (
    Dropped,
    HoldOut,
    Missing,
    complete_and_weighted,
    given_weights,
    numbered_as_in_the_data,
    with_trials,
)
from ranef.design.spec import DesignSpec, FieldSpec, GroupSpec, ResponseKind, TermSpec
from ranef.errors import DataError, OptionError, nearest
from ranef.formula import check_columns, variables
from ranef.formula.nodes import Expression, Formula, Name, RandomTerm, Response
from ranef.storage import MEMORY, Storage
from ranef.table import (
    MISSING_IN_CSV,
    ColumnKind,
    Combination,
    Levels,
    Source,
    Table,
    check_finite,
    read_table,
    text_example,
    unusable,
)

FloatArray = npt.NDArray[np.float64]
CodeArray = npt.NDArray[np.int32]

# Variances of estimates, squared: the response to the fourth power over that of a covariate must fit a float.
LARGEST, SMALLEST = 1e30, 1e-30


@dataclass(frozen=True, eq=False)
class Group:
    """A grouping factor on the fit's rows.

    Attributes
    ----------
    codes : int32 array, shape (rows,)
    levels : Levels
        Those that occur, in order.
    combination : Combination or None
        For a product of columns, which of their levels make up each level.
    covariates : float64 array, shape (rows, coefficients)
    membership : Membership or None
        Of a bag or history: ``codes`` are those of units, and these are the levels of each unit.
    walk : Walk or None
        Where the levels stand in time.
    owners : Levels or None
        Of a history: whose it is, its units.
    """

    codes: CodeArray
    levels: Levels
    combination: Combination | None
    covariates: FloatArray
    membership: Membership | None = None
    walk: Walk | None = None
    owners: Levels | None = None

    def by_unit(self, values: FloatArray) -> FloatArray:
        """What levels have, shape (levels, ...), as what the units of ``codes`` have."""
        return values if self.membership is None else self.membership.sums(values)

    def on_levels(self, values: FloatArray) -> FloatArray:
        """What the solver has, shape (levels, ...): of a walk its increments, as the levels' own."""
        return values if self.walk is None else self.walk.membership.sums(values)


@dataclass(frozen=True, eq=False)
class Design:
    """A compiled formula and what it computes on the fit's rows.

    Attributes
    ----------
    spec : DesignSpec
    y : float64 array, shape (rows,)
        As `ranef.design.response.response_values` gives it.
    x : float64 array, shape (rows, columns of the fixed part)
    groups : tuple of Group
        One for each of ``spec.groups``.
    offset : float64 array, shape (rows,), or None
    weights : float64 array, shape (rows,), or None
        Positive; of a proportion the trials.
    column_levels : mapping of str to Levels
        Levels of every column that is read as a factor, for new data.
    kept : bool array, shape (rows of the data,), or None
        Which rows of the data these are; None if all.
    dropped : Dropped
    empty_categories : tuple of str
        Levels of the response's column that no row of the fit has; they are no categories of the model.
    storage : Storage
        Where the columns live.
    latent : tuple of LatentDesign
        One for each of ``spec.latent``.
    attributes : mapping of str to pyarrow.Table
        By key, the columns that were read from tables of attributes.
    held_out : bool array, shape (rows of the data,), or None
        Rows that are left for validation.
    """

    spec: DesignSpec
    y: FloatArray
    x: FloatArray
    groups: tuple[Group, ...]
    offset: FloatArray | None
    weights: FloatArray | None
    column_levels: Mapping[str, Levels]
    kept: npt.NDArray[np.bool_] | None
    dropped: Dropped
    empty_categories: tuple[str, ...]
    storage: Storage = MEMORY
    latent: tuple[LatentDesign, ...] = ()
    attributes: Mapping[str, pa.Table] = field(default_factory=dict)
    held_out: npt.NDArray[np.bool_] | None = None

    def piece(self, rows: slice) -> Design:
        """Some of the rows; nothing is copied."""
        groups = [replace(one, codes=one.codes[rows], covariates=one.covariates[rows]) for one in self.groups]
        offset = None if self.offset is None else self.offset[rows]
        weights = None if self.weights is None else self.weights[rows]
        latent = tuple(term.piece(rows) for term in self.latent)
        return replace(
            self, y=self.y[rows], x=self.x[rows], groups=tuple(groups), offset=offset, weights=weights, latent=latent
        )


@dataclass(frozen=True, eq=False)
class _Computed:
    """What the compiled formula gives on the complete rows."""

    fixed: ModelMatrixSpec
    x: FloatArray
    offsets: tuple[Operation, ...]
    offset: FloatArray | None
    groups: list[tuple[GroupSpec, Group]]
    latent: tuple[LatentDesign, ...]


def build_design(
    formula: Formula,
    source: Source,
    *,
    weights: str | npt.ArrayLike | None = None,
    offset: str | None = None,
    missing: Missing = "drop",
    kind: ResponseKind = "number",
    storage: Storage = MEMORY,
    tables: Mapping[str, Any] | None = None,
    hold_out: HoldOut | None = None,
) -> Design:
    """Read the columns that a formula needs and compute its design.

    Parameters
    ----------
    formula : Formula
    source : Source
    weights : str or array_like, shape (rows,), optional
        A column's name, or the weights.
    offset : str, optional
        A column's name; added to what ``offset()`` in the formula says.
    missing : {"drop", "raise"}
        What to do with rows that lack a value in any column used.
    kind : {"number", "binary", "proportion", "count", "positive", "ordered"}
        What the family takes as response; see `ranef.design.response`. The trials of ``cbind()`` become the weights.
        An ordered response has no intercept in its fixed part.
    storage : Storage
        Where the columns live.
    tables : mapping of str to table, optional
        From a key, a column of the data, to a table with a row a key, whose columns may stand in the formula.
    hold_out : HoldOut, optional
        Rows to leave out, and to remember.

    Raises
    ------
    FormulaError, DataError, OptionError
    """
    response = response_of(formula, kind)
    opened = open_tables(tables, source)
    check_columns(formula, [*source.columns, *(name for table in opened.values() for name in table.columns)])
    periods, fields = periods_of(formula), fields_of(formula)
    wanted = [*variables(formula), *(one for one in (weights, offset) if isinstance(one, str))]
    attributes = read_attributes(opened, source, wanted, formula.text)
    source = with_made_columns(source, attributes, periods, fields)
    column_weights = weights if isinstance(weights, str) else None
    for option, name in (("weights", column_weights), ("offset", offset)):
        _check_option_column(option, name, source.columns)
    if len(response.expressions) > 1 and weights is not None:
        raise OptionError("cbind(successes, failures) says how many trials a row has: leave the weights out")
    offsets: list[Expression] = [*formula.offsets, *([Name(offset)] if offset else [])]
    numeric = [*offsets, *([Name(column_weights)] if column_weights else [])]
    try:
        roles = _roles(formula, response, kind, numeric, source.columns, fields)
    except DataError as error:
        raise _with_example(error, source) from error
    table = read_table(source, numbers=roles.numbers, factors=roles.factors, storage=storage)
    if table.rows == 0:
        raise DataError("the data have no rows; check how they were read or filtered")
    check_finite(table, sorted(roles.numbers), storage)
    given = given_weights(weights, table, WEIGHTS[kind])
    for name in sorted(roles.numbers):
        _check_size(f"column {name!r}", name, table.numbers[name], storage)
    if given is not None and column_weights is None:
        _check_size("weights", None, given, storage)
    bags = {spec.name for spec in fields if spec.kind == "bag"}
    column_levels = {name: factor.levels for name, factor in table.factors.items() if name not in bags}
    rows = complete_and_weighted(table, given, missing, storage, hold_out)
    del table, given
    kinds = source.columns
    with numbered_as_in_the_data(rows):
        learned = learn_response(response, kind, rows.table, kinds)
        y, trials = response_by_pieces(learned.spec, rows.table, storage)
        check_trials(learned.spec, y, rows.weights)
    if trials is not None:
        rows, y = with_trials(rows, trials, learned.spec.label), y[trials > 0]

    def compute(table: Table) -> _Computed:
        fixed = learn(formula.fixed, table, kinds)
        if kind == "ordered":
            fixed = without_intercept(fixed)
        offset_values = tuple(learn_expression(one, table, kinds) for one in offsets)
        return _Computed(
            fixed=fixed,
            x=by_pieces(partial(model_matrix, fixed), table, storage),
            offsets=offset_values,
            offset=by_pieces(partial(_sum, offset_values), table, storage) if offset_values else None,
            groups=sorted(_groups(formula, table, kinds, periods, storage), key=lambda pair: -len(pair[1].levels)),
            latent=latent_designs(formula, table, periods, storage),
        )

    with numbered_as_in_the_data(rows):
        computed = compute(rows.table)
    check_variation(learned.spec, y)
    _check_sizes(computed, y, storage)
    groups = computed.groups
    spec = DesignSpec(
        formula=formula.text,
        response=learned.spec,
        fixed=computed.fixed,
        groups=tuple(spec for spec, _ in groups),
        offsets=computed.offsets,
        weights=column_weights if column_weights or weights is None else "(array)",
        periods=periods,
        latent=tuple(term.spec for term in computed.latent),
    )
    _check_counts(spec, [group for _, group in groups], rows.table.rows)
    _check_apart(spec, [group for _, group in groups], computed.x)
    return Design(
        spec=spec,
        y=y,
        x=computed.x,
        groups=tuple(group for _, group in groups),
        offset=computed.offset,
        weights=rows.weights,
        column_levels=column_levels,
        kept=rows.kept,
        dropped=rows.dropped,
        empty_categories=learned.empty,
        storage=storage,
        latent=computed.latent,
        attributes=attributes,
        held_out=rows.held_out,
    )


def _with_example(error: DataError, source: Source) -> DataError:
    """The error about a column with the value that makes it text, or with its own type."""
    kind = None if error.column is None else source.columns.get(error.column)
    if error.column is None or kind not in ("category", "other"):
        return error
    if kind == "other":
        return unusable(source, error.column) or error
    found = text_example(source, error.column)
    if found is None:
        return error
    example = f"row {found[0]} holds {found[1]!r}; {MISSING_IN_CSV}"
    return DataError(f"{error} ({example})", column=error.column, row=found[0])


def _roles(
    formula: Formula,
    response: Response,
    kind: ResponseKind,
    numeric: list[Expression],
    kinds: Mapping[str, ColumnKind],
    fields: Sequence[FieldSpec],
) -> Roles:
    parts = [needed(formula.fixed, kinds), response_roles(response, kind, kinds), needed(numeric, kinds)]
    parts += [needed(term.effects, kinds) for term in formula.random]
    grouping = {name for spec in fields for name in spec.columns}
    for name in sorted(grouping):
        require_levels(name, kinds)
    return Roles(
        frozenset().union(*(part.numbers for part in parts)),
        frozenset(grouping).union(*(part.factors for part in parts)),
    )


def _check_option_column(option: str, name: Any, kinds: Mapping[str, ColumnKind]) -> None:
    if name is None:
        return
    if not isinstance(name, str):
        raise OptionError(f"{option} must be the name of a column, not {type(name).__name__}")
    if name not in kinds:
        close = nearest(name, kinds)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"the data have {_quoted(kinds)}"
        raise OptionError(f"{option}={name!r}: there is no such column; {hint}")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _check_sizes(computed: _Computed, y: FloatArray, storage: Storage) -> None:
    """Refuse columns that the formula made too large or too small; their inputs were checked."""
    for name, column in zip(computed.fixed.names, computed.x.T, strict=True):
        _check_size(name, name, column, storage)
    for spec, group in computed.groups:
        for name, column in zip(spec.coefficients, group.covariates.T, strict=True):
            _check_size(f"{name}, which varies with {spec.name},", name, column, storage)
    _check_size("the response", None, y, storage)


def _check_size(what: str, column: str | None, values: FloatArray, storage: Storage) -> None:
    largest, row = 0.0, 0
    for piece in storage.pieces(1 if is_constant(values) else len(values)):
        sizes = np.abs(values[piece])
        top = float(np.fmax.reduce(sizes, initial=0.0))
        if top > largest:
            largest, row = top, piece.start + int(np.argmax(sizes == top))
    if largest == 0 or SMALLEST <= largest <= LARGEST:
        return
    how, remedy = ("large", "divide") if largest > LARGEST else ("small", "multiply")
    raise DataError(
        f"{what} has numbers too {how} to compute with: its largest is {largest:.3g}, and {SMALLEST:g} to {LARGEST:g} "
        f"is what their squares allow; {remedy} it by a power of ten",
        column=column,
        row=row,
    )


def _sum(values: Sequence[Operation], table: Table) -> FloatArray:
    return np.asarray(np.sum([evaluate(value, table) for value in values], axis=0))


def _side_by_side(parts: Sequence[ModelMatrixSpec], table: Table) -> FloatArray:
    matrices = [model_matrix(part, table) for part in parts]
    return matrices[0] if len(matrices) == 1 else np.concatenate(matrices, axis=1)


def _groups(
    formula: Formula, table: Table, kinds: Mapping[str, ColumnKind], periods: Sequence[Period], storage: Storage
) -> list[tuple[GroupSpec, Group]]:
    """All terms on one factor merged into one group, in order of first appearance."""
    by_factor: dict[FieldSpec, list[RandomTerm]] = {}
    for term in formula.random:
        by_factor.setdefault(group_field(term), []).append(term)
    out = []
    for factor, terms in by_factor.items():
        found = field_design(factor, table, periods, storage)
        specs: list[TermSpec] = []
        at = 0
        for term in terms:
            effects = learn(term.effects, table, kinds)
            specs.append(TermSpec(term.text, term.covariance, effects, at))
            at += len(effects.names)
        covariates = by_pieces(partial(_side_by_side, [term.effects for term in specs]), table, storage)
        spec = GroupSpec(factor.name, factor.columns, tuple(specs), None if factor.kind == "factor" else factor)
        parts = (found.codes, found.levels, found.combination)
        group = Group(*parts, covariates, found.membership, found.walk, found.owners)
        out.append((spec, group))
    return out


def _check_counts(spec: DesignSpec, groups: list[Group], rows: int) -> None:
    """lme4's rules for what can be told apart, from the residual where there is one."""
    for group_spec, group in zip(spec.groups, groups, strict=True):
        levels, name = len(group.levels), group_spec.name
        if levels < 2:
            raise DataError(
                f"grouping factor {name!r} has one level, {group.levels.labels[0]!r}: a variance between levels needs "
                "at least two; drop the term",
                column=group_spec.columns[0],
            )
        if spec.kind != "number" or group.walk is not None:  # a walk and noise differ in how they hang together
            continue
        if levels >= rows:
            raise DataError(
                f"grouping factor {name!r} has {levels:,} levels in {rows:,} rows: with one row a level its effects "
                "cannot be told from the residual; use a coarser factor or drop the term",
                column=group_spec.columns[0],
            )
        for term in group_spec.terms:
            if levels * term.size >= rows:
                raise DataError(
                    f"the term {term.text} has {levels * term.size:,} random effects ({term.size} for each of "
                    f"{levels:,} levels) but there are only {rows:,} rows: they cannot be told from the residual; "
                    "drop some of its slopes",
                    column=group_spec.columns[0],
                )


def _check_apart(spec: DesignSpec, groups: list[Group], x: FloatArray) -> None:
    """A random effect that the fixed effects can reproduce leaves nothing to learn its variance from."""
    from ranef.design.rank import independent, triangle  # SciPy, which predictions do without

    thresholds = 1 if spec.kind == "ordered" else 0  # they are its intercept
    p = x.shape[1] + thresholds
    small = [pair for pair in zip(spec.groups, groups, strict=True) if len(pair[1].levels) <= p]
    if p >= len(x) or not small:
        return
    beside = [np.broadcast_to(1.0, (len(x), thresholds)), x]
    for group_spec, group in small:
        for name, covariate in zip(group_spec.coefficients, group.covariates.T, strict=True):
            by_level = Derived((len(x), len(group.levels)), partial(_by_level, group, covariate))
            if max(independent(triangle([*beside, by_level])), default=-1) < p:
                raise DataError(
                    f"the fixed effects already give every level of grouping factor {group_spec.name!r} its own "
                    f"{name}, so nothing is left to learn a variance from: drop the factor from the fixed part, or "
                    "drop the random effect",
                    column=group_spec.columns[0],
                )


def _by_level(group: Group, covariate: FloatArray, rows: Numbers) -> FloatArray:
    """A covariate in one column for each level."""
    codes = group.codes[rows]
    if group.membership is not None:
        return np.asarray(group.membership.sums(np.eye(len(group.levels)))[codes] * covariate[rows][:, None])
    out = np.zeros((len(codes), len(group.levels)))
    out[np.arange(len(codes)), codes] = covariate[rows]
    return out
