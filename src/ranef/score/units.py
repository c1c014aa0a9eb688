"""Rows that belong to several levels, or to a time between those of the fit: what a unit of new data is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.artifact.model import GroupModel, Posterior
from ranef.design.fields import bag_membership, times_of
from ranef.design.membership import CodeArray, FloatArray, Membership, Walk
from ranef.design.periods import Period
from ranef.design.spec import FieldSpec
from ranef.table import MISSING, UNKNOWN, Combination, Factor, Levels, encode_combination, interaction, used
from ranef.table.encode import look_up


@dataclass(frozen=True, eq=False)
class Units:
    """The units of new rows.

    Attributes
    ----------
    membership : Membership
        Their levels among those of the fit.
    surplus : float64 array, shape (units,)
        Variance of the unit's effect that these do not explain, over that of a level, or of one unit of time.
    new : bool array, shape (units,)
        Whether the unit has a level that the fit did not have, and that is not between two times of the fit.
    """

    membership: Membership
    surplus: FloatArray
    new: npt.NDArray[np.bool_]

    def take(self, units: npt.NDArray[np.integer]) -> Units:
        """Some of them."""
        start, count = self.membership.start, np.diff(self.membership.start)[units]
        ends = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        place = np.arange(ends[-1]) + np.repeat(start[:-1][units] - ends[:-1], count)
        membership = Membership(ends, self.membership.level[place], self.membership.weight[place])
        return Units(membership, self.surplus[units], self.new[units])


def units_of(
    spec: FieldSpec,
    learned: GroupModel,
    factors: Mapping[str, Factor],
    column_levels: Mapping[str, Levels],
    periods: Sequence[Period],
) -> tuple[CodeArray, Units]:
    """The unit of each row, MISSING if it has none, and the units.

    Parameters
    ----------
    spec : FieldSpec
        Of another kind than a factor.
    learned : GroupModel
    factors : mapping of str to Factor
        The columns of the new rows, levels as they are there.
    column_levels : mapping of str to Levels
        Of the fit.
    periods : sequence of Period
    """
    if spec.kind == "bag":
        factor = used(factors[spec.columns[0]])
        _, whole = bag_membership(spec, factor.levels, learned.levels)
        return factor.codes, _known(whole)
    if spec.kind == "history":
        return of_owners(spec, cast(Levels, learned.owners), cast(Membership, learned.membership), factors)
    return _of_walk(spec, learned, factors, column_levels, periods)


def with_units(posterior: Posterior, groups: Sequence[GroupModel], units: Mapping[int, Units]) -> Posterior:
    """The posterior with units as further levels, in place of those that they are made of.

    Parameters
    ----------
    posterior : Posterior
    groups : sequence of GroupModel
    units : mapping of int to Units
        By group.
    """
    dense, starts = posterior.dense, list(posterior.kept_start)
    for group, own in units.items():
        place = posterior.kept.index(group)
        levels, k = groups[group].modes.shape
        here = slice(posterior.kept_start[place], posterior.kept_start[place] + levels * k)
        beside = _summed(dense[here], groups[group], own)
        corner = _summed(np.ascontiguousarray(beside[:, here].T), groups[group], own)
        starts[place] = len(dense)
        dense = np.block([[dense, beside.T], [beside, corner]])
    return replace(posterior, dense=dense, kept_start=tuple(starts))


def _summed(rows: FloatArray, learned: GroupModel, units: Units) -> FloatArray:
    """Rows of all coefficients of a group, those of a walk's increments, as those of units."""
    blocks = rows.reshape(*learned.modes.shape, -1)
    if learned.walk is not None:
        blocks = learned.walk.membership.sums(blocks)
    return units.membership.sums(blocks).reshape(-1, rows.shape[1])


def of_owners(
    spec: FieldSpec, owners: Levels, membership: Membership, factors: Mapping[str, Factor]
) -> tuple[CodeArray, Units]:
    """Histories are those of the fit; an owner that it did not have has none, and is the last unit."""
    factor = factors[spec.columns[1]]
    codes = _at(look_up(spec.columns[1], factor.levels, owners), factor.codes, len(owners))
    start = np.append(membership.start, membership.start[-1])
    new = np.arange(len(owners) + 1) == len(owners)
    return codes, Units(Membership(start, membership.level, membership.weight), np.zeros(len(new)), new)


