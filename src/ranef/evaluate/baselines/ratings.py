"""Predictions of ratings by their mean, and by the mean plus a bias of every user and item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from ranef.errors import DataError, FitError, OptionError, counted
from ranef.formula import Name, label
from ranef.score.rows import match
from ranef.table import FloatArray, Levels, check_finite, complete_rows, open_source, read_table, used

TOLERANCE = 1e-10
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class GlobalMean:
    """The same number for every row.

    Parameters
    ----------
    response : str
        A column of numbers.
    """

    response: str

    def fit(self, data: Any) -> FittedBiases:
        """The mean of the rows that have a response."""
        return Biases(self.response, ()).fit(data)


@dataclass(frozen=True)
class Biases:
    """The mean and a bias of every level of some factors: ``y = mean + b_user + b_item``.

    Parameters
    ----------
    response : str
        A column of numbers.
    factors : sequence of str
        Columns, such as users and items.
    penalty : mapping of str to float, or float, optional
        Multiplies the sum of the squared biases of a factor, beside the sum of the squared errors (ridge regression;
        the mean is free). Default: the residual variance over the variance of the factor's biases, both estimated by
        `ranef.fit`, so that nothing is left to choose.

    Examples
    --------
    >>> import ranef
    >>> table = ranef.data.insteval()
    >>> biases = ranef.evaluate.Biases("y", ["s", "d"], penalty={"s": 10, "d": 5}).fit(table)
    >>> round(ranef.evaluate.rmse(table["y"], biases.predict(table)), 4)
    1.1531
    """

    response: str
    factors: Sequence[str]
    penalty: Mapping[str, float] | float | None = None

    def fit(self, data: Any) -> FittedBiases:
        """Solve the normal equations by conjugate gradients; rows that lack a value are left out.

        Raises
        ------
        OptionError, DataError
        """
        source = open_source(data)
        table = read_table(source, numbers=[self.response], factors=list(self.factors))
        check_finite(table, [self.response])
        keep, _ = complete_rows(table)
        table = table if keep is None else table.take(keep)
        if not table.rows:
            raise DataError("no row has a response and all factors: there is nothing to fit")
        y = table.numbers[self.response]
        found = [used(table.factors[name]) for name in self.factors]
        sizes = [len(one.levels) for one in found]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        penalties = np.repeat(self._penalties(data), sizes)
        rows = np.arange(table.rows)
        places = [one.codes + start for one, start in zip(found, starts, strict=False)]
        indicators = sparse.csr_array(
            (np.ones(len(rows) * len(found)), (np.tile(rows, len(found)), np.concatenate([*places, rows[:0]]))),
            shape=(table.rows, int(starts[-1])),
        )
        mean, biases = _solve(indicators, y, penalties)
        parts = np.split(biases, starts[1:-1]) if found else []
        effects = {name: (one.levels, part) for name, one, part in zip(self.factors, found, parts, strict=True)}
        return FittedBiases(mean, effects)

    def _penalties(self, data: Any) -> list[float]:
        if self.penalty is None:
            return self._estimated(data)
        each = self.penalty if isinstance(self.penalty, Mapping) else dict.fromkeys(self.factors, self.penalty)
        if set(each) != set(self.factors):
            raise OptionError(f"penalty={self.penalty!r}: give one for each of {', '.join(map(repr, self.factors))}")
        bad = [name for name, value in each.items() if not (isinstance(value, int | float) and 0 < value < np.inf)]
        if bad:
            raise OptionError(f"penalty={self.penalty!r}: give a number above 0 for {bad[0]!r}")
        return [float(each[name]) for name in self.factors]

    def _estimated(self, data: Any) -> list[float]:
        if not self.factors:
            return []
        from ranef.result.front import fit

        terms = " + ".join(f"(1 | {label(Name(name))})" for name in self.factors)
        fitted = fit(f"{label(Name(self.response))} ~ 1 + {terms}", data)
        variance = {row.grp: row.vcov for row in fitted.model.varcorr}
        # a variance of zero: biases of zero
        return [min(fitted.sigma**2 / variance[name], 1e12) if variance[name] > 0 else 1e12 for name in self.factors]


@dataclass(frozen=True, eq=False)
class FittedBiases:
    """A mean and biases by level.

    Attributes
    ----------
    mean : float
    effects : mapping of str to (Levels, float64 array, shape (levels,))
    """

    mean: float
    effects: Mapping[str, tuple[Levels, FloatArray]] = field(default_factory=dict)

    def predict(self, data: Any) -> FloatArray:
        """Predict rows, shape (rows,); a level that the training rows did not have, or none, has a bias of 0."""
        table = read_table(open_source(data), numbers=[], factors=list(self.effects))
        predicted = np.full(table.rows, self.mean)
        for name, (levels, biases) in self.effects.items():
            codes = match(name, table.factors[name], levels)
            predicted += np.append(biases, [0.0, 0.0])[codes]
        return predicted


def _solve(indicators: sparse.csr_array, y: FloatArray, penalties: FloatArray) -> tuple[float, FloatArray]:
    """Mean and biases of the ridge regression; the mean is eliminated."""
    count = len(y)
    mean = float(y.mean())
    if not indicators.shape[1]:
        return mean, np.empty(0)
    gram = sparse.csr_array(indicators.T @ indicators)
    levels = np.asarray(indicators.sum(axis=0), np.float64).ravel()
    sums = np.asarray(indicators.T @ (y - mean))

    def multiply(b: FloatArray) -> FloatArray:
        return np.asarray(gram @ b - levels * (levels @ b / count) + penalties * b)

    scale = 1 / (levels + penalties)
    size = (len(levels), len(levels))
    biases, left = linalg.cg(
        linalg.LinearOperator(size, multiply),
        sums,
        rtol=TOLERANCE,
        maxiter=MAX_ITERATIONS,
        M=linalg.LinearOperator(size, lambda b: scale * b),
    )
    if left:
        raise FitError(f"the biases were not found in {counted(MAX_ITERATIONS, 'iteration')}: take larger penalties")
    return mean - float(levels @ biases / count), np.asarray(biases)
