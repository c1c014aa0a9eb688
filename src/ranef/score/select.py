"""Which parts of a model a prediction sums: the fixed part and random terms."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from ranef.design.spec import DesignSpec
from ranef.errors import FormulaError, OptionError
from ranef.formula import parse

FIXED, LATENT = "fixed", "latent"


# FIXED, a grouping factor and one of its terms, or a latent term
Part: TypeAlias = str | tuple[int, int] | int


@dataclass(frozen=True)
class Selection:
    """The parts that take part.

    Attributes
    ----------
    fixed : bool
        The fixed effects and the offset.
    terms : tuple of tuple of int
        For each grouping factor of the model, the places of its terms.

    latent : tuple of int
        The places of the model's latent terms.
    """

    fixed: bool
    terms: tuple[tuple[int, ...], ...]
    latent: tuple[int, ...] = ()


def select(
    spec: DesignSpec, include: str | Collection[str] | None = None, exclude: str | Collection[str] | None = None
) -> Selection:
    """The parts named by ``include``, or all but those named by ``exclude``; all parts without either.

    Parameters
    ----------
    spec : DesignSpec
    include, exclude : str or collection of str, optional
        ``"fixed"``, names of grouping factors (all their terms), texts of terms such as ``"(1 | user)"``, read as in
        a formula, ``"latent"`` (all latent terms) and their texts. A grouping factor that is itself named ``fixed`` is
        reached by its terms' texts.

    Raises
    ------
    OptionError
        Both are given, or one names something that the model does not have.
    """
    if include is not None and exclude is not None:
        raise OptionError("include and exclude were both given; give the parts to keep or the parts to leave out")
    every: set[Part] = {
        FIXED,
        *range(len(spec.latent)),
        *((g, t) for g, group in enumerate(spec.groups) for t in range(len(group.terms))),
    }
    if include is not None:
        every = _named(spec, "include", include)
    elif exclude is not None:
        every = every - _named(spec, "exclude", exclude)
    terms = tuple(tuple(t for t in range(len(group.terms)) if (g, t) in every) for g, group in enumerate(spec.groups))
    return Selection(FIXED in every, terms, tuple(t for t in range(len(spec.latent)) if t in every))


def _named(spec: DesignSpec, option: str, names: str | Collection[str]) -> set[Part]:
    texts = {term.text: (g, t) for g, group in enumerate(spec.groups) for t, term in enumerate(group.terms)}
    factors = {group.name: {(g, t) for t in range(len(group.terms))} for g, group in enumerate(spec.groups)}
    latent = {term.text: t for t, term in enumerate(spec.latent)}
    found: set[Part] = set()
    if not isinstance(names, Collection):
        raise OptionError(f"{option} takes the name of a part or a list of names, not {names!r}")
    for name in [names] if isinstance(names, str) else names:
        terms = _terms(name)
        if name == FIXED:
            found.add(FIXED)
        elif isinstance(name, str) and name in factors:
            found |= factors[name]
        elif name == LATENT and spec.latent:
            found |= set(range(len(spec.latent)))
        elif latent.keys() & (written := _latent_terms(name)):
            found |= {latent[text] for text in written & latent.keys()}
        elif terms and texts.keys() >= terms:
            found |= {texts[text] for text in terms}
        else:
            every = [FIXED, *factors, *texts, *([LATENT] if latent else []), *latent]
            known = ", ".join(map(repr, every))
            raise OptionError(f"{option}: the model has no part {name!r}; it has {known}")
    return found


def _latent_terms(name: object) -> set[str]:
    """Texts of the latent terms that ``name`` writes, in the formula's normal form."""
    if not isinstance(name, str) or "(" not in name:
        return set()
    try:
        return {term.text for term in parse(f"y ~ {name}").latent}
    except FormulaError:
        return set()


def _terms(name: object) -> set[str]:
    """Texts of the random terms that ``name`` writes, in the formula's normal form."""
    if not isinstance(name, str) or "|" not in name:
        return set()
    try:
        return {term.text for term in parse(f"y ~ {name}").random}
    except FormulaError:
        return set()
