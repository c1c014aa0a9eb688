"""Bars -> random terms, split as lme4 splits them."""

from __future__ import annotations

from ranef.formula.expand import Expansion
from ranef.formula.fields import Factors, check_owner, check_product, is_field, read_field
from ranef.formula.nodes import Binary, Call, Covariance, Expression, LinearPart, RandomTerm
from ranef.formula.operations import PERIODS, STRUCTURES
from ranef.formula.place import error_at
from ranef.formula.write import random_text

_MOST_GROUPS = 100


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
        what = "A second bar"
        if isinstance(inner, Call) and inner.function not in STRUCTURES:
            what = "An offset" if inner.function == "offset" else "A latent term"
        raise error_at(f"{what} cannot stand inside a random term; write it beside: `(x | g) + ...`.", text, inner)

    if isinstance(bar.left, Binary) and bar.left.operator in ("|", "||"):
        nested(bar.left, True)
    effects = Expansion(text, (), nested).part(bar.left)
    if not effects.intercept and not effects.terms:
        raise error_at("Nothing varies between the levels of the group; write `(1 | group)`.", text, bar)
    pieces = _pieces(effects) if bar.operator == "||" else (effects,)
    groups = _groups(bar.right, text)
    for group in groups:
        check_product(group, text)
        check_owner(group, text)
    return tuple(
        RandomTerm(piece, group, covariance, random_text(piece, group, covariance), node.span)
        for piece in pieces
        for group in groups
    )


def _bar(node: Binary | Call, text: str) -> tuple[Binary, Covariance]:
    if isinstance(node, Binary):
        return node, "full"
    match node:
        case Call(function, (Binary("|") as bar,), ()):
            return bar, STRUCTURES[function]
        case Call(function, (Binary("||"),), ()):
            raise error_at(f"`||` and {function}() both choose a structure; keep one of them.", text, node)
        case _:
            raise error_at(f"{node.function}() holds one random term, as {node.function}(x | g).", text, node)


def _pieces(effects: LinearPart) -> tuple[LinearPart, ...]:
    """Independent terms; a factor stays one of them, with all its levels."""
    intercept = (LinearPart(True),) if effects.intercept else ()
    return intercept + tuple(LinearPart(False, (term,)) for term in effects.terms)


def _groups(node: Expression, text: str) -> tuple[Factors, ...]:
    """The grouping factors right of a bar, each a product of columns."""
    if is_field(node):
        return ((read_field(node, text),),)
    if isinstance(node, Binary) and node.operator in ("|", "||"):
        raise error_at("A second bar cannot stand inside a random term; write two terms.", text, node)
    if not isinstance(node, Binary) or node.operator not in ("+", ":", "*", "/"):
        raise error_at(
            f"A grouping factor is a column, or {', '.join(sorted(PERIODS))} of a column of dates, bag(), rw(), or "
            "several of these joined by `:`, `/`, `*` or `+`; for anything else add a column to the table and name it "
            "here.",
            text,
            node,
        )
    left, right = _groups(node.left, text), _groups(node.right, text)
    match node.operator:
        case "+":
            groups = left + right
        case ":":
            groups = _products(left, right)
        case "*":
            groups = left + right + _products(left, right)
        case _:
            groups = _products(right, (_product(*left),)) + left
    groups = _distinct(groups)
    if len(groups) > _MOST_GROUPS:
        raise error_at(f"These are more than {_MOST_GROUPS} grouping factors; write out those you mean.", text, node)
    return groups


def _products(left: tuple[Factors, ...], right: tuple[Factors, ...]) -> tuple[Factors, ...]:
    return tuple(_product(one, other) for one in left for other in right)


def _product(*groups: Factors) -> Factors:
    return tuple(dict.fromkeys(name for group in groups for name in group))


def _distinct(groups: tuple[Factors, ...]) -> tuple[Factors, ...]:
    """Without repeats; ``a:b`` and ``b:a`` are one grouping factor."""
    found: dict[frozenset[Expression], Factors] = {}
    for group in groups:
        found.setdefault(frozenset(group), group)
    return tuple(found.values())