def _at(lookup: CodeArray, codes: CodeArray, other: int) -> CodeArray:
    """The lookup of each row's code, ``other`` for what it does not know, MISSING where the row's value is."""
    units = np.where(lookup >= 0, lookup, other)
    return np.append(units, np.array([other, MISSING])).astype(np.int32)[codes]


def _known(whole: Membership) -> Units:
    known = whole.level >= 0
    other = np.where(known, 0.0, whole.weight)
    start = np.concatenate([[0], np.cumsum(np.bincount(whole.unit[known], minlength=whole.units))]).astype(np.int64)
    return Units(
        Membership(start, whole.level[known], whole.weight[known]),
        np.bincount(whole.unit, other**2, whole.units).astype(np.float64),
        np.bincount(whole.unit, ~known, whole.units) > 0,
    )


def _of_walk(
    spec: FieldSpec,
    learned: GroupModel,
    factors: Mapping[str, Factor],
    column_levels: Mapping[str, Levels],
    periods: Sequence[Period],
) -> tuple[CodeArray, Units]:
    """Units are the levels of the new rows."""
    column = spec.columns[spec.time]
    own = [used(factors[name]) for name in spec.columns]
    whole, combination = (own[0], None) if len(own) == 1 else interaction(own)
    time = _times(column, own[spec.time].levels, column_levels[column], periods)
    series = np.zeros(len(whole.levels), np.int32)
    if combination is not None and learned.combination is not None:
        time = time[combination.parts[:, spec.time]]
        known, _ = np.unique(np.delete(learned.combination.parts, spec.time, axis=1), axis=0, return_inverse=True)
        names = [name for place, name in enumerate(spec.columns) if place != spec.time % len(spec.columns)]
        parts = [
            np.append(look_up(name, one.levels, column_levels[name]), UNKNOWN)[combination.parts[:, place]]
            for place, (name, one) in enumerate(zip(spec.columns, own, strict=True))
            if name in names
        ]
        series = encode_combination(parts, Combination(known.astype(np.int32)))
    return whole.codes, walk_units(cast(Walk, learned.walk), series, time)


def walk_units(walk: Walk, series: CodeArray, time: FloatArray) -> Units:
    """Times as the levels of a walk: one of them, two neighbours in time, or the nearest.

    Given its neighbours a random walk is a Brownian bridge between them; beyond the last level of its series it goes
    on from there, and before the first likewise. A series that the fit did not have is new.

    Parameters
    ----------
    walk : Walk
    series : int32 array, shape (units,)
        Negative where it is new.
    time : float64 array, shape (units,)
        NaN where it is no time of the fit, and none can be told.
    """
    sorted_series, sorted_time = walk.series[walk.order], walk.time[walk.order]
    first = float(walk.gap[0])
    start, level, weight = [0], list[int](), list[float]()
    surplus, new = np.zeros(len(time)), np.zeros(len(time), np.bool_)
    for unit, (s, t) in enumerate(zip(series, time, strict=True)):
        low, high = np.searchsorted(sorted_series, [s, s + 1])
        if s < 0 or low == high or np.isnan(t):
            surplus[unit], new[unit] = first, True
            start.append(len(level))
            continue
        after = low + int(np.searchsorted(sorted_time[low:high], t))
        at = min(after, high - 1)
        before = max(after - 1, low)
        if sorted_time[at] == t or before == at or after == high:
            level.append(int(walk.order[at]))
            weight.append(1.0)
            surplus[unit] = abs(t - sorted_time[at])
        else:
            left, right = sorted_time[before], sorted_time[at]
            share = (t - left) / (right - left)
            ends = sorted([(int(walk.order[before]), 1 - share), (int(walk.order[at]), share)])
            level += [one for one, _ in ends]
            weight += [one for _, one in ends]
            surplus[unit] = (t - left) * (right - t) / (right - left)
        start.append(len(level))
    membership = Membership(np.array(start, np.int64), np.array(level, np.int32), np.array(weight, np.float64))
    return Units(membership, surplus, new)


def _times(column: str, levels: Levels, known: Levels, periods: Sequence[Period]) -> FloatArray:
    """The time of each level; of declared levels their place among those of the fit, NaN for others."""
    dtype = known.values.type
    measured = any(one.name == column for one in periods) or not (
        pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_boolean(dtype)
    )
    if measured:
        return times_of(column, levels, periods)
    code = look_up(column, levels, known)
    return np.where(code >= 0, code, np.nan).astype(np.float64)
