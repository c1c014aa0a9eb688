"""An error at an expression's place."""

from __future__ import annotations

from ranef.errors import FormulaError
from ranef.formula.nodes import Expression


def error_at(problem: str, text: str, at: Expression) -> FormulaError:
    """``problem`` with carets under ``at`` in the formula ``text``."""
    return FormulaError(problem, text, at.span.start, at.span.end)
