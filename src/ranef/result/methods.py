"""The methods of a fit by family, and which one is the default."""

from __future__ import annotations

from ranef.family import Family
from ranef.learn.augment import augmentation_of, has_augmentation
from ranef.result.latent_options import method_with_latent
from ranef.result.options import choice

# the first is the default
METHODS: tuple[str, ...] = ("reml", "ml")
METHODS_GENERALIZED: tuple[str, ...] = ("laplace", "joint")


def method_of(family: Family, method: str | None, latent: bool) -> str:
    """The method that ``method`` asks for, or the default one.

    Parameters
    ----------
    latent : bool
        Whether the formula has ``latent()`` or ``fm()``.

    Raises
    ------
    OptionError
        The family has no such method.
    """
    if latent:
        return method_with_latent(family, method)
    known = METHODS if family.kind == "number" else METHODS_GENERALIZED
    if isinstance(method, str) and method.lower() == "gibbs":
        # refused with the families that it is for
        augmentation_of(family)
    if has_augmentation(family):
        known += ("gibbs",)
    return known[0] if method is None else choice("method", method, known, f" for family={family.name!r}")
