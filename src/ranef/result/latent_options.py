"""What goes with latent terms, and what does not."""

from __future__ import annotations

from collections.abc import Mapping

from ranef.errors import OptionError
from ranef.family import Family
from ranef.learn.augment import SUPPORTED, has_augmentation
from ranef.learn.factor.response import BOUNDED, NORMAL
from ranef.result.options import choice


def methods_with_latent(family: Family) -> tuple[str, ...]:
    """The methods for a formula with ``latent()`` or ``fm()``, the default first."""
    known = ["vb"] if family.kind == "number" or (family.name, family.link) in (*BOUNDED, *NORMAL) else []
    known.append("map")
    return (*known, "gibbs") if has_augmentation(family) else tuple(known)


def method_with_latent(family: Family, method: str | None) -> str:
    """The method of a formula with ``latent()`` or ``fm()``.

    Raises
    ------
    OptionError
        It goes with random effects only, or not with the family.
    """
    known = methods_with_latent(family)
    if method is None:
        return known[0]
    if isinstance(method, str) and method.lower() == "vb" and "vb" not in known:
        raise OptionError(
            "method='vb' of latent() and fm() is for gaussian, ratings, bernoulli with link logit or probit, binomial "
            f"with link logit and ordinal with link probit, not for family={family.name!r} with link={family.link!r}: "
            "use method='map'"
        )
    if isinstance(method, str) and method.lower() == "gibbs" and "gibbs" not in known:
        raise OptionError(
            f"method='gibbs' of latent() and fm() is for {SUPPORTED}, not for family={family.name!r} with "
            f"link={family.link!r}: use method={known[0]!r}"
        )
    return choice("method", method, known, " for a formula with latent() or fm()")


def refuse_with_latent(given: Mapping[str, bool]) -> None:
    """Raise for an option that would be ignored; ``given`` says which were given.

    Raises
    ------
    OptionError
    """
    for name, is_given in given.items():
        if is_given:
            raise OptionError(f"{name} does not go with latent() or fm(); leave it out, or drop the term")
