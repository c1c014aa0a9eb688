"""Column operations: what the fit has learned about each column, as plain data that JSON can hold.

An `Operation` gives one column of numbers, a `Basis` several, a `Coded` the level of every row. They are evaluated on
any table; nothing in them is code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.design.contrasts import Contrast
from ranef.design.polynomials import orthonormal_polynomials
from ranef.design.splines import bspline_basis, natural_basis
from ranef.errors import DataError, LevelError
from ranef.table.table import MISSING, UNKNOWN, CodeArray, Factor, FloatArray, Table

FunctionName: TypeAlias = Literal[
    "+", "-", "!", "log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "as.numeric"
]
OperatorName: TypeAlias = Literal["+", "-", "*", "/", "^", "%%", "%/%", "==", "!=", "<", "<=", ">", ">=", "&", "|"]


class Column(msgspec.Struct, frozen=True, tag="column"):
    """A column as numbers."""

    name: str


class Constant(msgspec.Struct, frozen=True, tag="constant"):
    value: float


class LevelTest(msgspec.Struct, frozen=True, tag="level"):
    """1 where a categorical column has the level (``equal``) or has another one (not ``equal``), else 0."""

    column: str
    level: str
    equal: bool


class Function(msgspec.Struct, frozen=True, tag="function"):
    function: FunctionName
    argument: Operation
    label: str


class Arithmetic(msgspec.Struct, frozen=True, tag="arithmetic"):
    operator: OperatorName
    left: Operation
    right: Operation
    label: str


class Scaled(msgspec.Struct, frozen=True, tag="scale"):
    """``(argument - center) / scale``."""

    argument: Operation
    center: float
    scale: float
    label: str


class Powers(msgspec.Struct, frozen=True, tag="powers"):
    """``argument`` to the powers 1 ... degree: ``poly(x, degree, raw=TRUE)``."""

    argument: Operation
    degree: int
    label: str


class Polynomial(msgspec.Struct, frozen=True, tag="poly"):
    """Orthonormal polynomials by their recurrence."""

    argument: Operation
    alpha: tuple[float, ...]
    norm2: tuple[float, ...]
    label: str


class BSplines(msgspec.Struct, frozen=True, tag="bs"):
    """B-splines of a full knot vector from number ``first`` (0 or 1) on."""

    argument: Operation
    knots: tuple[float, ...]
    degree: int
    first: int
    label: str


class NaturalSplines(msgspec.Struct, frozen=True, tag="ns"):
    """Cubic B-splines of a full knot vector times ``projection``, shape (splines used, columns)."""

    argument: Operation
    knots: tuple[float, ...]
    projection: tuple[tuple[float, ...], ...]
    label: str


class Categories(msgspec.Struct, frozen=True, tag="categories"):
    """A categorical column; ``levels`` are the labels that occurred in the fit, in order; ``base`` counts from 0."""

    column: str
    levels: tuple[str, ...]
    contrast: Contrast
    base: int


class Truths(msgspec.Struct, frozen=True, tag="truths"):
    """A comparison or logical expression as a factor with the levels FALSE and TRUE."""

    argument: Operation
    contrast: Contrast
    base: int

    @property
    def levels(self) -> tuple[str, ...]:
        return ("FALSE", "TRUE")


Operation: TypeAlias = Column | Constant | LevelTest | Function | Arithmetic | Scaled
Basis: TypeAlias = Powers | Polynomial | BSplines | NaturalSplines
Coded: TypeAlias = Categories | Truths

COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
LOGIC = frozenset({"&", "|"})

_FUNCTIONS: Mapping[str, Callable[[FloatArray], Any]] = {
    "+": np.positive,
    "-": np.negative,
    "!": lambda x: x == 0,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "exp": np.exp,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "as.numeric": np.positive,
}
_OPERATORS: Mapping[str, Callable[[FloatArray, FloatArray], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "^": np.power,
    "%%": np.mod,
    "%/%": np.floor_divide,
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "&": lambda x, y: (x != 0) & (y != 0),
    "|": lambda x, y: (x != 0) | (y != 0),
}
_NEEDS: Mapping[str, str] = {
    "log": "a logarithm needs numbers above 0",
    "log2": "a logarithm needs numbers above 0",
    "log10": "a logarithm needs numbers above 0",
    "log1p": "log1p needs numbers above -1",
    "sqrt": "a square root needs numbers of at least 0",
    "/": "a divisor must not be 0",
    "%%": "a divisor must not be 0",
    "%/%": "a divisor must not be 0",
    "^": "0 has no negative power, a negative number only whole powers, and the result must fit a float",
}


def is_truth(operation: Operation) -> bool:
    """Whether an operation gives FALSE and TRUE rather than numbers."""
    match operation:
        case LevelTest():
            return True
        case Function(function=function):
            return function == "!"
        case Arithmetic(operator=operator):
            return operator in COMPARISONS or operator in LOGIC
        case _:
            return False


def columns_of(value: Operation | Basis | Coded) -> Iterator[str]:
    """The columns that a value reads, from left to right."""
    for leaf in leaves(value):
        yield leaf.name if isinstance(leaf, Column) else leaf.column


def leaves(value: Operation | Basis | Coded) -> Iterator[Column | LevelTest | Categories]:
    """The parts of a value that read a column, from left to right."""
    match value:
        case Column() | LevelTest() | Categories():
            yield value
        case Constant():
            return
        case Arithmetic(left=left, right=right):
            yield from leaves(left)
            yield from leaves(right)
        case _:
            yield from leaves(value.argument)


def evaluate(operation: Operation, table: Table) -> FloatArray:
    """One value a row; truth is 1 and falsehood 0; a missing input (NaN, MISSING) gives NaN.

    Parameters
    ----------
    operation : Operation
    table : Table
        Holds the columns that the operation reads.

    Returns
    -------
    float64 array, shape (rows,)
        May be the table's own column: do not write to it.

    Raises
    ------
    DataError
        A column is absent or infinite, or the result is not a finite number although no input is missing.
    """
    return np.broadcast_to(_evaluate(operation, table), (table.rows,))


def evaluate_basis(basis: Basis, table: Table) -> FloatArray:
    """The columns of a basis, shape (rows, columns); NaN where the argument is missing.

    Raises
    ------
    DataError
        As :func:`evaluate`.
    """
    x = evaluate(basis.argument, table)
    with np.errstate(all="ignore"):
        match basis:
            case Powers(degree=degree):
                values = x[:, None] ** np.arange(1, degree + 1)
            case Polynomial(alpha=alpha, norm2=norm2):
                values = orthonormal_polynomials(x, np.array(alpha), np.array(norm2))
            case BSplines(knots=knots, degree=degree, first=first):
                values = bspline_basis(x, np.array(knots), degree)[:, first:]
            case NaturalSplines(knots=knots, projection=projection):
                values = natural_basis(x, np.array(knots), np.array(projection))
    check_finite(values, np.isnan(x)[:, None], basis.label, next(columns_of(basis), None))
    return values


def evaluate_codes(coded: Coded, table: Table) -> CodeArray:
    """The position of every row's level among ``coded.levels``; MISSING (-1) where the input is missing.

    Returns
    -------
    int32 array, shape (rows,)

    Raises
    ------
    LevelError
        A row has a level that the fit did not see.
    DataError
        As :func:`evaluate`.
    """
    if isinstance(coded, Truths):
        truth = evaluate(coded.argument, table)
        return np.where(np.isnan(truth), MISSING, np.nan_to_num(truth)).astype(np.int32)
    factor = _factor(coded.column, table)
    labels = factor.levels.labels
    position = {label: code for code, label in enumerate(coded.levels)}
    # the codes MISSING and UNKNOWN index the lookup from its end
    lookup = np.array([*(position.get(label, UNKNOWN) for label in labels), UNKNOWN, MISSING], dtype=np.int32)
    codes = lookup[factor.codes]
    unknown = np.flatnonzero(codes == UNKNOWN)
    if len(unknown):
        code = factor.codes[unknown[0]]
        level = f"level {labels[code]!r}" if code >= 0 else "an unknown level"
        raise LevelError(
            f"column {coded.column!r} has {level} in {_where(unknown)}; it was not there in fitting, and a fixed "
            "effect cannot be guessed: fit again with such rows, or leave them out. "
            f"Known levels: {_some(coded.levels)}",
            column=coded.column,
            row=int(unknown[0]),
            count=len(unknown),
        )
    return codes


def basis_width(basis: Basis) -> int:
    """The number of columns of a basis."""
    match basis:
        case Powers(degree=degree):
            return degree
        case Polynomial(alpha=alpha):
            return len(alpha)
        case BSplines(knots=knots, degree=degree, first=first):
            return len(knots) - degree - 1 - first
        case NaturalSplines(projection=projection):
            return len(projection[0])


def check_finite(
    values: FloatArray, missing: npt.NDArray[np.bool_], label: str, column: str | None, needs: str = ""
) -> None:
    """Refuse values that are not finite although their inputs are not missing.

    Parameters
    ----------
    values : float64 array, shape (), (rows,) or (rows, columns)
    missing : bool array
        Where an input is missing; broadcasts against ``values``.
    label, column, needs : str
        For the message: the expression, the first column that it reads, what the operation asks of its input.

    Raises
    ------
    DataError
    """
    finite = np.isfinite(values)
    if finite.all():
        return
    bad = ~(finite | missing)
    rows = np.flatnonzero(bad.any(axis=1) if bad.ndim == 2 else bad)
    if len(rows):
        reason = needs or "the result must fit a float"
        raise DataError(
            f"{label}{'' if column is None else f' (column {column!r})'} is not a finite number in {_where(rows)}: "
            f"{reason}; correct or leave out these rows, or change the formula",
            column=column,
            row=int(rows[0]),
            count=len(rows),
        )


def _evaluate(operation: Operation, table: Table) -> FloatArray:
    match operation:
        case Column(name=name):
            return _number(name, table)
        case Constant(value=value):
            return np.asarray(value, dtype=np.float64)
        case LevelTest(column=column, level=level, equal=equal):
            factor = _factor(column, table)
            matches = np.array([label == level for label in factor.levels.labels] + [False, False])
            truth = np.where(matches[factor.codes], float(equal), float(not equal))
            return np.where(factor.codes == MISSING, np.nan, truth)
        case Function(function=function, argument=argument):
            x = _evaluate(argument, table)
            with np.errstate(all="ignore"):
                result = _FUNCTIONS[function](x)
            return _checked(operation, result, np.isnan(x), _NEEDS.get(function, ""))
        case Arithmetic(operator=operator, left=left, right=right):
            x, y = _evaluate(left, table), _evaluate(right, table)
            with np.errstate(all="ignore"):
                result = _OPERATORS[operator](x, y)
            return _checked(operation, result, np.isnan(x) | np.isnan(y), _NEEDS.get(operator, ""))
        case Scaled(argument=argument, center=center, scale=scale):
            x = _evaluate(argument, table)
            with np.errstate(all="ignore"):
                result = (x - center) / scale
            return _checked(operation, result, np.isnan(x), "")


def _checked(
    operation: Function | Arithmetic | Scaled, result: Any, missing: npt.NDArray[np.bool_], needs: str
) -> FloatArray:
    values = np.asarray(result, dtype=np.float64)
    check_finite(values, missing, operation.label, next(columns_of(operation), None), needs)
    # a comparison, NaN^0 and the like would give a number
    return np.where(missing, np.nan, values) if missing.any() else values


def _number(name: str, table: Table) -> FloatArray:
    if name not in table.numbers:
        raise DataError(f"column {name!r} is not in the data as numbers; add it", column=name)
    values = table.numbers[name]
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise DataError(
            f"column {name!r} is infinite in {_where(infinite)}; correct these rows or make them missing",
            column=name,
            row=int(infinite[0]),
            count=len(infinite),
        )
    return values


def _factor(name: str, table: Table) -> Factor:
    if name not in table.factors:
        raise DataError(f"column {name!r} is not in the data as a factor; add it", column=name)
    return table.factors[name]


def _where(rows: npt.NDArray[np.intp]) -> str:
    return f"row {int(rows[0])}" if len(rows) == 1 else f"{len(rows):,} rows, the first is row {int(rows[0])}"


def _some(labels: tuple[str, ...]) -> str:
    return ", ".join(repr(label) for label in labels[:5]) + (", ..." if len(labels) > 5 else "")
