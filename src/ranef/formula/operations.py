"""The closed list of column operations: the only functions that a formula may name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ranef.errors import nearest
from ranef.formula.nodes import Binary, Call, Covariance, Expression, Name, Number, Text, Truth, Unary
from ranef.formula.place import error_at


@dataclass(frozen=True)
class Operation:
    """What a column operation takes. Its first argument is the column or an expression of columns.

    Attributes
    ----------
    options : tuple of str
        Constants that may follow, by position or by name.
    keywords : tuple of str
        Constants that must be named.
    columns : int
        Arguments that name columns.
    """

    options: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    columns: int = 1


OPERATIONS: Mapping[str, Operation] = {
    "I": Operation(),
    "log": Operation(("base",)),
    "log2": Operation(),
    "log10": Operation(),
    "log1p": Operation(),
    "exp": Operation(),
    "expm1": Operation(),
    "sqrt": Operation(),
    "abs": Operation(),
    "center": Operation(),
    "scale": Operation(("center", "scale")),
    "poly": Operation(("degree", "raw")),
    "bs": Operation(("df", "knots", "degree", "intercept")),
    "ns": Operation(("df", "knots", "intercept")),
    "C": Operation(("contrast",), ("base",)),
    "factor": Operation(),
    "as.factor": Operation(),
    "ordered": Operation(),
    "as.numeric": Operation(),
    "day": Operation(("unit",)),
    "week": Operation(("unit",)),
    "month": Operation(("unit",)),
    "year": Operation(("unit",)),
}

# Those that bin dates: levels, wherever a factor may stand. What numbers count, where a column holds these.
PERIODS = frozenset({"day", "week", "month", "year"})
UNITS = ("D", "s", "ms", "us", "ns")
# What makes levels with more structure than a factor's, right of a bar and in a latent term.
FIELDS: Mapping[str, Operation] = {
    "bag": Operation(keywords=("sep", "scale", "weights")),
    "rw": Operation(),
    "history": Operation(columns=2),
}
# Latent terms, and their options.
LATENT: Mapping[str, Operation] = {"latent": Operation(keywords=("rank",)), "fm": Operation(keywords=("rank",))}

# Covariance structures around a random term, in glmmTMB's words.
STRUCTURES: Mapping[str, Covariance] = {"us": "full", "diag": "diagonal", "homdiag": "identity"}

CONTRASTS = ("treatment", "sum", "helmert", "poly")

_ARITHMETIC = frozenset({"+", "-", "*", "/", "^", "%%", "%/%", "==", "!=", "<", "<=", ">", ">=", "&", "|"})


def column_arguments(call: Call) -> tuple[Expression, ...]:
    """The arguments of an operation that hold columns; the others are constants."""
    operation = FIELDS.get(call.function)
    return call.arguments[: 1 if operation is None else operation.columns]


def resolve(expression: Expression, text: str) -> Expression:
    """``expression`` as an arithmetic expression of columns, its operations and their arguments checked.

    Parameters
    ----------
    expression : Expression
        As the grammar reads it.
    text : str
        The formula, for messages.

    Returns
    -------
    Expression
        The same with ``T`` and ``F`` as truth values where an option stands.

    Raises
    ------
    FormulaError
        An unknown function, a wrong number of arguments, an option that is not a constant, or an operator
        that means nothing between columns.
    """
    match expression:
        case Unary():
            return replace(expression, operand=resolve(expression.operand, text))
        case Binary():
            if expression.operator not in _ARITHMETIC:
                raise error_at(_not_arithmetic(expression.operator), text, expression)
            return replace(expression, left=resolve(expression.left, text), right=resolve(expression.right, text))
        case Call():
            return _call(expression, text)
        case _:
            return expression


def _call(call: Call, text: str) -> Call:
    operation = OPERATIONS.get(call.function)
    if operation is None:
        raise error_at(_unknown(call), text, call)
    check_options(call, operation, text)
    column, *options = call.arguments
    if call.function in PERIODS and not isinstance(column, Name):
        raise error_at(
            f"{call.function}() takes a column of dates; make anything else a column of the data first.", text, column
        )
    return replace(
        call,
        arguments=(
            resolve(column, text),
            *(
                option(call.function, name, value, text)
                for name, value in zip(operation.options, options, strict=False)
            ),
        ),
        keywords=tuple((name, option(call.function, name, value, text)) for name, value in call.keywords),
    )


def check_options(call: Call, operation: Operation, text: str) -> None:
    """Refuse a call without a column, with too many arguments, or with an option that is unknown or given twice.

    Raises
    ------
    FormulaError
    """
    if not call.arguments:
        hint = "; the column comes first, without a name" if call.keywords else ""
        raise error_at(f"{call.function}() needs a column{hint}.", text, call)
    most = operation.columns + len(operation.options)
    if len(call.arguments) > most:
        raise error_at(_too_many(call.function, operation), text, call.arguments[most])
    given = set(operation.options[: len(call.arguments) - operation.columns])
    allowed = operation.options + operation.keywords
    for keyword, value in call.keywords:
        if keyword not in allowed:
            known = f"its options are {', '.join(allowed)}" if allowed else "it has none"
            raise error_at(f"{call.function}() has no option `{keyword}`; {known}.", text, value)
        if keyword in given:
            raise error_at(f"The option `{keyword}` of {call.function}() is given twice.", text, value)
        given.add(keyword)


def option(function: str, name: str, value: Expression, text: str) -> Expression:
    """The constant that an option of ``function`` says, or the contrast of ``C()``; ``T`` and ``F`` as truth values.

    Raises
    ------
    FormulaError
    """
    if function == "C" and name == "contrast":
        return _contrast(value, text)
    if function in PERIODS and not (isinstance(value, Text) and value.value in UNITS):
        raise error_at(
            f'The unit of {function}() says what numbers count since 1970-01-01: "s" for seconds; the units are '
            f"{', '.join(UNITS)}. A column of dates needs none.",
            text,
            value,
        )
    match value:
        case Number() | Text() | Truth() | Unary("-" | "+", Number()):
            return value
        case Name("T" | "F"):
            return Truth(value.name == "T", value.span)
        case Call("c", arguments, ()) if arguments:
            return replace(value, arguments=tuple(option(function, name, one, text) for one in arguments))
        case _:
            raise error_at(
                f"`{name}` of {function}() must be a constant: a number, a text, TRUE or FALSE, or c(...) of them.",
                text,
                value,
            )


def _contrast(value: Expression, text: str) -> Expression:
    match value:
        case Name(name) | Text(name) | Call(name):
            kind = name.removeprefix("contr.")
        case _:
            kind = ""
    if kind not in CONTRASTS:
        raise error_at(
            f'The contrasts of C() are {", ".join(CONTRASTS)}; write C(x, "sum") or C(x, treatment("b")).', text, value
        )
    if not isinstance(value, Call):
        return value
    if len(value.arguments) + len(value.keywords) > 1 or any(name != "base" for name, _ in value.keywords):
        raise error_at(f'{value.function}() takes the base level only, as {value.function}("b").', text, value)
    return replace(
        value,
        arguments=tuple(option(value.function, "base", one, text) for one in value.arguments),
        keywords=tuple((name, option(value.function, name, one, text)) for name, one in value.keywords),
    )


def _too_many(function: str, operation: Operation) -> str:
    if not operation.options:
        named = f"; its options are named: {', '.join(operation.keywords)}" if operation.keywords else ""
        what = "one column" if operation.columns == 1 else "at most two columns"
        return f"{function}() takes {what} and nothing else{named}."
    return f"{function}() takes a column and at most {', '.join(operation.options)}."


def _unknown(call: Call) -> str:
    name = call.function
    if name in LATENT:
        return f"{name}() is a term of its own and stands alone in the sum."
    if name == "history":
        return "history() stands inside bag(), in a latent term or right of a bar: bag(history(item, user))."
    if name in FIELDS:
        return f"{name}() stands right of a bar, as in `(1 | {name}(x))`, or in a latent term."
    if name in STRUCTURES:
        return f"{name}() holds one random term, as {name}(x | g), and stands alone in the sum."
    if name == "cbind":
        return "cbind(successes, failures) stands on the left side only."
    if name == "offset":
        return "offset() stands alone in the sum on the right side."
    if name == "c":
        return (
            "c(...) is a list of constants; it stands only as an option of an operation, as in bs(x, knots = c(1, 2))."
        )
    if any(isinstance(one, Binary) and one.operator in ("|", "||") for one in call.arguments):
        return f"`{name}` is not a column operation; if a random term follows it, put `+` between them."
    close = nearest(name, OPERATIONS)
    guess = f" Did you mean {' or '.join(close)}?" if close else ""
    return (
        f"`{name}` is not a column operation.{guess} The operations are {', '.join(OPERATIONS)}; "
        "make anything else a column of the data first."
    )


def _not_arithmetic(operator: str) -> str:
    match operator:
        case "||":
            return "`||` means nothing between columns; write `|` for a logical or."
        case "&&":
            return "`&&` means nothing between columns; write `&` for a logical and."
        case ":":
            return "`:` makes interactions between terms, not numbers; inside a call write a product with `*`."
        case _:
            return "`%in%` is nesting between terms; inside a call compare with `==` and join with `|`."
