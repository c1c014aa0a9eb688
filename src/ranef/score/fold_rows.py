"""New rows with their response, as levels that are folded in or updated see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.response import check_trials, response_columns, response_values
from ranef.errors import OptionError
from ranef.score.latent import FieldRows, TermRows
from ranef.score.merged import Merged
from ranef.score.rows import Rows, Unknown, batches, read_rows
from ranef.score.select import select
from ranef.score.units import Units
from ranef.table import MISSING, CodeArray, Source, read_table

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
# a term, a side and a place on it
Place = tuple[int, int, int]

ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True, eq=False)
class GroupRows:
    """One grouping factor: codes of levels, or of units; UNKNOWN where there is none."""

    codes: CodeArray
    covariates: FloatArray
    units: Units | None

    def by_code(self, values: FloatArray) -> FloatArray:
        """What levels have as what codes have, then zeros for UNKNOWN and MISSING."""
        own = values if self.units is None else self.units.membership.sums(values)
        return np.concatenate([own, np.zeros((2, *own.shape[1:]))])


@dataclass(frozen=True, eq=False)
class FoldRows:
    """Rows that are complete.

    Attributes
    ----------
    y : float64 array, shape (rows,)
        As the family takes it.
    weights : float64 array, shape (rows,), or None
    x : float64 array, shape (rows, p)
    offset : float64 array, shape (rows,)
    groups : tuple of GroupRows
        One for each grouping factor of the model.
    latent : mapping of int to TermRows
    left_out : int
        Rows with a missing value or of weight zero.
    unknown : mapping of str to Unknown
        Levels that are not folded in: of bags, histories and walks.
    """

    y: FloatArray
    weights: FloatArray | None
    x: FloatArray
    offset: FloatArray
    groups: tuple[GroupRows, ...]
    latent: Mapping[int, TermRows]
    left_out: int
    unknown: Mapping[str, Unknown]

    def codes(self, factor: Merged) -> CodeArray:
        """The level of each row."""
        if factor.group is not None:
            return self.groups[factor.group].codes
        t, s, f = factor.fields[0]
        return self.latent[t][s][f].codes

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> FoldRows:
        """Some of them."""
        return replace(
            self,
            y=self.y[rows],
            weights=None if self.weights is None else self.weights[rows],
            x=self.x[rows],
            offset=self.offset[rows],
            groups=tuple(GroupRows(one.codes[rows], one.covariates[rows], one.units) for one in self.groups),
            latent={
                t: tuple(tuple(FieldRows(one.codes[rows], one.membership) for one in side) for side in term)
                for t, term in self.latent.items()
            },
        )


def read_fold_rows(model: Model, source: Source) -> FoldRows:
    """Read the response and everything of the linear predictor.

    Raises
    ------
    OptionError
        A column is not in the data, or the weights of the fit were an array.
    LevelError
        A covariate, or the response, has a level that was not there in fitting.
    DataError
        A value that the formula or the response cannot take.
    """
    spec = model.spec
    if spec.weights == "(array)":
        raise OptionError("the model was fitted with an array of weights; put them into a column and fit again")
    selection = select(spec)
    rows = read_rows(model, source, selection)
    columns = response_columns(spec.response)
    numbers = sorted(columns.numbers | ({spec.weights} if spec.weights else set()))
    table = read_table(source, numbers=numbers, factors=sorted(columns.factors))
    y, trials = response_values(spec.response, table)
    weights = table.numbers[spec.weights] if spec.weights else trials
    whole = _whole(model, rows)
    kept = np.isfinite(y) & whole
    if weights is not None:
        kept &= weights > 0
    check_trials(spec.response, y[kept], None if weights is None else weights[kept])
    x, offset, covariates = _covariates(model, rows)
    kept &= np.isfinite(x).all(axis=1) & np.isfinite(offset)
    for values in covariates.values():
        kept &= np.isfinite(values).all(axis=1)
    found = FoldRows(
        y=y,
        weights=weights,
        x=x,
        offset=offset,
        groups=tuple(GroupRows(rows.codes[g], covariates[g], rows.units.get(g)) for g in range(len(spec.groups))),
        latent=rows.latent,
        left_out=int(np.count_nonzero(~kept)),
        unknown=rows.unknown,
    )
    return found if kept.all() else found.take(kept)


def _whole(model: Model, rows: Rows) -> npt.NDArray[np.bool_]:
    """Rows whose every factor has a value."""
    whole = np.ones(rows.table.rows, np.bool_)
    for codes in rows.codes.values():
        whole &= codes != MISSING
    for term in rows.latent.values():
        for side in term:
            for one in side:
                whole &= one.codes != MISSING
    return whole


def _covariates(model: Model, rows: Rows) -> tuple[FloatArray, FloatArray, dict[int, FloatArray]]:
    n = rows.table.rows
    x, offset = np.empty((n, len(model.beta))), np.zeros(n)
    of_groups = {g: np.empty((n, len(spec.coefficients))) for g, spec in enumerate(model.spec.groups)}
    for batch in batches(model, rows, select(model.spec), ROWS_AT_ONCE):
        if batch.x is not None:
            x[batch.rows] = batch.x
        if batch.offset is not None:
            offset[batch.rows] = batch.offset
        for group in batch.groups:
            of_groups[group.group][batch.rows] = group.covariates
    return x, offset, of_groups


@dataclass(frozen=True, eq=False)
class Values:
    """Everything that the linear predictor multiplies, at one point.

    Attributes
    ----------
    beta : float64 array, shape (p,)
    effects : list of float64 arrays (levels, k)
        One for each grouping factor; overwritten as levels are found.
    vectors : dict of Place to float64 array (levels, rank)
        Likewise of every factor of a latent term.
    """

    beta: FloatArray
    effects: list[FloatArray]
    vectors: dict[Place, FloatArray]


def values_of(model: Model) -> Values:
    """The model's estimates, as copies."""
    return Values(
        model.beta,
        [group.modes.copy() for group in model.groups],
        {
            (t, s, f): field.vectors.astype(np.float64)
            for t, term in enumerate(model.latent)
            for s, side in enumerate(term.sides)
            for f, field in enumerate(side)
        },
    )


