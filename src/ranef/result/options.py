"""Checks of options: one of a few words, a whole number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ranef.errors import OptionError, nearest


def choice(
    option: str, value: Any, known: tuple[str, ...], where: str = "", also: Mapping[str, str] | None = None
) -> str:
    """The word of ``known`` that ``value`` is, whatever its case.

    Parameters
    ----------
    option : str
        Its name, for the message.
    value : object
    known : tuple of str
        In lower case.
    where : str
        What the words depend on, for the message.
    also : mapping of str to str, optional
        Other spellings that are understood.

    Raises
    ------
    OptionError
    """
    word = value.lower() if isinstance(value, str) else value
    if isinstance(word, str):
        word = (also or {}).get(word, word)
        if word in known:
            return word
    close = nearest(word, known, 1) if isinstance(word, str) else []
    guess = f"; did you mean {close[0]!r}?" if close else ""
    listed = " or ".join(filter(None, [", ".join(map(repr, known[:-1])), repr(known[-1])]))
    raise OptionError(f"{option}={value!r} is not known{where}: use {listed}{guess}")


def check_whole(name: str, value: object, least: int) -> None:
    """Refuse an option that is not a whole number of at least ``least``.

    Raises
    ------
    OptionError
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise OptionError(f"{name}={value!r}: give a whole number of at least {least}")


def check_tolerance(tolerance: object) -> None:
    """Refuse a tolerance that is not a number between 0 and 1; None is the default one.

    Raises
    ------
    OptionError
    """
    if tolerance is not None and not (isinstance(tolerance, int | float | np.floating) and 0 < tolerance < 1):
        raise OptionError(f"tolerance={tolerance!r}: give a number between 0 and 1, such as 1e-9")
