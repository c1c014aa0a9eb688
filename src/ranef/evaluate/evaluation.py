"""The result of an evaluation: metrics of models with their uncertainty, and the differences between models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef.errors import OptionError
from ranef.evaluate.curve import Calibration
from ranef.evaluate.statistics import Bootstrap, Estimate, Statistic, bootstrap
from ranef.result.options import check_whole
from ranef.result.text import align
from ranef.table import to_library

DIGITS = 4
# decimals are those of two digits of the first model's standard error
DIGITS_OF_ERROR = 2


@dataclass(frozen=True)
class Sampling:
    """How errors are found.

    Attributes
    ----------
    replicates : int
        Bootstrap samples; 0 for none.
    level : float
        Coverage of the intervals.
    seed : int
    """

    replicates: int = 1000
    level: float = 0.95
    seed: int = 0

    def note(self, by: str) -> list[str]:
        """How the errors were found, in words."""
        if not self.replicates:
            return []
        return [f"{100 * self.level:g} % limits from {self.replicates:,} bootstrap samples of {by}"]

    def __post_init__(self) -> None:
        check_whole("replicates", self.replicates, 0)
        check_whole("seed", self.seed, 0)
        if isinstance(self.level, bool) or not isinstance(self.level, int | float) or not 0 < self.level < 1:
            raise OptionError(f"level={self.level!r}: give a number between 0 and 1, such as 0.95")


@dataclass(frozen=True)
class Subject:
    """What was judged.

    Attributes
    ----------
    by : str
        What the bootstrap draws: a column's levels, ``"users"``, ``"groups"`` or ``"rows"``.
    rows, units, dropped : int
        Rows, or users of rankings, that were judged; units to draw; rows or pairs that were left out.
    notes : tuple of str
        The same in words.
    library : str
        Of the tables to give back.
    """

    by: str
    rows: int
    units: int
    dropped: int
    notes: tuple[str, ...]
    library: str


class Evaluation:
    """Metrics of models on the same rows or users.

    Attributes
    ----------
    models, metrics : tuple of str
    by : str
        What the bootstrap draws: a column's levels, ``"users"``, ``"groups"`` or ``"rows"``.
    rows, units, dropped : int
        Rows, or users of rankings, that were judged; units to draw; rows or pairs that were left out.
    notes : tuple of str
        What was judged, and how, in words.
    sampling : Sampling
    """

    def __init__(
        self,
        statistics: Mapping[tuple[str, str], Statistic],
        fixed: Mapping[tuple[str, str], float],
        metrics: Sequence[str],
        subject: Subject,
        sampling: Sampling,
        curves: Mapping[str, Calibration] | None = None,
    ):
        self.models: tuple[str, ...] = tuple(dict.fromkeys(model for model, _ in [*statistics, *fixed]))
        self.metrics: tuple[str, ...] = tuple(metrics)
        self.by, self.rows, self.units, self.dropped = subject.by, subject.rows, subject.units, subject.dropped
        self.notes: tuple[str, ...] = (*subject.notes, *sampling.note(subject.by))
        self.sampling = sampling
        self._fixed = dict(fixed)
        self._library = subject.library
        self._curves = dict(curves or {})
        self._bootstrap: Bootstrap = bootstrap(statistics, sampling.replicates, sampling.level, sampling.seed)

    def estimate(self, metric: str, model: str | None = None) -> Estimate:
        """A metric of one model, by default the first: ``value``, ``se``, ``lower``, ``upper``.

        Raises
        ------
        OptionError
            There is no such metric or model.
        """
        self._check(metric, model)
        key = (self.models[0] if model is None else model, metric)
        if key in self._fixed:
            return Estimate(self._fixed[key], np.nan, np.nan, np.nan)
        return self._bootstrap.estimate(*key)

    def difference(self, metric: str, one: str, other: str) -> Estimate:
        """A metric of model ``one`` less that of ``other``, paired: both are of the same units in every sample.

        Raises
        ------
        OptionError
            There is no such metric or model.
        """
        self._check(metric, one)
        self._check(metric, other)
        if (one, metric) in self._fixed:
            value = self._fixed[one, metric] - self._fixed[other, metric]
            return Estimate(value, np.nan, np.nan, np.nan)
        return self._bootstrap.difference(one, other, metric)

    def table(self) -> Any:
        """Every metric of every model: model, metric, estimate, se, lower, upper; in the library of the data."""
        return to_library(_columns(self.records()), self._library)

    def comparison(self, reference: str | None = None) -> Any:
        """Every model less ``reference``, by default the first: model, reference, metric, difference, se, lower, upper.

        Raises
        ------
        OptionError
            There is no such model.
        """
        return to_library(_columns(self.differences(reference)), self._library)

    def calibration(self, model: str | None = None) -> Calibration:
        """The calibration curve of one model, by default the first.

        Raises
        ------
        OptionError
            There is no such model, or the response has no probability.
        """
        self._check(None, model)
        name = self.models[0] if model is None else model
        if name not in self._curves:
            raise OptionError("a calibration curve is for the probability of an event: this response has none")
        return self._curves[name]

    def records(self) -> list[dict[str, Any]]:
        """`table` as one dict a row."""
        return [
            {"model": model, "metric": metric, "estimate": found.value, **_errors(found)}
            for metric in self.metrics
            for model in self.models
            for found in [self.estimate(metric, model)]
        ]

    def differences(self, reference: str | None = None) -> list[dict[str, Any]]:
        """`comparison` as one dict a row."""
        against = self.models[0] if reference is None else reference
        self._check(None, against)
        return [
            {"model": model, "reference": against, "metric": metric, "difference": found.value, **_errors(found)}
            for metric in self.metrics
            for model in self.models
            if model != against
            for found in [self.difference(metric, model, against)]
        ]

    def __str__(self) -> str:
        return "\n".join([*self.notes, "", *self._lines()])

    def __repr__(self) -> str:
        return str(self)

    def _lines(self) -> list[str]:
        header = ["", "", "estimate", "se", "lower", "upper"]
        against = self.models[0]
        if len(self.models) > 1:
            header += [f"less {against}", "se"]
        columns: list[list[str]] = [[] for _ in header]
        for metric in self.metrics:
            found = [self.estimate(metric, model) for model in self.models]
            numbers = [[one.value, one.se, one.lower, one.upper] for one in found]
            if len(self.models) > 1:
                less = [self.difference(metric, model, against) for model in self.models]
                pairs = [[one.value, one.se] if place else [np.nan] * 2 for place, one in enumerate(less)]
                numbers = [[*row, *pair] for row, pair in zip(numbers, pairs, strict=True)]
            decimals = _decimals(found)
            for place, (model, row) in enumerate(zip(self.models, numbers, strict=True)):
                columns[0].append(metric if place == 0 else "")
                columns[1].append(model)
                for column, (name, value) in zip(columns[2:], zip(header[2:], row, strict=True), strict=True):
                    sign = "+" if name.startswith("less ") else ""
                    column.append("" if np.isnan(value) else f"{round(value, decimals) + 0.0:{sign}.{decimals}f}")
        return align(header, columns, left=2)

    def _check(self, metric: str | None, model: str | None) -> None:
        for what, one, known in (("metric", metric, self.metrics), ("model", model, self.models)):
            if one is not None and one not in known:
                raise OptionError(f"{what}={one!r} was not evaluated: there are {', '.join(map(repr, known))}")


def _errors(found: Estimate) -> dict[str, float]:
    return {"se": found.se, "lower": found.lower, "upper": found.upper}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {}
    return {
        name: np.array([row[name] for row in rows]) if isinstance(rows[0][name], float) else [row[name] for row in rows]
        for name in rows[0]
    }


def _decimals(found: Sequence[Estimate]) -> int:
    error = next((one.se for one in found if one.se > 0), 0.0)
    if error:
        return int(np.clip(DIGITS_OF_ERROR - 1 - np.floor(np.log10(error)), 0, 8))
    values = [abs(one.value) for one in found if np.isfinite(one.value) and one.value]
    return int(np.clip(DIGITS - 1 - np.floor(np.log10(max(values, default=1.0))), 0, 8))
