"""Variances of linear combinations of fixed effects and modes, from the eliminated mixed-model equations.

A row is a vector over all coefficients. Stage by stage of the elimination, its part on the stage's coefficients ``w``
adds ``w' own w`` and passes ``-pull' w`` on to what is eliminated later; at the end the dense part
``v = e - sum pull' w`` adds ``v' dense v``, where ``e`` is the row's own few entries there. (Block Gaussian elimination
of Henderson's equations, read backwards.) Rows that meet the same levels share ``pull dense`` and ``pull dense pull'``,
so the cost is one small product a level and little a row.

Where the equations were never factorised there are draws instead. The level that was eliminated first enters by the law
of total variance: its covariance given everything else, plus the mean square of the draws' means. For any other level
the covariance of a part of it is known exactly, and how far the draws are off there corrects the mean square (a control
variate with coefficient one, free of bias). For a factor that holds an eliminated level of the same row the part is
mostly in that level's mean already, and the draws alone are closer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import FloatArray, GroupModel, Posterior, PosteriorDraws, PosteriorStage
from ranef.design.membership import Membership
from ranef.score.rows import Batch
from ranef.table import UNKNOWN, CodeArray

IntArray: TypeAlias = npt.NDArray[np.int64]
# codes of a grouping factor, and covariates in the solver's coordinates: zero where the level is not known
Weighted: TypeAlias = tuple[CodeArray, FloatArray]

NUMBERS_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class Visit:
    """What rows hold of one stage's coefficients.

    Attributes
    ----------
    stage : PosteriorStage
    place : int64 array, shape (rows,)
        The level in the stage's order, -1 for none.
    weights : float64 array, shape (rows, k)
        Zero where there is no level.
    """

    stage: PosteriorStage
    place: IntArray
    weights: FloatArray


@dataclass(frozen=True, eq=False)
class Entries:
    """What rows hold of the dense part themselves.

    Attributes
    ----------
    x : float64 array, shape (rows, p)
        Of the columns ``fixed``.
    columns : int64 array, shape (rows, c); values : float64 array, shape (rows, c)
        The coefficients of the other factors' levels; zero where a level is not known.
    """

    fixed: slice
    x: FloatArray
    columns: IntArray
    values: FloatArray


def coefficient_variance(posterior: Posterior | PosteriorDraws, batch: Batch) -> FloatArray:
    """Variance of ``x'beta + z'b`` given the covariance parameters; levels that are not known count as zero.

    Parameters
    ----------
    posterior : Posterior or PosteriorDraws
    batch : Batch

    Returns
    -------
    float64 array, shape (rows,)
        Response units squared; without meaning where the batch lacks a covariate.
    """
    rows = len(batch.rows)
    groups = {
        group.group: (
            group.codes,
            np.nan_to_num(group.covariates) @ posterior.z_back[group.group][group.coefficients] * group.known[:, None],
        )
        for group in batch.groups
    }
    if isinstance(posterior, PosteriorDraws):
        units = {group.group: group.units.membership for group in batch.groups if group.units is not None}
        return posterior.scale * _drawn(posterior, batch.x, groups, units, rows)
    variance, visits = _eliminated(posterior, groups, rows)
    entries = _entries(posterior, batch.x, groups, rows)
    variance += _own_square(posterior.dense, entries)
    if visits:
        variance += _pulled_square(posterior.dense, entries, visits)
    # rounding can take a variance of zero below it
    return posterior.scale * variance.clip(0)


def apart_variance(groups: Sequence[GroupModel], batch: Batch) -> tuple[Batch, FloatArray]:
    """The batch without the levels that stand apart of the posterior, and the variance that these add.

    Such a level moves with the fixed effects as its ``sensitivity`` says, which is part of the batch's ``x`` then;
    besides, it has the covariance ``conditional``.

    Returns
    -------
    batch : Batch
    variance : float64 array, shape (rows,)
    """
    variance, x, out = np.zeros(len(batch.rows)), batch.x, []
    for group in batch.groups:
        learned = groups[group.group]
        if learned.apart is None or group.units is not None:
            out.append(group)
            continue
        at = np.flatnonzero((group.codes >= 0) & np.append(learned.apart, [False, False])[group.codes])
        codes, z = group.codes[at], np.nan_to_num(group.covariates[at])
        own = learned.conditional[codes][:, group.coefficients][:, :, group.coefficients]
        variance[at] += np.einsum("na,nab,nb->n", z, own, z)
        if x is not None:
            x = x.copy()
            x[at] -= np.einsum("na,nap->np", z, learned.sensitivity[codes][:, group.coefficients])
        rest = group.codes.copy()
        rest[at] = UNKNOWN
        out.append(replace(group, codes=rest))
    return replace(batch, x=x, groups=tuple(out)), variance


def _drawn(
    posterior: PosteriorDraws,
    x: FloatArray | None,
    groups: Mapping[int, Weighted],
    units: Mapping[int, Membership],
    rows: int,
) -> FloatArray:
    """The variance by draws, over ``scale``; the coefficients that a row's levels do not have weigh nothing."""
    values = np.zeros((rows, posterior.beta.shape[1]))
    if x is not None:
        values += np.nan_to_num(x) @ posterior.x_back @ posterior.beta
    own, correction = np.zeros(rows), np.zeros(rows)
    inside = np.zeros(rows, np.bool_)
    chain = [group for group in posterior.chain if group in groups]
    for group in [*chain, *(group for group in groups if group not in chain)]:
        codes, weights = groups[group]
        drawn, own_known = posterior.draws[group], posterior.known[group]
        if group in units:
            squared = replace(units[group], weight=units[group].weight ** 2)
            drawn, own_known = units[group].sums(drawn), squared.sums(own_known)
        # the weights of a level that is not known are zero, whatever is looked up for it
        for w, draws in zip(weights.T, drawn.transpose(1, 0, 2), strict=True):
            values += w[:, None] * draws[codes]
        known = np.einsum("na,nab,nb->n", weights, own_known[codes], weights)
        if posterior.chain[:1] == (group,):
            own += known
        elif group in chain:
            correction += np.where(inside, 0.0, known)
        else:
            correction += known
        if group in chain:
            inside |= codes >= 0
    return np.asarray(own + (np.mean(values**2, axis=1) + correction).clip(0))


