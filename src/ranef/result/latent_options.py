"""What goes with latent terms, and what does not."""

from __future__ import annotations

from collections.abc import Mapping

from ranef.errors import OptionError
from ranef.family import Family
from ranef.result.options import choice

METHODS = ("vb",)


def method_with_latent(family: Family, method: str | None) -> str:
    """The method of a formula with ``latent()`` or ``fm()``.

    Raises
    ------
    OptionError
        It, or the family, goes with random effects only.
    """
    if family.kind != "number":
        raise OptionError(
            f"latent() and fm() go with family='gaussian' and family='implicit', not with family={family.name!r}; drop "
            "the term, or model the response as a number"
        )
    return METHODS[0] if method is None else choice("method", method, METHODS, " for a formula with latent() or fm()")


def refuse_with_latent(given: Mapping[str, bool]) -> None:
    """Raise for an option that would be ignored; ``given`` says which were given.

    Raises
    ------
    OptionError
    """
    for name, is_given in given.items():
        if is_given:
            raise OptionError(f"{name} does not go with latent() or fm(); leave it out, or drop the term")
