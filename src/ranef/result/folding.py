"""What a fit does with rows that come after it: new levels are folded in, known ones updated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.errors import DroppedRowsWarning, UnknownLevelWarning, counted
from ranef.result.explain import Explanations
from ranef.result.warn import warn
from ranef.score.fold import Folded, fold_in
from ranef.score.rows import match
from ranef.score.update import update_levels
from ranef.table import Factor, open_source, read_table

if TYPE_CHECKING:
    from ranef.result.fit import Fit


class Folding(Explanations):
    """What `Fit` does with new rows, without fitting again."""

    _options: dict[str, Any]
    # the fit that this one was made from, and the rows that came after it
    _earlier: tuple[Folding, Any] | None = None

    def fold_in(self, data: Any, tables: Mapping[str, Any] | None = None) -> Fit:
        """This fit with the levels of new rows that it does not have: new users, items, or both.

        A level's coefficients, of all random and latent terms on its factor together, are the mode for its rows given
        everything that the fit has learned: what a refit would find with the rest held fixed. What is known of their
        uncertainty is given the rest too, but for the fixed effects, with which they move. In a Bayesian fit this is
        done for each kept draw.

        Parameters
        ----------
        data : any data that `ranef.fit` takes
            All rows of the new levels, with the response. Levels that the fit has stay as they are.
        tables : mapping of str to table, optional
            Attributes of levels by key, as in `predict`; they are kept.

        Returns
        -------
        Fit
            Predicts, recommends, explains and saves with the new levels. Like a loaded model it does not hold the rows
            of the fit.

        Raises
        ------
        OptionError, LevelError, DataError, FitError

        Warns
        -----
        DroppedRowsWarning
            Rows with missing values, and rows that have no new level.
        UnknownLevelWarning
            Rows with an unknown level of a bag, a history or a walk, which count as zero.
        """
        found = fold_in(replace(self.model, counts=self._counts()), open_source(data), tables)
        _warn(found, "have no level that the fit lacks, and do not change those that it has")
        return self._with_model(found, data)

    def update_levels(
        self,
        data: Any,
        groups: str | Sequence[str] | None = None,
        *,
        forget: float = 0.0,
        tables: Mapping[str, Any] | None = None,
    ) -> Fit:
        """This fit with some levels as they are after new rows: no new fit, but a Bayesian update of each level.

        A level enters with the mean and the precision of all its coefficients together, and leaves with those that the
        new rows add to; the fit keeps them, and so does a saved model. Variances, fixed effects and the levels of other
        factors stay. ``update(rows, forget=0.1)`` is the same.

        Parameters
        ----------
        data : any data that `ranef.fit` takes
            The new rows alone, with the response.
        groups : str or sequence of str, optional
            The factors whose levels change. Default: the users, or whatever `recommend` recommends to; the only factor
            where there is one. New levels are folded in whatever their factor.
        forget : float
            The share of what a level of these rows has learned beyond its prior that is forgotten first, from 0 to 1.
        tables : mapping of str to table, optional
            Attributes of new levels by key, as in `predict`.

        Returns
        -------
        Fit

        Raises
        ------
        OptionError, LevelError, DataError, FitError

        Warns
        -----
        DroppedRowsWarning, UnknownLevelWarning

        Notes
        -----
        Of a Gaussian model, updates day by day equal one of all days, where one factor changes and nothing is
        forgotten. Of other families a day is linearised at the mode after it: the result is near that of all days at
        once. The first update of a level begins at what the fit keeps of it: the covariance of its effects, that of
        its vectors, each by itself.
        """
        source = open_source(data)
        found = update_levels(replace(self.model, counts=self._counts()), source, groups, forget=forget, tables=tables)
        _warn(found, "have no level that may change")
        return self._with_model(found, data)

    def _with_model(self, found: Folded, data: Any) -> Fit:
        from ranef.result.fit import Fit

        fit = Fit(replace(found.model, seen=None), self._formula, self._library, None, None, {**self._options})
        fit._earlier = (self, data)
        kept = self.model.seen
        if kept is not None:
            fit.model = replace(fit.model, seen=fit._seen_to_keep((kept.entity, kept.target)))
        return fit

    def _known_pairs(self, entity: str, target: str) -> tuple[Factor, Factor] | None:
        """Those of the earlier fit and of the rows that came after it."""
        if self._earlier is None:
            return super()._known_pairs(entity, target)
        fit, data = self._earlier
        known = fit._known_pairs(entity, target)
        if known is None:
            return None
        table = read_table(open_source(data), numbers=(), factors=sorted({entity, target}))
        both = []
        for name, before in zip((entity, target), known, strict=True):
            levels = self._levels_of(name)
            codes = [match(name, one, levels) for one in (before, table.factors[name])]
            both.append(Factor(np.concatenate(codes), levels))
        return both[0], both[1]


def _warn(found: Folded, idle: str) -> None:
    if found.left_out:
        message = f"{counted(found.left_out, 'row')} left out: a value is missing, or the weight is zero"
        warn(message, DroppedRowsWarning)
    if found.idle:
        warn(f"{counted(found.idle, 'row')} {idle}", DroppedRowsWarning)
    for name, (count, row, label) in found.unknown.items():
        message = (
            f"{counted(count, 'row')} have a level of {name!r} that was not seen in fitting (the first is {label!r} in "
            f"row {row}); it counts as zero"
        )
        warn(message, UnknownLevelWarning)