def prior_variance(groups: Sequence[GroupModel], batch: Batch) -> FloatArray:
    """``z' Sigma z`` of every level that is not known, summed over the grouping factors; shape (rows,).

    Of bags and walks, the part of it that known levels do not explain."""
    total = np.zeros(len(batch.rows))
    for group in batch.groups:
        surplus = group.surplus
        new = surplus > 0
        if new.any():
            covariance = groups[group.group].covariance[np.ix_(group.coefficients, group.coefficients)]
            z = group.covariates[new]
            total[new] += surplus[new] * np.einsum("na,ab,nb->n", z, covariance, z)
    return total


def _eliminated(posterior: Posterior, groups: Mapping[int, Weighted], rows: int) -> tuple[FloatArray, list[Visit]]:
    """What the eliminated factors add by themselves, and all visits of their levels."""
    variance = np.zeros(rows)
    passed: list[list[Visit]] = [[] for _ in posterior.stages]
    visits: list[Visit] = []
    for s, stage in enumerate(posterior.stages):
        if stage.group in groups:
            codes, weights = groups[stage.group]
            passed[s].insert(0, Visit(stage, np.where(codes >= 0, stage.position[codes], -1), weights))
        for visit in _merged(passed[s]):
            visits.append(visit)
            at = np.flatnonzero(visit.place >= 0)
            place, weights = visit.place[at], visit.weights[at]
            variance[at] += np.einsum("na,nab,nb->n", weights, stage.own[place], weights)
            up = -np.einsum("na,nab->nb", weights, stage.pull_up[place])
            first = 0
            for later, parent in enumerate(stage.parents, s + 1):
                outer = posterior.stages[later]
                k = outer.own.shape[1]
                to = Visit(outer, np.full(rows, -1), np.zeros((rows, k)))
                to.place[at] = parent[place]
                to.weights[at] = up[:, first : first + k]
                passed[later].append(to)
                first += k
    return variance, visits


