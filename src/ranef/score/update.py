"""Levels of a fitted model after new rows: each one's normal distribution, updated in turn (Bayesian filtering).

A level goes into an update with the mean and precision that it came out of the last one with, or those that the fit
says; Lambda Learner (Ramanath et al. 2021) does the same for a logistic regression's random effects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.artifact.states import LevelStates
from ranef.errors import OptionError
from ranef.score.fold import Folded, new_levels_target, response_of, with_counts
from ranef.score.fold_rows import FoldRows, read_fold_rows, values_of
from ranef.score.level_blocks import Target, Updated, solved, written_back
from ranef.score.merged import (
    Merged,
    level_states,
    levels_of,
    merged_factor,
    merged_factors,
    precision_of,
    prior_covariance,
)
from ranef.score.new_levels import with_new_levels
from ranef.score.pair import choose_pair
from ranef.table import Source

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def update_levels(
    model: Model,
    source: Source,
    groups: str | Sequence[str] | None = None,
    *,
    forget: float = 0.0,
    tables: Mapping[str, Any] | None = None,
) -> Folded:
    """The model with the levels of one or several factors as they are after new rows.

    Parameters
    ----------
    model : Model
    source : Source
        New rows, with the response.
    groups : str or sequence of str, optional
        The factors whose levels change; default: the one that gets recommendations, or the only one.
    forget : float
        The share of what a level has learned beyond its prior that is forgotten before its new rows count.
    tables : mapping of str to table, optional
        Attributes of new levels, by key.

    Returns
    -------
    Folded
        New levels of any factor are folded in.

    Raises
    ------
    OptionError
        The model is Bayesian, ``forget`` is no share, or ``groups`` names no factor.
    LevelError, DataError, FitError
        As `ranef.score.fold.fold_in`.

    Notes
    -----
    Given everything else, a level's rows of a Gaussian model may come in any pieces, in any order. Of other families
    a piece is linearised at the mode after it, so that several pieces come near the mode of all rows together and not
    to it; with pieces that are large, or small beside what is known already, the difference is of second order.
    Where several factors change, each level's own precision is kept, but not how levels of two factors depend on each
    other: then pieces matter, too.
    """
    if model.sample is not None:
        raise OptionError(
            "a Bayesian fit is its draws, and no level of it has one normal distribution to go on from: fold in new "
            "levels, fit again with the new rows, or fit with another method"
        )
    if not 0.0 <= forget <= 1.0:
        raise OptionError(f"forget={forget!r}: give a share between 0, nothing, and 1, everything")
    chosen = _chosen(model, groups)
    extended = with_new_levels(model, source, tables)
    model = extended.model
    rows = read_fold_rows(model, source)
    targets, changed = [], {}
    for name in dict.fromkeys([*chosen, *extended.before]):
        factor = merged_factor(model, name)
        before = extended.before.get(name, len(levels_of(model, factor)[0]))
        if name in chosen:
            met = np.unique(rows.codes(factor))
            changed[name] = met[(met >= 0) & (met < before)]
            levels = np.concatenate([changed[name], np.arange(before, len(levels_of(model, factor)[0]))])
            targets.append(_target(model, factor, levels, len(changed[name]), forget))
        else:
            targets.append(new_levels_target(model, factor, before))
    idle = np.ones(len(rows.y), np.bool_)
    for target in targets:
        idle &= ~np.isin(rows.codes(target.factor), target.levels)
    own = rows.take(~idle) if idle.any() else rows
    model = _updated(model, own, targets, chosen)
    first = {one.factor: 0 if one.factor.name in chosen else extended.before[one.factor.name] for one in targets}
    model = with_counts(model, own, first)
    new = {
        name: len(levels_of(model, merged_factor(model, name))[0]) - before for name, before in extended.before.items()
    }
    counts = {name: len(levels) for name, levels in changed.items() if len(levels)}
    return Folded(model, new, counts, len(own.y), rows.left_out, int(np.count_nonzero(idle)), rows.unknown)


def _chosen(model: Model, groups: str | Sequence[str] | None) -> tuple[str, ...]:
    if groups is not None:
        names = [groups] if isinstance(groups, str) else list(groups)
        return tuple(dict.fromkeys(merged_factor(model, name).name for name in names))
    known = [one.name for one in merged_factors(model)]
    if len(known) == 1:
        return (known[0],)
    try:
        entity, _ = choose_pair(model)
    except OptionError:
        entity = ""
    if entity not in known:
        raise OptionError(
            f"groups= says whose levels the new rows change; the model has {', '.join(map(repr, known)) or 'none'}"
        )
    return (entity,)


def _target(model: Model, factor: Merged, levels: IntArray, known: int, forget: float) -> Target:
    """Levels at what is known of them; the first ``known`` are the model's, the others at their prior."""
    d = factor.size
    covariance = prior_covariance(model, factor)
    prior = precision_of(covariance, covariance)
    mean = np.zeros((len(levels), d))
    precision = np.broadcast_to(prior, (len(levels), d, d)).copy()
    mean[:known], precision[:known] = level_states(model, factor, levels[:known])
    sensitivity = moves = None
    if factor.group is not None:
        own = precision[:, : factor.effects, : factor.effects]
        sensitivity = own @ model.groups[factor.group].sensitivity[levels]
        moves = None if model.thresholds is None else own @ model.thresholds.moves[factor.group][levels]
    if forget:
        # towards the prior, around zero
        right = (1.0 - forget) * np.matmul(precision, mean[:, :, None])
        precision = (1.0 - forget) * precision + forget * prior
        mean = np.linalg.solve(precision, right)[:, :, 0]
        sensitivity = None if sensitivity is None else (1.0 - forget) * sensitivity
        moves = None if moves is None else (1.0 - forget) * moves
    return Target(factor, levels, mean, np.eye(d), precision, sensitivity, moves)


def _updated(model: Model, rows: FoldRows, targets: Sequence[Target], chosen: Sequence[str]) -> Model:
    found = solved(model, rows, targets, values_of(model), response_of(model, rows), precisions=True)
    states = {one.factor: one for one in model.states}
    for target, updated in found:
        name = target.factor.name
        if name in chosen:
            states[name] = _joined(states.get(name), target, updated)
    return replace(written_back(model, found), states=tuple(states.values()))


def _joined(before: LevelStates | None, target: Target, updated: Updated) -> LevelStates:
    """The states of a factor with those of the levels that have changed."""
    rows, columns = np.tril_indices(target.factor.size)
    packed = updated.precisions[:, rows, columns]
    if before is None:
        return LevelStates(target.factor.name, target.levels, updated.block, packed)
    kept = ~np.isin(before.levels, target.levels)
    levels = np.concatenate([before.levels[kept], target.levels])
    order = np.argsort(levels)
    mean = np.concatenate([before.mean[kept], updated.block])[order]
    return LevelStates(target.factor.name, levels[order], mean, np.concatenate([before.precision[kept], packed])[order])
