"""Which two factors of a model make the pairs that it recommends by."""

from __future__ import annotations

from collections.abc import Collection

from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.model import Model
from ranef.errors import OptionError, nearest
from ranef.formula import parse
from ranef.formula.nodes import Name


def choose_pair(
    model: Model | ImplicitModel, entity: str | None = None, target: str | None = None, tables: Collection[str] = ()
) -> tuple[str, str]:
    """The column whose levels get recommendations, and the column whose levels are recommended.

    Parameters
    ----------
    model : Model or ImplicitModel
    entity, target : str, optional
        Default: the first columns of the first two sides of the first latent term; or, where the formula has two
        grouping columns and no more, these in their order.
    tables : collection of str
        Keys of further attributes.

    Raises
    ------
    OptionError
        The model has no such columns, or more than two to choose from; it says which.
    """
    if isinstance(model, ImplicitModel):
        own = (model.spec.user, model.spec.item)
        if (entity or own[0], target or own[1]) not in (own, own[::-1]):
            raise OptionError(f"entity={entity!r}, target={target!r}: the model has {own[0]!r} and {own[1]!r}")
        swapped = entity == own[1] or target == own[0]
        return own[::-1] if swapped else own
    found = _factors(model, tables)
    for option, value in (("entity", entity), ("target", target)):
        if value is not None and value not in found:
            close = nearest(value, found, 1) if isinstance(value, str) else []
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise OptionError(f"{option}={value!r}: the model's factors are {', '.join(map(repr, found))}{guess}")
    if entity is not None and entity == target:
        raise OptionError(f"entity and target are both {entity!r}; recommendations are of one factor to another")
    if len(found) < 2:
        raise OptionError(
            f"{model.spec.formula} cannot recommend: it has {_none_or_one(found)}, and recommendations are of the "
            "levels of one factor to those of another. Add a factor of what is recommended, (1 | item), or "
            "latent(user, item, rank=8); or give the attributes of what is recommended, tables={'item': ...}, and "
            "target='item'"
        )
    first = _first_latent(model)
    if entity is None and target is None and first is not None:
        return first
    rest = [name for name in found if name not in (entity, target)]
    if entity is None and target is None:
        if len(found) > 2:
            raise OptionError(
                f"the model has the factors {', '.join(map(repr, found))}: say which get recommendations and which "
                f"are recommended, entity={found[0]!r}, target={found[1]!r}"
            )
        return found[0], found[1]
    if entity is not None and target is not None:
        return entity, target
    option = "target" if target is None else "entity"
    preferred = [name for name in first or () if name in rest]
    if len(rest) > 1 and len(preferred) != 1:
        raise OptionError(
            f"the model has the factors {', '.join(map(repr, found))}: give {option}= too, such as {rest[0]!r}"
        )
    other = preferred[0] if len(preferred) == 1 else rest[0]
    return (entity, other) if entity is not None else (other, str(target))


def _factors(model: Model, tables: Collection[str]) -> list[str]:
    """Columns that could be either, as the formula has them; keys of attributes last."""
    formula = parse(model.spec.formula)
    found = [one.columns[-1] for term in model.spec.latent for side in term.sides for one in side if one.kind != "bag"]
    found += [factor.name for term in formula.random for factor in term.group if isinstance(factor, Name)]
    found += [one for one in (*model.attributes, *tables) if isinstance(one, str)]
    return list(dict.fromkeys(found))


def _first_latent(model: Model) -> tuple[str, str] | None:
    """The first plain factor of each of the first two sides that have one."""
    for term in model.spec.latent:
        plain = [
            [one.columns[0] for one in side if one.kind == "factor" and len(one.columns) == 1] for side in term.sides
        ]
        first = [side[0] for side in plain if side]
        if len(first) > 1 and first[0] != first[1]:
            return first[0], first[1]
    return None


def _none_or_one(found: list[str]) -> str:
    return f"one factor, {found[0]!r}" if found else "no factor"
