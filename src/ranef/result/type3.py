"""Type III tests: is each term of the fixed part zero, given all others, averaged over the other factors' levels."""

from __future__ import annotations

from functools import reduce

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.columns import (
    BSplines,
    Categories,
    NaturalSplines,
    Polynomial,
    Powers,
    Truths,
    basis_width,
)
from ranef.design.contrasts import contrast_matrix
from ranef.design.matrix import INTERCEPT, ModelMatrixSpec
from ranef.errors import OptionError
from ranef.result.satterthwaite import FTest, f_test
from ranef.result.tables import Columns

FloatArray = npt.NDArray[np.float64]


def type3_table(model: Model) -> Columns:
    """Type III tests, one row a term: F tests with Satterthwaite's degrees of freedom, or Wald's chi-squared tests.

    The hypotheses are those of sum-to-zero contrasts, whatever contrasts the model was fitted with; with all cells
    observed these are SAS's (and lmerTest's) type III.

    Returns
    -------
    dict
        ``term``, ``sumsq``, ``meansq`` (response units squared), ``numdf``, ``dendf``, ``F``, ``p``; for families
        other than the Gaussian ``term``, ``chisq``, ``df``, ``p``, as R's ``car::Anova(fit, type = "III")`` with
        sum-to-zero contrasts.

    Raises
    ------
    OptionError
        Columns of the fixed part were left out as aliased: the hypotheses cannot be told apart.
    """
    if model.info.aliased:
        raise OptionError(
            f"type III tests need all columns of the fixed part, but {', '.join(model.info.aliased)} could not be "
            "estimated (empty cells?); drop those terms and fit again, or compare two fits"
        )
    contrasts = type3_contrasts(model.spec.fixed, thresholds=model.spec.kind == "ordered")
    tests: dict[str, FTest] = {label: f_test(model, rows) for label, rows in contrasts.items()}
    f = np.array([test.f for test in tests.values()])
    numdf = np.array([test.numdf for test in tests.values()], dtype=np.int64)
    if model.spec.kind != "number":
        from scipy.special import chdtrc

        return {"term": list(tests), "chisq": f * numdf, "df": numdf, "p": chdtrc(numdf, f * numdf)}
    mean_square = f * model.info.sigma**2
    return {
        "term": list(tests),
        "sumsq": mean_square * numdf,
        "meansq": mean_square,
        "numdf": numdf,
        "dendf": np.array([test.dendf for test in tests.values()]),
        "F": f,
        "p": np.array([test.p for test in tests.values()]),
    }


def type3_contrasts(spec: ModelMatrixSpec, thresholds: bool = False) -> dict[str, FloatArray]:
    """Contrasts of the fixed effects that each term's test sets to zero, shape (columns of the term, p).

    Both codings are functions of the same variables, so the linear map between their coefficients is found from any
    rows in general position.

    Parameters
    ----------
    spec : ModelMatrixSpec
    thresholds : bool
        Thresholds are the intercept, which moves with the coding.
    """
    p = len(spec.names) + thresholds
    random = np.random.default_rng(0)
    rows = 4 * p + 20
    values = [_generic(variable.value, rows, random) for variable in spec.variables]
    # beta of the sum-to-zero coding = map @ beta
    intercept = np.ones((rows, int(thresholds)))
    own, sums = (np.hstack([intercept, _matrix(spec, values, rows, own=one)]) for one in (True, False))
    map_, _, rank, _ = np.linalg.lstsq(sums, own, rcond=None)
    if rank < p:
        raise OptionError("type III tests need terms that can vary independently; compare two fits instead")
    contrasts = np.where(np.abs(map_) < 1e-10, 0.0, map_).astype(np.float64)[thresholds:, thresholds:]
    return {term.label: contrasts[term.columns] for term in spec.terms if term.label != INTERCEPT}


def _generic(value: object, rows: int, random: np.random.Generator) -> npt.NDArray[np.int64] | FloatArray:
    """Codes of a factor, shape (rows,), or as many columns as a variable has."""
    match value:
        case Categories() | Truths():
            return random.integers(len(value.levels), size=rows)
        case Powers() | Polynomial() | BSplines() | NaturalSplines():
            return random.standard_normal((rows, basis_width(value)))
        case _:
            return random.standard_normal((rows, 1))


def _matrix(
    spec: ModelMatrixSpec, values: list[npt.NDArray[np.int64] | FloatArray], rows: int, own: bool
) -> FloatArray:
    """The model matrix of these values, in the fit's own coding or with sum-to-zero contrasts."""
    columns = []
    for term in spec.terms:
        factors = []
        for v, full in zip(term.variables, term.indicators, strict=True):
            value, raw = spec.variables[v].value, values[v]
            if isinstance(value, Categories | Truths):
                levels = len(value.levels)
                contrast = value.contrast if own else "sum"
                coding = np.eye(levels) if full else contrast_matrix(contrast, levels, value.base)
                factors.append(coding[raw.astype(np.int64)])
            else:
                factors.append(raw.astype(np.float64))
        columns.append(reduce(_product, factors, np.ones((rows, 1))))
    return np.concatenate(columns, axis=1)


def _product(left: FloatArray, right: FloatArray) -> FloatArray:
    """All products of a column of each, the left one varying fastest."""
    return (right[:, :, None] * left[:, None, :]).reshape(len(left), -1)
