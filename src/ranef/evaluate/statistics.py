"""Metrics as functions of sums over users or rows: their values, bootstrap errors and intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ranef.table import FloatArray

# numbers of a batch of replicates
BATCH = 1 << 22


@dataclass(frozen=True, eq=False)
class Statistic:
    """A metric.

    Attributes
    ----------
    sums : float64 array, shape (units, m)
        What each unit, a user or a row, adds.
    value : callable
        From totals, shape (..., m), to the metric, shape (...).
    higher : bool
        Whether more is better.
    """

    sums: FloatArray
    value: Callable[[FloatArray], FloatArray]
    higher: bool

    @property
    def estimate(self) -> float:
        """The metric of all units."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(self.value(self.sums.sum(axis=0)))


def ratio(totals: FloatArray) -> FloatArray:
    """The first total over the second."""
    quotient: FloatArray = totals[..., 0] / totals[..., 1]
    return quotient


def root_ratio(totals: FloatArray) -> FloatArray:
    """The root of the first total over the second."""
    return np.asarray(np.sqrt(totals[..., 0] / totals[..., 1]))


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap standard error and limits; NaN where there are fewer than two units."""

    value: float
    se: float
    lower: float
    upper: float


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """The values of metrics in samples of the units, drawn with replacement.

    Attributes
    ----------
    estimates : mapping of (model, metric) to float
    replicates : mapping of (model, metric) to float64 array, shape (replicates,)
        One sample of the units serves all models and metrics, so that these can be compared sample by sample.
    level : float
        Coverage of the intervals.
    """

    estimates: Mapping[tuple[str, str], float]
    replicates: Mapping[tuple[str, str], FloatArray]
    level: float

    def estimate(self, model: str, metric: str) -> Estimate:
        """A metric of one model, with percentile limits."""
        return self._with_error(self.estimates[model, metric], self.replicates[model, metric])

    def difference(self, one: str, other: str, metric: str) -> Estimate:
        """A metric of ``one`` less that of ``other``: in every sample both are of the same units."""
        values = [self.estimates[model, metric] for model in (one, other)]
        samples = [self.replicates[model, metric] for model in (one, other)]
        return self._with_error(values[0] - values[1], samples[0] - samples[1])

    def _with_error(self, value: float, samples: FloatArray) -> Estimate:
        samples = samples[np.isfinite(samples)]
        if len(samples) < 2:
            return Estimate(value, np.nan, np.nan, np.nan)
        lower, upper = np.quantile(samples, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Estimate(value, float(samples.std(ddof=1)), float(lower), float(upper))


def bootstrap(
    statistics: Mapping[tuple[str, str], Statistic], replicates: int = 1000, level: float = 0.95, seed: int = 0
) -> Bootstrap:
    """Draw the units of all statistics with replacement, many times.

    Parameters
    ----------
    statistics : mapping of (model, metric) to Statistic
        All of the same units, in the same order.
    replicates : int
        0: no errors and no limits.
    level : float
    seed : int

    Returns
    -------
    Bootstrap

    Notes
    -----
    Efron's bootstrap of sums (Efron and Tibshirani 1993); for many units see `ranef.evaluate.units`.
    """
    keys = list(statistics)
    estimates = {key: statistics[key].estimate for key in keys}
    units = len(statistics[keys[0]].sums) if keys else 0
    if units < 2 or replicates < 1:
        return Bootstrap(estimates, {key: np.empty(0) for key in keys}, level)
    together = np.hstack([statistics[key].sums for key in keys])
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    totals = _totals(together, replicates, random)
    ends = np.cumsum([statistics[key].sums.shape[1] for key in keys])[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = [
            np.asarray(statistics[key].value(part))
            for key, part in zip(keys, np.split(totals, ends, axis=1), strict=True)
        ]
    return Bootstrap(estimates, dict(zip(keys, values, strict=True)), level)


def _totals(sums: FloatArray, replicates: int, random: np.random.Generator) -> FloatArray:
    """Totals of as many units as there are, drawn with replacement; shape (replicates, m)."""
    units = len(sums)
    size = max(1, BATCH // units)
    parts: list[FloatArray] = []
    for start in range(0, replicates, size):
        count = min(size, replicates - start)
        drawn = random.integers(0, units, (count, units))
        drawn += np.arange(count)[:, None] * units
        times = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units)
        parts.append(times.astype(np.float64) @ sums)
    return np.concatenate(parts)
