"""Nodes -> text: R's way of writing an expression, and the normal form of a formula."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from ranef.formula.grammar import BINDING, COMPARISONS, PREFIX_BINDING
from ranef.formula.nodes import (
    Binary,
    Call,
    Covariance,
    Expression,
    Formula,
    LinearPart,
    Name,
    Number,
    Response,
    Term,
    Text,
    Truth,
    Unary,
)
from ranef.formula.operations import STRUCTURES
from ranef.formula.tokens import NAME

_TIGHT = frozenset({"/", "^", ":", "%%", "%/%"})
_RESERVED = {"TRUE", "FALSE", "NULL", "NA", "NaN", "Inf", "."} | {
    "if",
    "else",
    "for",
    "while",
    "repeat",
    "function",
    "break",
    "next",
    "in",
}
_ESCAPED = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def label(expression: Expression) -> str:
    """``expression`` as R's ``deparse`` writes it: the name of its column in the model matrix.

    Parameters
    ----------
    expression : Expression

    Returns
    -------
    str
        Such as ``I(x^2)``, ``bs(x, df = 4)``, ``log(x + 1)``; names that are not words stand in backquotes.
    """
    match expression:
        case Name(name):
            return name if NAME.fullmatch(name) and name not in _RESERVED else _quoted(name, "`")
        case Number(value):
            return _number(value)
        case Text(value):
            return _quoted(value, '"')
        case Truth(value):
            return "TRUE" if value else "FALSE"
        case Unary():
            return expression.operator + _inside(expression.operand, PREFIX_BINDING[expression.operator], right=True)
        case Binary():
            space = "" if expression.operator in _TIGHT else " "
            binding = BINDING[expression.operator]
            chains_left = expression.operator not in ("^", *COMPARISONS)
            left = _inside(expression.left, binding if chains_left else binding + 1, right=False)
            right = _inside(expression.right, binding if expression.operator == "^" else binding + 1, right=True)
            return f"{left}{space}{expression.operator}{space}{right}"
        case Call():
            arguments = [label(one) for one in expression.arguments]
            keywords = [f"{label(Name(name))} = {label(value)}" for name, value in expression.keywords]
            return f"{expression.function}({', '.join(arguments + keywords)})"


def term_label(term: Term) -> str:
    """``term`` as R names it: the labels of its factors joined by ``:``."""
    return ":".join(label(factor) for factor in term.factors)


def linear_text(part: LinearPart, explicit: bool) -> str:
    """A sum of terms, ``0 + a + a:b``; the intercept is written where ``explicit`` or where it stands alone."""
    terms = [":".join(_factor(factor) for factor in term.factors) for term in part.terms]
    if not part.intercept:
        return " + ".join(["0", *terms])
    return " + ".join(["1", *terms] if explicit or not terms else terms)


def random_text(effects: LinearPart, group: tuple[Expression, ...], covariance: Covariance) -> str:
    """One random term, ``(1 + x | g)`` or ``diag(1 + x | g)``."""
    wrapper = next(name for name, structure in STRUCTURES.items() if structure == covariance)
    wrapper = "" if covariance == "full" else wrapper
    return f"{wrapper}({linear_text(effects, explicit=True)} | {':'.join(label(part) for part in group)})"


def latent_text(kind: str, sides: Iterable[Iterable[Iterable[Expression]]], rank: int | None) -> str:
    """One latent term, ``latent(user + job, item, rank = 8)``, from the factors of its sides' fields."""
    parts = [" + ".join(":".join(map(label, field)) for field in side) for side in sides]
    size = label(Text("auto")) if rank is None else str(rank)
    return f"{kind}({', '.join(parts)}, rank = {size})"


def response_text(response: Response) -> str:
    """The left side."""
    parts = [label(expression) for expression in response.expressions]
    return parts[0] if len(parts) == 1 else f"cbind({', '.join(parts)})"


def formula_text(formula: Formula) -> str:
    """The normal form of ``formula`` in one line: fixed terms, offsets, random terms, latent terms, all expanded.

    Like R's ``update``, it writes the terms in their final order; a formula read from it can therefore hold the factors
    of an interaction in another order than the first did (``b:a`` after ``a`` is ``a:b``).
    """
    parts = [
        linear_text(formula.fixed, explicit=False),
        *(f"offset({label(offset)})" for offset in formula.offsets),
        *(term.text for term in formula.random),
        *(term.text for term in formula.latent),
    ]
    left = "" if formula.response is None else response_text(formula.response) + " "
    return f"{left}~ {' + '.join(parts)}"


def _factor(expression: Expression) -> str:
    """In a sum of terms, operators would be the formula's own."""
    text = label(expression)
    return f"({text})" if isinstance(expression, Unary | Binary) else text


def _inside(child: Expression, binding: int, right: bool) -> str:
    """An operand, in parentheses where it had them or where it binds less tightly than ``binding``."""
    text = label(child)
    match child:
        case Unary():
            # a sign right of an operator takes its own operand only: 2^-x, a - -b
            needed = PREFIX_BINDING[child.operator] < binding and (not right or child.operator == "!")
        case Binary():
            needed = BINDING[child.operator] < binding
        case _:
            return text
    return f"({text})" if needed or child.brackets else text


def _quoted(value: str, quote: str) -> str:
    escapes = {**_ESCAPED, quote: "\\" + quote}
    return quote + "".join(escapes.get(character, character) for character in value) + quote


def _number(value: float) -> str:
    """The shortest digits that mean ``value``; in powers of ten where that is shorter, as R prints."""
    sign, digits, last = Decimal(repr(value)).normalize().as_tuple()
    if not isinstance(last, int):
        return repr(value)
    count, exponent = len(digits), len(digits) - 1 + last
    plain = f"{Decimal(repr(value)).normalize():f}"
    mantissa = "".join(map(str, digits))
    mantissa = mantissa if count == 1 else f"{mantissa[0]}.{mantissa[1:]}"
    powers = f"{'-' * sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    return plain if len(plain) <= len(powers) else powers