def _merged(visits: list[Visit]) -> list[Visit]:
    """Visits of the same level by the same row put together.

    A row mostly meets the level that its inner levels are nested in; but new data may put an inner level elsewhere
    than the fit's data did, and then the row meets two levels of one stage.
    """
    merged: list[Visit] = []
    for visit in visits:
        place, weights = visit.place.copy(), visit.weights.copy()
        for other in merged:
            same = (place >= 0) & (place == other.place)
            other.weights[same] += weights[same]
            place[same], weights[same] = -1, 0
        if (place >= 0).any():
            merged.append(Visit(visit.stage, place, weights))
    return merged


def _entries(posterior: Posterior, x: FloatArray | None, groups: Mapping[int, Weighted], rows: int) -> Entries:
    p = len(posterior.x_back)
    columns, values = [np.zeros((rows, 0), np.int64)], [np.zeros((rows, 0))]
    for group, start in zip(posterior.kept, posterior.kept_start, strict=True):
        if group in groups:
            codes, weights = groups[group]
            k = weights.shape[1]
            columns.append(start + np.maximum(codes, 0)[:, None].astype(np.int64) * k + np.arange(k))
            values.append(weights)
    return Entries(
        slice(posterior.fixed_start, posterior.fixed_start + p),
        np.zeros((rows, p)) if x is None else np.nan_to_num(x) @ posterior.x_back,
        np.concatenate(columns, axis=1),
        np.concatenate(values, axis=1),
    )


def _own_square(dense: FloatArray, e: Entries) -> FloatArray:
    """``e' dense e``."""
    total: FloatArray = np.einsum("np,np->n", e.x @ dense[e.fixed, e.fixed], e.x)
    for column, value in zip(e.columns.T, e.values.T, strict=True):
        total += 2 * value * np.einsum("np,np->n", dense[column, e.fixed], e.x)
        for other, weight in zip(e.columns.T, e.values.T, strict=True):
            total += value * weight * dense[column, other]
    return total


def _pulled_square(dense: FloatArray, e: Entries, visits: Sequence[Visit]) -> FloatArray:
    """``v' dense v - e' dense e``."""
    places = np.column_stack([visit.place for visit in visits])
    weights = np.concatenate([visit.weights for visit in visits], axis=1)
    order = np.lexsort(places.T)
    places = places[order]
    starts = np.flatnonzero(np.append(True, (places[1:] != places[:-1]).any(axis=1)))
    patterns, bounds = places[starts], np.append(starts, len(places))
    total = np.empty(len(places))
    step = max(1, NUMBERS_AT_ONCE // (weights.shape[1] * len(dense)))
    for first in range(0, len(patterns), step):
        last = min(first + step, len(patterns))
        cross, square = _products(dense, visits, patterns[first:last], weights.shape[1])
        rows = order[bounds[first] : bounds[last]]
        at, w = np.repeat(np.arange(last - first), np.diff(bounds[first : last + 1])), weights[rows]
        with_own = np.einsum("nkp,np->nk", cross[:, :, e.fixed][at], e.x[rows])
        for column, value in zip(e.columns[rows].T, e.values[rows].T, strict=True):
            with_own += cross[at, :, column] * value[:, None]
        total[rows] = np.einsum("nk,nk->n", np.einsum("nkl,nl->nk", square[at], w) - 2 * with_own, w)
    return total


def _products(
    dense: FloatArray, visits: Sequence[Visit], patterns: IntArray, size: int
) -> tuple[FloatArray, FloatArray]:
    """``pull dense`` and ``pull dense pull'`` of the levels of each pattern, one below the other.

    Returns
    -------
    cross : float64 array, shape (patterns, size, columns)
    square : float64 array, shape (patterns, size, size)
    """
    cross = np.zeros((len(patterns), size, len(dense)))
    square = np.zeros((len(patterns), size, size))
    for number, places in enumerate(patterns):
        met = []
        at = 0
        for visit, place in zip(visits, places, strict=True):
            stage, k = visit.stage, visit.weights.shape[1]
            if place >= 0:
                i, j = stage.offsets[place : place + 2]
                met.append((slice(at, at + k), stage.columns[i:j], stage.pull[k * i : k * j].reshape(k, -1)))
            at += k
        for own, columns, pull in met:
            cross[number, own] = pull @ dense[columns]
            for other, other_columns, other_pull in met:
                square[number, own, other] = cross[number, own][:, other_columns] @ other_pull.T
    return cross, square
