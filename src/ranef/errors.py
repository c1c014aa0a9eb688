"""Errors and warnings of ranef, one tree.

    RanefError
    ├── FormulaError     the formula's text is wrong; carries the place
    ├── DataError        the data cannot be used; carries column, first row, count
    │   └── LevelError   a level of a grouping factor is unknown
    ├── OptionError      an argument or option is wrong
    ├── FitError         the numerics could not produce a fit
    ├── ModelFileError   a saved model is damaged, foreign or too new
    └── StoreError       a store cannot be reached, or does not hold what it should

    RanefWarning (UserWarning)
    ├── ConvergenceWarning
    ├── SingularFitWarning
    ├── DroppedRowsWarning
    ├── DroppedColumnsWarning
    ├── UnknownLevelWarning
    └── CategoryOrderWarning

A message says what was wrong, where, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RanefError(Exception):
    """Base of every error that ranef raises on purpose."""


class FormulaError(RanefError, ValueError):
    """The formula cannot be understood.

    Parameters
    ----------
    problem : str
        What is wrong and what to do, without the place.
    formula : str
        The whole formula as the caller wrote it.
    start, end : int
        The offending characters, ``formula[start:end]``; shown with carets.
    """

    def __init__(self, problem: str, formula: str = "", start: int | None = None, end: int | None = None):
        self.problem, self.formula, self.start, self.end = problem, formula, start, end
        super().__init__(problem if start is None else f"{problem}\n{caret(formula, start, end)}")


class DataError(RanefError, ValueError):
    """The data cannot be used.

    Parameters
    ----------
    message : str
        What was wrong, where and what to do.
    column : str or None
        The column at fault.
    row : int or None
        First row at fault, counted from 0 in the caller's data.
    count : int or None
        How many rows are at fault.
    """

    def __init__(self, message: str, *, column: str | None = None, row: int | None = None, count: int | None = None):
        self.column, self.row, self.count = column, row, count
        super().__init__(message)


class LevelError(DataError):
    """A level of a grouping factor was not seen in fitting."""


class OptionError(RanefError, ValueError):
    """An argument or option has a value that ranef does not accept."""


class FitError(RanefError, RuntimeError):
    """The model cannot be fitted to these data, or the numerics broke down."""


class ModelFileError(RanefError, OSError):
    """A model directory is truncated, damaged, foreign or written by a newer ranef."""


class StoreError(RanefError, OSError):
    """A store cannot be reached, or does not hold what was written to it."""


class RanefWarning(UserWarning):
    """Base of every warning that ranef gives."""


class ConvergenceWarning(RanefWarning):
    """The optimiser stopped before its criterion was met."""


class SingularFitWarning(RanefWarning):
    """A variance was estimated as zero, or a correlation as one."""


class DroppedRowsWarning(RanefWarning):
    """Rows were left out: missing values or zero weights."""


class DroppedColumnsWarning(RanefWarning):
    """Columns of the fixed part were left out because others determine them."""


class UnknownLevelWarning(RanefWarning):
    """New data hold levels that were not seen in fitting."""


class CategoryOrderWarning(RanefWarning):
    """Categories of an ordinal response were taken in the order of their texts, which nobody declared."""


def caret(text: str, start: int, end: int | None = None) -> str:
    """Two lines: the line of ``text`` that holds ``start``, and carets under ``text[start:end]``."""
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", start)
    last = len(text) if last < 0 else last
    width = max(1, min(last if end is None else end, last) - start) if end is not None else 1
    return f"    {text[first:last]}\n    {' ' * (start - first)}{'^' * width}"


def counted(count: int, noun: str) -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The ``known`` names most like ``name``, best first; case is ignored."""
    by_lower: dict[str, str] = {}
    for candidate in known:
        by_lower.setdefault(candidate.lower(), candidate)
    found = difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.5)
    return [by_lower[lower] for lower in found]
