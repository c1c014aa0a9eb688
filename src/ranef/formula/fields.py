"""Factors with more structure than a column's levels: bags of levels, and walks along a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from ranef.formula.nodes import Call, Expression, Name, Text
from ranef.formula.operations import FIELDS, PERIODS, check_options, resolve
from ranef.formula.place import error_at

Factors: TypeAlias = tuple[Expression, ...]

SCALES = ("sqrt", "mean", "sum")


def is_field(node: Expression) -> bool:
    """Whether it is one factor: a column, or ``week()``, ``bag()``, ``rw()`` and the like of one."""
    return isinstance(node, Name) or (isinstance(node, Call) and (node.function in FIELDS or node.function in PERIODS))


def read_field(node: Expression, text: str) -> Expression:
    """One factor right of a bar or in a latent term, checked.

    Parameters
    ----------
    node : Expression
        One for which `is_field` holds.
    text : str
        The formula, for messages.

    Raises
    ------
    FormulaError
    """
    if not isinstance(node, Call):
        return node
    if node.function in PERIODS:
        return resolve(node, text)
    if node.function == "history":
        raise error_at(
            f"history() stands inside bag(): bag(history({_written(node)})) is the bag of all levels that a level of "
            "another factor has in the data.",
            text,
            node,
        )
    check_options(node, FIELDS[node.function], text)
    inside = node.arguments[0]
    if node.function == "rw":
        return replace(node, arguments=(_time(inside, text),))
    keywords = tuple((name, _bag_option(name, value, text)) for name, value in node.keywords)
    if isinstance(inside, Call) and inside.function == "history":
        separator = next((value for name, value in keywords if name in ("sep", "weights")), None)
        if separator is not None:
            raise error_at("A history has no text to separate; leave sep and weights out.", text, separator)
        return replace(node, arguments=(_history(inside, text),), keywords=keywords)
    if not isinstance(inside, Name):
        raise error_at(
            "bag() holds a column of lists or of delimited text, as bag(genres), or a history, as "
            "bag(history(item, user)).",
            text,
            inside,
        )
    return replace(node, keywords=keywords)


def check_product(factors: Factors, text: str) -> None:
    """Refuse a product that holds a bag, or more than one walk.

    Raises
    ------
    FormulaError
    """
    if len(factors) == 1:
        return
    calls = [factor for factor in factors if isinstance(factor, Call)]
    for call in calls:
        if call.function == "bag":
            raise error_at("A bag cannot be part of a product of factors; let it stand alone.", text, call)
    walks = [call for call in calls if call.function == "rw"]
    if len(walks) > 1:
        raise error_at("A product of factors walks along one time; this is the second.", text, walks[1])


def check_owner(factors: Factors, text: str, owners: Sequence[Expression] = ()) -> None:
    """Refuse a history that does not say whose it is, unless it stands beside one column, ``owners``.

    Raises
    ------
    FormulaError
    """
    match factors:
        case (Call("bag", (Call("history", (Name(name) as levels,)) as history,)),):
            if len(owners) != 1:
                raise error_at(f"Whose history? Name the column: history({name}, user).", text, history)
            if owners[0] == levels:
                raise error_at("A history is of one column for another: user + bag(history(item)).", text, history)


def _time(node: Expression, text: str) -> Expression:
    if isinstance(node, Name):
        return node
    if isinstance(node, Call) and node.function in PERIODS:
        return resolve(node, text)
    raise error_at(
        "rw() holds a column whose levels have a place in time, numbers, dates or ordered levels, or week() and the "
        "like of one.",
        text,
        node,
    )


def _history(node: Call, text: str) -> Call:
    check_options(node, FIELDS["history"], text)
    for argument in node.arguments:
        if not isinstance(argument, Name):
            raise error_at(
                "history() holds columns: that of the levels, and that of whose history it is, as history(item, user).",
                text,
                argument,
            )
    if len(node.arguments) == 2 and node.arguments[0] == node.arguments[1]:
        raise error_at("A history is of one column for another: history(item, user).", text, node)
    return node


def _bag_option(name: str, value: Expression, text: str) -> Expression:
    match name, value:
        case "sep", Text(separator) if separator:
            return value
        case "scale", Text(scale) if scale in SCALES:
            return value
        case "weights", Text(mark) if mark:
            return value
        case "weights", _:
            raise error_at(
                'weights of bag() is the text between a level and its weight: weights = ":" for drama:2|comedy:0.5.',
                text,
                value,
            )
        case "sep", _:
            raise error_at('sep of bag() is the text between two levels, as in sep = "|".', text, value)
        case _:
            raise error_at(
                'scale of bag() is "sqrt" (each of n levels weighs 1/sqrt(n)), "mean" (1/n) or "sum" (1).', text, value
            )


def _written(node: Call) -> str:
    return ", ".join(argument.name if isinstance(argument, Name) else "..." for argument in node.arguments)
