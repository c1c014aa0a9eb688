"""Bars -> random terms, split as lme4 splits them."""

from __future__ import annotations

from typing import TypeAlias

from ranef.errors import FormulaError
from ranef.formula.expand import Expansion
from ranef.formula.nodes import Binary, Call, Covariance, Expression, LinearPart, Name, RandomTerm
from ranef.formula.operations import STRUCTURES
from ranef.formula.write import random_text

Group: TypeAlias = tuple[Name, ...]


def random_terms(node: Binary | Call, text: str) -> tuple[RandomTerm, ...]:
    """The terms of ``(x | g)``, ``(x || g)``, ``diag(x | g)`` and the like.

    Parameters
    ----------
    node : Binary or Call
        A bar, or a covariance structure around one.
    text : str
        The formula, for messages.

    Returns
    -------
    tuple of RandomTerm
        First over the pieces of ``||``, then over the groups, the innermost first: ``(1 | a/b)`` is ``(1 | b:a)`` and
        ``(1 | a)``.
    """
    bar, covariance = _bar(node, text)

    def nested(inner: Binary | Call, _adding: bool) -> None:
        offset = isinstance(inner, Call) and inner.function == "offset"
        what = "An offset" if offset else "A second bar"
        raise _error(f"{what} cannot stand inside a random term; write it beside: `(x | g) + ...`.", text, inner)

    if isinstance(bar.left, Binary) and bar.left.operator in ("|", "||"):
        nested(bar.left, True)
    effects = Expansion(text, (), nested).part(bar.left)
    if not effects.intercept and not effects.terms:
        raise _error("Nothing varies between the levels of the group; write `(1 | group)`.", text, bar)
    pieces = _pieces(effects) if bar.operator == "||" else (effects,)
    return tuple(
        RandomTerm(piece, group, covariance, random_text(piece, group, covariance), node.span)
        for piece in pieces
        for group in _groups(bar.right, text)
    )


def _bar(node: Binary | Call, text: str) -> tuple[Binary, Covariance]:
    if isinstance(node, Binary):
        return node, "full"
    match node:
        case Call(function, (Binary("|") as bar,), ()):
            return bar, STRUCTURES[function]
        case Call(function, (Binary("||"),), ()):
            raise _error(f"`||` and {function}() both choose a structure; keep one of them.", text, node)
        case _:
            raise _error(f"{node.function}() holds one random term, as {node.function}(x | g).", text, node)


def _pieces(effects: LinearPart) -> tuple[LinearPart, ...]:
    """Independent terms; a factor stays one of them, with all its levels."""
    intercept = (LinearPart(True),) if effects.intercept else ()
    return intercept + tuple(LinearPart(False, (term,)) for term in effects.terms)


def _groups(node: Expression, text: str) -> tuple[Group, ...]:
    """The grouping factors right of a bar, each a product of columns."""
    match node:
        case Name():
            return ((node,),)
        case Binary("+"):
            return _distinct(_groups(node.left, text) + _groups(node.right, text))
        case Binary(":"):
            return _products(_groups(node.left, text), _groups(node.right, text))
        case Binary("*"):
            left, right = _groups(node.left, text), _groups(node.right, text)
            return _distinct(left + right + _products(left, right))
        case Binary("/"):
            outer, inner = _groups(node.left, text), _groups(node.right, text)
            every = _product(*outer)
            return _distinct(tuple(_product(one, every) for one in inner) + outer)
        case Binary("|" | "||"):
            raise _error("A second bar cannot stand inside a random term; write two terms.", text, node)
        case _:
            raise _error(
                "A grouping factor is a column, or columns joined by `:`, `/`, `*` or `+`; "
                "for anything else add a column to the table and name it here.",
                text,
                node,
            )


def _products(left: tuple[Group, ...], right: tuple[Group, ...]) -> tuple[Group, ...]:
    return _distinct(tuple(_product(one, other) for one in left for other in right))


def _product(*groups: Group) -> Group:
    return tuple(dict.fromkeys(name for group in groups for name in group))


def _distinct(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """Without repeats; ``a:b`` and ``b:a`` are one grouping factor."""
    return tuple({frozenset(group): group for group in reversed(groups)}.values())[::-1]


def _error(problem: str, text: str, at: Expression) -> FormulaError:
    return FormulaError(problem, text, at.span.start, at.span.end)
