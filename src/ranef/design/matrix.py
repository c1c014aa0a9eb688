"""The model matrix of a linear part: learned once on the fit's rows, computed on any rows, named as in R."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import product
from typing import TypeAlias

import msgspec
import numpy as np

from ranef.design.coding import indicator_codes
from ranef.design.columns import (
    Arithmetic,
    BSplines,
    Categories,
    Column,
    Constant,
    Function,
    LevelTest,
    NaturalSplines,
    Polynomial,
    Powers,
    Scaled,
    Truths,
    basis_width,
    check_finite,
    columns_of,
    evaluate,
    evaluate_basis,
    evaluate_codes,
)
from ranef.design.contrasts import contrast_matrix, contrast_suffixes
from ranef.design.learn import learn_variable
from ranef.formula import label, term_label
from ranef.formula.nodes import LinearPart
from ranef.table.kinds import ColumnKind
from ranef.table.table import CodeArray, FloatArray, Table

INTERCEPT = "(Intercept)"

Value: TypeAlias = (
    Column
    | Constant
    | LevelTest
    | Function
    | Arithmetic
    | Scaled
    | Powers
    | Polynomial
    | BSplines
    | NaturalSplines
    | Categories
    | Truths
)


class Variable(msgspec.Struct, frozen=True):
    """What stands between the colons of a term, by its R name."""

    label: str
    value: Value


class TermColumns(msgspec.Struct, frozen=True):
    """The columns ``[start, stop)`` of one term.

    Attributes
    ----------
    label : str
        R's: ``(Intercept)``, ``a``, ``a:b``.
    variables : tuple of int
        Positions in the spec's variables; the term is their product, the first varying fastest. None for the intercept.
    indicators : tuple of bool
        For each variable: a factor has one column per level (True) or contrasts (False).
    start, stop : int
    """

    label: str
    variables: tuple[int, ...]
    indicators: tuple[bool, ...]
    start: int
    stop: int

    @property
    def columns(self) -> slice:
        return slice(self.start, self.stop)


class ModelMatrixSpec(msgspec.Struct, frozen=True, tag="model_matrix"):
    """Everything that turns a table into a model matrix; plain data, exact through JSON.

    Attributes
    ----------
    names : tuple of str, shape (columns,)
        R's column names.
    terms : tuple of TermColumns
        The intercept first, if there is one.
    variables : tuple of Variable
    """

    names: tuple[str, ...]
    terms: tuple[TermColumns, ...]
    variables: tuple[Variable, ...]

    @property
    def factors(self) -> dict[str, tuple[str, ...]]:
        """Labels of the levels used, in order, for every column that is read as a factor term."""
        values = (variable.value for variable in self.variables)
        return {value.column: value.levels for value in values if isinstance(value, Categories)}


def learn(part: LinearPart, table: Table, kinds: Mapping[str, ColumnKind]) -> ModelMatrixSpec:
    """Learn levels, means, knots and coefficients of a linear part.

    Parameters
    ----------
    part : LinearPart
        Terms in R's order.
    table : Table
        The fit's rows, without missing values; holds the columns that :func:`ranef.design.roles.needed` names.
    kinds : mapping of str to {"number", "boolean", "category", "date", "other"}

    Returns
    -------
    ModelMatrixSpec

    Raises
    ------
    FormulaError
        An expression does not fit its place.
    DataError
        A column has the wrong kind, one level only, or values that an operation cannot take.
    """
    expressions = list(dict.fromkeys(factor for term in part.terms for factor in term.factors))
    variables = tuple(Variable(label(one), learn_variable(one, table, kinds)) for one in expressions)
    products = [tuple(expressions.index(factor) for factor in term.factors) for term in part.terms]
    is_factor = [isinstance(variable.value, Categories | Truths) for variable in variables]
    codes = indicator_codes(products, is_factor, part.intercept)
    terms, names = [], []
    if part.intercept:
        terms.append(TermColumns(INTERCEPT, (), (), 0, 1))
        names.append(INTERCEPT)
    for term, positions, indicators in zip(part.terms, products, codes, strict=True):
        start = len(names)
        names += _product_names([_names(variables[v], full) for v, full in zip(positions, indicators, strict=True)])
        terms.append(TermColumns(term_label(term), positions, tuple(indicators), start, len(names)))
    return ModelMatrixSpec(tuple(names), tuple(terms), variables)


def model_matrix(spec: ModelMatrixSpec, table: Table) -> FloatArray:
    """The model matrix of any rows.

    Parameters
    ----------
    spec : ModelMatrixSpec
    table : Table
        Factors may have other levels or another order than in the fit: they are matched by label.

    Returns
    -------
    float64 array, shape (rows, columns), C order
        NaN where a column of the term is missing. The intercept alone is a read-only view of one number.

    Raises
    ------
    LevelError
        A row has a level that was not there in fitting.
    DataError
        An operation cannot take a value, or a column is absent.
    """
    if spec.names == (INTERCEPT,):
        # one number seen from every row: at 25 million rows the column would be 200 MB
        return np.broadcast_to(1.0, (table.rows, 1))
    matrix = np.empty((table.rows, len(spec.names)))
    raw = [_evaluate(variable.value, table) for variable in spec.variables]
    for term in spec.terms:
        factors = [
            _columns(spec.variables[v].value, raw[v], full)
            for v, full in zip(term.variables, term.indicators, strict=True)
        ]
        block = reduce(_product, factors) if factors else np.ones((table.rows, 1))
        if len(factors) > 1 and not np.isfinite(block).all():
            missing = np.logical_or.reduce([np.isnan(factor).any(axis=1) for factor in factors])
            column = next((name for v in term.variables for name in columns_of(spec.variables[v].value)), None)
            check_finite(block, missing[:, None], term.label, column)
        matrix[:, term.columns] = block
    return matrix


def variable_widths(spec: ModelMatrixSpec, term: TermColumns) -> tuple[int, ...]:
    """How many columns each variable of a term has; the term has their product."""
    pairs = zip(term.variables, term.indicators, strict=True)
    return tuple(len(_names(spec.variables[v], full)) for v, full in pairs)


def product_spec(spec: ModelMatrixSpec, term: TermColumns, places: Sequence[int]) -> ModelMatrixSpec:
    """The product of some of a term's variables, a spec of its own; of none it is the intercept.

    Parameters
    ----------
    places : sequence of int
        Among the term's variables, in order.
    """
    if not places:
        return ModelMatrixSpec((INTERCEPT,), (TermColumns(INTERCEPT, (), (), 0, 1),), ())
    chosen = tuple(spec.variables[term.variables[place]] for place in places)
    full = tuple(term.indicators[place] for place in places)
    names = tuple(_product_names([_names(one, all_levels) for one, all_levels in zip(chosen, full, strict=True)]))
    text = ":".join(one.label for one in chosen)
    return ModelMatrixSpec(names, (TermColumns(text, tuple(range(len(chosen))), full, 0, len(names)),), chosen)


def _evaluate(value: Value, table: Table) -> FloatArray | CodeArray:
    """Codes of a factor, shape (rows,), or numbers, shape (rows, columns)."""
    match value:
        case Categories() | Truths():
            return evaluate_codes(value, table)
        case Powers() | Polynomial() | BSplines() | NaturalSplines():
            return evaluate_basis(value, table)
        case _:
            return evaluate(value, table)[:, None]


def _columns(value: Value, raw: FloatArray | CodeArray, full: bool) -> FloatArray:
    if not isinstance(value, Categories | Truths):
        return raw.astype(np.float64, copy=False)
    levels = len(value.levels)
    coding = np.eye(levels) if full else contrast_matrix(value.contrast, levels, value.base)
    # MISSING is -1: the last row
    return np.vstack([coding, np.full(coding.shape[1], np.nan)])[raw.astype(np.int32, copy=False)]


def _product(left: FloatArray, right: FloatArray) -> FloatArray:
    """All products of a column of each, the left one varying fastest."""
    with np.errstate(all="ignore"):
        return (right[:, :, None] * left[:, None, :]).reshape(len(left), -1)


def _names(variable: Variable, full: bool) -> list[str]:
    match variable.value:
        case (Categories() | Truths()) as coded if full:
            return [variable.label + level for level in coded.levels]
        case (Categories() | Truths()) as coded:
            return [variable.label + end for end in contrast_suffixes(coded.contrast, coded.levels, coded.base)]
        case (Powers() | Polynomial() | BSplines() | NaturalSplines()) as basis:
            width = basis_width(basis)
            return [f"{variable.label}{column}" for column in range(1, width + 1)] if width > 1 else [variable.label]
        case _:
            return [variable.label]


def _product_names(names: Sequence[Sequence[str]]) -> Iterator[str]:
    # itertools varies the last fastest
    return (":".join(reversed(parts)) for parts in product(*reversed(names)))