def block_of(factor: Merged, values: Values) -> FloatArray:
    """The coefficients of all levels, shape (levels, d)."""
    parts = [] if factor.group is None else [values.effects[factor.group]]
    return np.concatenate([*parts, *(values.vectors[place] for place in factor.fields)], axis=1)


def set_block(factor: Merged, values: Values, levels: IntArray, block: FloatArray) -> None:
    """Overwrite the coefficients of some levels."""
    if factor.group is not None:
        values.effects[factor.group][levels] = block[:, : factor.effects]
    for place, own in zip(factor.fields, factor.field_slices, strict=True):
        values.vectors[place][levels] = block[:, own]


def linear_predictor(rows: FoldRows, values: Values) -> FloatArray:
    """Of every row, shape (rows,)."""
    eta = rows.offset + rows.x @ values.beta
    for one, effects in zip(rows.groups, values.effects, strict=True):
        eta += np.einsum("nk,nk->n", one.covariates, one.by_code(effects)[one.codes])
    for t, sides in rows.latent.items():
        sums = [_side(t, s, side, values) for s, side in enumerate(sides)]
        for at in range(0, len(eta), ROWS_AT_ONCE):
            here = slice(at, at + ROWS_AT_ONCE)
            parts = [np.sum([units[codes[here]] for units, codes in side], axis=0) for side in sums]
            whole = np.sum(parts, axis=0)
            eta[here] += 0.5 * (np.sum(whole**2, axis=1) - np.sum([np.sum(one**2, axis=1) for one in parts], axis=0))
    return eta


def partners(rows: FoldRows, values: Values, place: Place) -> list[tuple[FloatArray, CodeArray]]:
    """What multiplies the vectors of one factor: vectors of units, and which one each row has, to be summed."""
    t, own, _ = place
    return [one for s, side in enumerate(rows.latent[t]) if s != own for one in _side(t, s, side, values)]


def _side(t: int, s: int, side: tuple[FieldRows, ...], values: Values) -> list[tuple[FloatArray, CodeArray]]:
    out = []
    for f, of in enumerate(side):
        vectors = values.vectors[t, s, f]
        # zeros for UNKNOWN and MISSING ones, which are -2 and -1
        own = np.concatenate([vectors, np.zeros((2, vectors.shape[1]))])
        if of.membership is not None:
            own = np.concatenate([of.membership.sums(own), np.zeros((2, vectors.shape[1]))])
        out.append((own, of.codes))
    return out
