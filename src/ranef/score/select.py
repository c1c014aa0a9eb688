"""Which parts of a model a prediction sums: the fixed part and random terms."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from ranef.design.spec import DesignSpec
from ranef.errors import OptionError

FIXED = "fixed"


# FIXED, or a grouping factor and one of its terms
Part: TypeAlias = str | tuple[int, int]


@dataclass(frozen=True)
class Selection:
    """The parts that take part.

    Attributes
    ----------
    fixed : bool
        The fixed effects and the offset.
    terms : tuple of tuple of int
        For each grouping factor of the model, the places of its terms.
    """

    fixed: bool
    terms: tuple[tuple[int, ...], ...]


def select(
    spec: DesignSpec, include: str | Collection[str] | None = None, exclude: str | Collection[str] | None = None
) -> Selection:
    """The parts named by ``include``, or all but those named by ``exclude``; all parts without either.

    Parameters
    ----------
    spec : DesignSpec
    include, exclude : str or collection of str, optional
        ``"fixed"``, names of grouping factors (all their terms), texts of terms such as ``"(1 | user)"``; spaces in a
        text do not matter. A grouping factor that is itself named ``fixed`` is reached by its terms' texts.

    Raises
    ------
    OptionError
        Both are given, or one names something that the model does not have.
    """
    if include is not None and exclude is not None:
        raise OptionError("include and exclude were both given; give the parts to keep or the parts to leave out")
    every: set[Part] = {FIXED, *((g, t) for g, group in enumerate(spec.groups) for t in range(len(group.terms)))}
    if include is not None:
        every = _named(spec, "include", include)
    elif exclude is not None:
        every = every - _named(spec, "exclude", exclude)
    terms = tuple(tuple(t for t in range(len(group.terms)) if (g, t) in every) for g, group in enumerate(spec.groups))
    return Selection(FIXED in every, terms)


def _named(spec: DesignSpec, option: str, names: str | Collection[str]) -> set[Part]:
    parts: dict[str, set[Part]] = {}
    for g, group in enumerate(spec.groups):
        parts[group.name] = {(g, t) for t in range(len(group.terms))}
        for t, term in enumerate(group.terms):
            parts[_tight(term.text)] = {(g, t)}
    parts[FIXED] = {FIXED}
    found: set[Part] = set()
    for name in [names] if isinstance(names, str) else names:
        part = parts.get(name, parts.get(_tight(name))) if isinstance(name, str) else None
        if part is None:
            texts = [term.text for group in spec.groups for term in group.terms]
            known = [FIXED, *(group.name for group in spec.groups), *texts]
            raise OptionError(f"{option}: the model has no part {name!r}; it has {', '.join(map(repr, known))}")
        found |= part
    return found


def _tight(text: str) -> str:
    return "".join(text.split())
