"""Rows that a fit is scored on while its sweeps run: given, or held out of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from ranef.artifact.model import Model
from ranef.design.response import response_columns, response_values
from ranef.design.rows import HoldOut
from ranef.errors import DataError, OptionError
from ranef.learn.factor.sweeping import Sweep
from ranef.score.predict import linear_predictor
from ranef.score.rows import Rows, read_rows
from ranef.score.select import select
from ranef.table import FloatArray, Source, open_source, read_table

Callback = Callable[[Sweep], Any]


@dataclass(frozen=True)
class Validation:
    """What ``validation=`` asked for: a share of the rows, or a table of others."""

    hold_out: HoldOut | None
    source: Source | None


def read_validation(validation: Any, seed: int) -> Validation:
    """What ``validation=`` says.

    Raises
    ------
    OptionError
    """
    if isinstance(validation, bool) or not isinstance(validation, int | float | np.number):
        return Validation(None, open_source(validation))
    share = float(validation)
    if not 0 < share < 1:
        raise OptionError(f"validation={validation!r}: give a share of the rows between 0 and 1, or a table")
    return Validation(HoldOut(share, seed), None)


class Validator:
    """The error of a model's predictions on the validation rows; they are read at the first call.

    The root mean square for numbers and ratings; log loss, of a trial, for outcomes and categories; for counts and
    positive numbers the family's mean deviance.

    Parameters
    ----------
    source : Source
    chosen : bool array, shape (rows,), optional
        The rows of ``source`` to take; default: those with a response and a prediction.
    tables : mapping of str to table, optional
    clip : tuple of float, optional
        Where predictions are clipped.
    """

    def __init__(
        self,
        source: Source,
        chosen: npt.NDArray[np.bool_] | None = None,
        tables: Mapping[str, Any] | None = None,
        clip: tuple[float, float] | None = None,
    ):
        self._source, self._chosen, self._tables, self._clip = source, chosen, tables, clip
        self._read: tuple[Rows, FloatArray, FloatArray | None] | None = None

    @property
    def count(self) -> int:
        """How many rows are scored; 0 before the first call."""
        return 0 if self._read is None else len(self._read[1])

    def __call__(self, model: Model) -> float:
        selection = select(model.spec)
        if self._read is None:
            self._read = self._rows(model)
        rows, y, trials = self._read
        eta = linear_predictor(model, rows, selection)
        if model.spec.kind == "number":
            predicted = eta if self._clip is None else np.clip(eta, *self._clip)
            return float(np.sqrt(np.mean((predicted - y) ** 2)))
        return _loss(model, y, eta, trials)

    def _rows(self, model: Model) -> tuple[Rows, FloatArray, FloatArray | None]:
        roles = response_columns(model.spec.response)
        table = read_table(self._source, numbers=sorted(roles.numbers), factors=sorted(roles.factors))
        y, trials = response_values(model.spec.response, table)
        # as in the fit, a table of which the model reads nothing is no error
        tables = {key: table for key, table in (self._tables or {}).items() if key in model.attributes}
        rows = read_rows(model, self._source, select(model.spec), tables=tables)
        if self._chosen is None:
            kept = ~np.isnan(y) & ~np.isnan(linear_predictor(model, rows, select(model.spec)))
        else:
            kept = self._chosen
        if not kept.any():
            raise DataError("validation=: no row has a response and a prediction; give other rows")
        return _taken(rows, kept), y[kept], None if trials is None else trials[kept]


def _loss(model: Model, y: FloatArray, eta: FloatArray, trials: FloatArray | None) -> float:
    """Of another response than a Gaussian one, by the measure that `ranef.evaluate` has first for it."""
    family, kind = model.family, model.spec.kind
    if kind == "rating":
        return float(np.sqrt(np.mean((family.mean(eta) - y) ** 2)))
    if kind in ("binary", "proportion", "ordered"):
        weights = np.ones(len(y)) if trials is None else trials
        total = -float(np.sum(family.loglik(y, eta, trials, model.phi)))
        if kind == "proportion":
            # a binomial family counts from the proportions themselves
            total += float(np.sum(weights * (entr(y) + entr(1 - y))))
        return total / float(weights.sum())
    return float(np.mean(family.deviance_residuals(y, eta, trials, model.phi) ** 2))


def _taken(rows: Rows, kept: npt.NDArray[np.bool_]) -> Rows:
    return replace(
        rows,
        table=rows.table.take(kept),
        codes={g: codes[kept] for g, codes in rows.codes.items()},
        latent={
            t: tuple(tuple(replace(field, codes=field.codes[kept]) for field in side) for side in sides)
            for t, sides in rows.latent.items()
        },
    )


def read_callbacks(callbacks: Callback | Sequence[Callback] | None) -> tuple[Callback, ...]:
    """What ``callbacks=`` says, one or several.

    Raises
    ------
    OptionError
    """
    if callbacks is None:
        return ()
    several = tuple(callbacks) if isinstance(callbacks, list | tuple) else (callbacks,)
    for one in several:
        if not callable(one):
            raise OptionError(f"callbacks={one!r}: give a function of what a sweep has to say, or a list of them")
    return several


def after_sweeps(report: Callable[[Sweep], None] | None, callbacks: Sequence[Callback]) -> Callable[[Sweep], bool]:
    """Progress, then every callback; True if one of them returned True."""

    def after(one: Sweep) -> bool:
        if report is not None:
            report(one)
        answers = [callback(one) for callback in callbacks]
        return any(answer is True for answer in answers)

    return after
