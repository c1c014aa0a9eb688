"""The formula: text -> response, fixed part, random terms. One grammar for all of it; it knows no data."""

from ranef.formula.columns import check_columns, variables
from ranef.formula.nodes import (
    Binary,
    Call,
    Covariance,
    Expression,
    Formula,
    LatentField,
    LatentTerm,
    LinearPart,
    Name,
    Number,
    RandomTerm,
    Response,
    Span,
    Term,
    Text,
    Truth,
    Unary,
)
from ranef.formula.parsing import parse
from ranef.formula.update import update_formula
from ranef.formula.write import formula_text, label, term_label

__all__ = [
    "Binary",
    "Call",
    "Covariance",
    "Expression",
    "Formula",
    "LatentField",
    "LatentTerm",
    "LinearPart",
    "Name",
    "Number",
    "RandomTerm",
    "Response",
    "Span",
    "Term",
    "Text",
    "Truth",
    "Unary",
    "check_columns",
    "formula_text",
    "label",
    "parse",
    "term_label",
    "update_formula",
    "variables",
]
