"""``latent()`` and ``fm()`` -> latent terms."""

from __future__ import annotations

from typing import Literal

from ranef.errors import FormulaError
from ranef.formula.fields import check_owner, check_product, is_field, read_field
from ranef.formula.nodes import Binary, Call, Expression, LatentField, LatentTerm, Name, Number, Text
from ranef.formula.operations import LATENT, check_options
from ranef.formula.place import error_at
from ranef.formula.write import label, latent_text

MOST_RANK = 1024


def latent_term(node: Call, text: str) -> LatentTerm:
    """The latent term that a call of ``latent()`` or ``fm()`` is.

    Parameters
    ----------
    node : Call
    text : str
        The formula, for messages.

    Raises
    ------
    FormulaError
    """
    function: Literal["latent", "fm"] = "latent" if node.function == "latent" else "fm"
    example = "latent(user, item, rank = 8)" if function == "latent" else "fm(user, item, hour, rank = 8)"
    if len(node.arguments) < 2:
        raise error_at(f"{function}() joins two sides or more, as {example}.", text, node)
    if function == "latent" and len(node.arguments) > 2:
        raise error_at(
            "latent() joins two sides; write fm() for all pairs of more, or `+` to add vectors within a side.",
            text,
            node.arguments[2],
        )
    check_options(Call(function, node.arguments[:1], node.keywords, node.span), LATENT[function], text)
    if not node.keywords:
        raise error_at(f'{function}() needs a rank: a whole number, as {example}, or rank = "auto".', text, node)
    rank = _rank(node.keywords[0][1], function, text)
    sides = tuple(tuple(_fields(side, text)) for side in node.arguments)
    _refuse_repeats(sides, text)
    for side in sides:
        for field in side:
            check_owner(field.expression, text, owners_of(side))
    expressions = [[field.expression for field in side] for side in sides]
    return LatentTerm(function, sides, rank, latent_text(function, expressions, rank), node.span)


def _rank(value: Expression, function: str, text: str) -> int | None:
    match value:
        case Text("auto"):
            return None
        case Number(rank) if rank == int(rank) and 1 <= rank <= MOST_RANK:
            return int(rank)
        case _:
            raise error_at(
                f'The rank of {function}() is a whole number from 1 to {MOST_RANK:,}, or "auto".', text, value
            )


def _fields(node: Expression, text: str) -> list[LatentField]:
    """The summands of a side; its left spine may be long."""
    rest: list[Expression] = []
    while isinstance(node, Binary) and node.operator == "+":
        rest.append(node.right)
        node = node.left
    if not rest:
        return [_field(node, text)]
    return [_field(node, text), *(field for one in reversed(rest) for field in _fields(one, text))]


def _field(node: Expression, text: str) -> LatentField:
    factors = tuple(dict.fromkeys(_factors(node, text)))
    check_product(factors, text)
    return LatentField(factors, node.span)


def _factors(node: Expression, text: str) -> list[Expression]:
    if is_field(node):
        return [read_field(node, text)]
    if isinstance(node, Binary) and node.operator == ":":
        return [*_factors(node.left, text), *_factors(node.right, text)]
    raise error_at(
        "A side of a latent term is a sum of factors: columns, products such as `a:b`, week() and the like, bag() and "
        "rw(). Numbers and other expressions have no vectors: add a column of levels to the table.",
        text,
        node,
    )


def _refuse_repeats(sides: tuple[tuple[LatentField, ...], ...], text: str) -> None:
    """A factor has one vector in a term; on two sides it would multiply itself."""
    seen: dict[frozenset[Expression], int] = {}
    for number, side in enumerate(sides):
        for field in side:
            factor = frozenset(field.expression)
            if factor in seen:
                where = "twice on this side" if seen[factor] == number else "on another side of this term too"
                name = ":".join(map(label, field.expression))
                raise FormulaError(f"`{name}` stands {where}.", text, field.span.start, field.span.end)
            seen[factor] = number


def owners_of(side: tuple[LatentField, ...]) -> list[Name]:
    """The columns that stand alone on a side; one is the owner of a history whose owner is not named."""
    return [one for field in side if len(field.expression) == 1 and isinstance(one := field.expression[0], Name)]
