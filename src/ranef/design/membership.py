"""Which levels a row belongs to, where these are not one: bags of levels, and walks along a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Membership:
    """The levels of every unit, with weights: a sparse matrix by rows. A unit is what rows have in common.

    Attributes
    ----------
    start : int64 array, shape (units + 1,)
    level : int32 array, shape (members,)
        Those of unit ``u`` are ``level[start[u]:start[u + 1]]``, ascending and distinct.
    weight : float64 array, shape (members,)
    """

    start: IntArray
    level: CodeArray
    weight: FloatArray

    @property
    def units(self) -> int:
        return len(self.start) - 1

    @cached_property
    def unit(self) -> IntArray:
        """The unit of every member, shape (members,)."""
        return np.repeat(np.arange(self.units), np.diff(self.start))

    @cached_property
    def squares(self) -> FloatArray:
        """Sum of the squared weights of each unit, shape (units,): its variance over that of one level."""
        return _bincount(self.unit, self.weight**2, self.units)

    def sums(self, values: npt.NDArray[np.floating]) -> FloatArray:
        """What the units have: the weighted sums of their levels' ``values``, shape (levels, ...)."""
        out = np.zeros((self.units, *values.shape[1:]))
        full = np.diff(self.start) > 0
        if full.any():
            weight = self.weight.reshape(-1, *(1,) * (values.ndim - 1))
            out[full] = np.add.reduceat(values[self.level] * weight, self.start[:-1][full], axis=0)
        return out

    def level_sums(self, values: FloatArray, levels: int) -> FloatArray:
        """The transpose of `sums`: the weighted sums of the units' ``values``, shape (units, ...), by level."""
        out = np.zeros((levels, *values.shape[1:]))
        weight = self.weight.reshape(-1, *(1,) * (values.ndim - 1))
        np.add.at(out, self.level, values[self.unit] * weight)
        return out


@dataclass(frozen=True, eq=False)
class Walk:
    """Where the levels of a factor stand in time, for a first-order random walk.

    Attributes
    ----------
    series : int32 array, shape (levels,)
        Which walk a level belongs to; ``user:rw(week)`` has one for each user.
    time : float64 array, shape (levels,)
    """

    series: CodeArray
    time: FloatArray

    @cached_property
    def order(self) -> IntArray:
        """The levels by series, then time; shape (levels,)."""
        return np.lexsort((self.time, self.series))

    @cached_property
    def first(self) -> npt.NDArray[np.bool_]:
        """Whether a level, in this order, begins its series; shape (levels,)."""
        series = self.series[self.order]
        return np.append(True, series[1:] != series[:-1])

    @cached_property
    def gap(self) -> FloatArray:
        """Time since the level before, in this order; shape (levels,).

        A walk begins one step from zero, the mean of all steps: its first level has the variance that such a step
        adds. With a fixed intercept (and one walk) restricted likelihood does not depend on that.
        """
        time = self.time[self.order]
        steps = np.diff(time, prepend=time[0])
        inside = steps[~self.first]
        return np.where(self.first, inside.mean() if len(inside) else 1.0, steps)

    @cached_property
    def membership(self) -> Membership:
        """The levels as sums of independent increments, which are numbered in this order.

        A level is the sum of the increments of its series up to its own, each times the root of its gap; so the
        increments have the variance of one unit of time. As many members as pairs of levels of a series, halved.
        """
        levels = len(self.order)
        begin = np.maximum.accumulate(np.where(self.first, np.arange(levels), 0))
        place = np.empty(levels, np.int64)
        place[self.order] = np.arange(levels)
        count = place - begin[place] + 1
        start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        member = np.arange(start[-1]) - np.repeat(start[:-1] - begin[place], count)
        return Membership(start, member.astype(np.int32), np.sqrt(self.gap)[member])


def _bincount(places: IntArray, values: FloatArray, size: int) -> FloatArray:
    return np.bincount(places, values, size).astype(np.float64)
