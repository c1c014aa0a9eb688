"""Variances of linear combinations of fixed effects and modes, from the eliminated mixed-model equations.

A row is a vector over all coefficients. Stage by stage of the elimination, its part on the stage's coefficients ``w``
adds ``w' own w`` and passes ``-pull' w`` on to what is eliminated later; at the end the dense part ``v`` adds
``v' dense v``. (Block Gaussian elimination of Henderson's equations, read backwards.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import FloatArray, GroupModel, Posterior, PosteriorStage
from ranef.score.rows import Batch
from ranef.table import UNKNOWN

DENSE_NUMBERS = 1 << 22


@dataclass(frozen=True, eq=False)
class Visit:
    """What rows hold of one stage's coefficients.

    Attributes
    ----------
    place : int64 array, shape (rows,)
        The level in the stage's order, -1 for none.
    weights : float64 array, shape (rows, k)
    """

    place: npt.NDArray[np.int64]
    weights: FloatArray


def coefficient_variance(posterior: Posterior, batch: Batch) -> FloatArray:
    """Variance of ``x'beta + z'b`` given the covariance parameters; levels that are not known count as zero.

    Parameters
    ----------
    posterior : Posterior
    batch : Batch

    Returns
    -------
    float64 array, shape (rows,)
        Response units squared; without meaning where the batch lacks a covariate.
    """
    rows = batch.stop - batch.start
    step = max(1, DENSE_NUMBERS // len(posterior.dense))
    variance = np.empty(rows)
    for start in range(0, rows, step):
        here = slice(start, min(start + step, rows))
        x = None if batch.x is None else np.nan_to_num(batch.x[here]) @ posterior.x_back
        groups = [
            Visit(
                group.codes[here].astype(np.int64),
                np.nan_to_num(group.covariates[here]) @ posterior.z_back[group.group][group.coefficients],
            )
            for group in batch.groups
        ]
        by_group = {group.group: visit for group, visit in zip(batch.groups, groups, strict=True)}
        variance[here] = _variance(posterior, x, by_group, here.stop - here.start)
    return posterior.scale * variance


def prior_variance(groups: Sequence[GroupModel], batch: Batch) -> FloatArray:
    """``z' Sigma z`` of every level that is not known, summed over the grouping factors; shape (rows,)."""
    total = np.zeros(batch.stop - batch.start)
    for group in batch.groups:
        new = group.codes == UNKNOWN
        if new.any():
            covariance = groups[group.group].covariance[np.ix_(group.coefficients, group.coefficients)]
            z = group.covariates[new]
            total[new] += np.einsum("na,ab,nb->n", z, covariance, z)
    return total


def _variance(posterior: Posterior, x: FloatArray | None, groups: dict[int, Visit], rows: int) -> FloatArray:
    """In the solver's units; ``groups`` by their place in the model, weights in its coordinates."""
    dense = np.zeros((rows, len(posterior.dense)))
    if x is not None:
        dense[:, posterior.fixed_start : posterior.fixed_start + x.shape[1]] = x
    for group, start in zip(posterior.kept, posterior.kept_start, strict=True):
        if group in groups:
            visit, k = groups[group], groups[group].weights.shape[1]
            known = np.flatnonzero(visit.place >= 0)
            columns = start + visit.place[known, None] * k + np.arange(k)
            dense[known[:, None], columns] = visit.weights[known]
    variance = np.zeros(rows)
    passed: list[list[Visit]] = [[] for _ in posterior.stages]
    for s, stage in enumerate(posterior.stages):
        own = [_in_order(stage, groups[stage.group])] if stage.group in groups else []
        for visit in _merged(own + passed[s]):
            at = np.flatnonzero(visit.place >= 0)
            place, weights = visit.place[at], visit.weights[at]
            variance[at] += np.einsum("na,nab,nb->n", weights, stage.own[place], weights)
            _pull(stage, at, place, weights, dense)
            up = -np.einsum("na,nab->nb", weights, stage.pull_up[place])
            first = 0
            for later, parent in enumerate(stage.parents, s + 1):
                k = posterior.stages[later].own.shape[1]
                to = Visit(np.full(rows, -1), np.zeros((rows, k)))
                to.place[at] = parent[place]
                to.weights[at] = up[:, first : first + k]
                passed[later].append(to)
                first += k
    touched = np.flatnonzero(dense.any(axis=0))
    inner = posterior.dense
    if 2 * len(touched) < len(inner):  # else copying would cost more than it spares
        dense, inner = dense[:, touched], inner[np.ix_(touched, touched)]
    variance += np.einsum("na,na->n", dense @ inner, dense)
    return variance


def _in_order(stage: PosteriorStage, visit: Visit) -> Visit:
    """A grouping factor's codes as places in the stage's order."""
    place = np.where(visit.place >= 0, stage.position[visit.place], -1)
    return Visit(place, visit.weights)


def _merged(visits: list[Visit]) -> list[Visit]:
    """Visits of the same level by the same row put together.

    A row mostly meets the level that its inner levels are nested in; but new data may put an inner level elsewhere
    than the fit's data did, and then the row meets two levels of one stage.
    """
    merged: list[Visit] = []
    for visit in visits:
        place, weights = visit.place.copy(), visit.weights
        for other in merged:
            same = (place >= 0) & (place == other.place)
            other.weights[same] += weights[same]
            place[same] = -1
        if (place >= 0).any():
            merged.append(Visit(place, weights.copy()))
    return merged


def _pull(
    stage: PosteriorStage,
    rows: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
    weights: FloatArray,
    dense: FloatArray,
) -> None:
    """Subtract ``pull' w`` of the levels at ``place`` from the dense part of ``rows``."""
    first = stage.offsets[place]
    width = stage.offsets[place + 1] - first
    row = np.repeat(np.arange(len(place)), width)
    column = np.arange(len(row)) - np.repeat(np.cumsum(width) - width, width)
    total = np.zeros(len(row))
    k = weights.shape[1]
    for a in range(k):
        total += weights[row, a] * stage.pull[k * first[row] + a * width[row] + column]
    dense[rows[row], stage.columns[first[row] + column]] -= total
