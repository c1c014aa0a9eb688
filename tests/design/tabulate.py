"""From a formula and a few columns to what the design functions take, through the real parser and reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ranef.design.matrix import ModelMatrixSpec, learn, model_matrix
from ranef.design.roles import needed
from ranef.formula import parse
from ranef.formula.nodes import Expression, LinearPart
from ranef.table import ColumnKind, FloatArray, Table, open_source, read_table


def ordered(values: Sequence[str | None], levels: Sequence[str]) -> pa.DictionaryArray:
    """A column whose levels are declared as ordered."""
    codes = pa.array([None if value is None else levels.index(value) for value in values], pa.int32())
    return pa.DictionaryArray.from_arrays(codes, pa.array(levels), ordered=True)


def tabulate(
    wanted: LinearPart | Sequence[Expression], data: Mapping[str, Any]
) -> tuple[Table, Mapping[str, ColumnKind]]:
    source = open_source(pa.table(dict(data)))
    roles = needed(wanted, source.columns)
    return read_table(source, numbers=roles.numbers, factors=roles.factors), source.columns


def fixed(formula: str) -> LinearPart:
    return parse(formula).fixed


def spec_of(formula: str, data: Mapping[str, Any]) -> ModelMatrixSpec:
    part = fixed(formula)
    return learn(part, *tabulate(part, data))


def matrix_of(formula: str, data: Mapping[str, Any], new: Mapping[str, Any] | None = None) -> FloatArray:
    """The model matrix of ``new`` (or of ``data``) by what is learned on ``data``."""
    part = fixed(formula)
    spec = learn(part, *tabulate(part, data))
    return model_matrix(spec, tabulate(part, data if new is None else new)[0])


def column(formula: str, data: Mapping[str, Any]) -> FloatArray:
    """The only column of a one-term formula without intercept."""
    matrix = matrix_of(f"{formula} + 0", data)
    assert matrix.shape[1] == 1
    return np.asarray(matrix[:, 0])
