"""Searches in which some parameters are held at given values: covariances that are known, others that are learned.

A search sees a `Held` objective: its ``theta`` are the parameters that are free. Given covariances are absolute, and
those of a Gaussian criterion are over the residual variance; where this is free, the relative ones follow it, so that
what was given stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ranef.learn.boundary import Domain
from ranef.learn.newton import Point
from ranef.prior import Layout

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Given:
    """Covariances that are given, response units squared over the covariates' units.

    Attributes
    ----------
    covariances : tuple of tuple of (float64 array (k, k), or None)
        For each grouping factor and each of its terms, in the order of the design; None is learned.
    sigma2 : float or None
        Residual variance of a Gaussian model.
    names : tuple of str
        What is given, in the words of ``grp`` in the table of variances.
    """

    covariances: tuple[tuple[FloatArray | None, ...], ...]
    sigma2: float | None
    names: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether all covariances are given."""
        return all(one is not None for terms in self.covariances for one in terms)


def nothing_given(layout: Layout) -> Given:
    """Every covariance is learned."""
    return Given(tuple((None,) * len(terms) for terms in layout.blocks), None, ())


@dataclass(frozen=True, eq=False)
class Holding:
    """Which parameters are held, among all those of an objective.

    Attributes
    ----------
    layout : Layout
    base : float64 array, shape (parameters,)
        The held ones at their values, those in ``follow`` for a residual variance of one; zero for the others.
    free : int64 array
        Places of the parameters that are searched.
    follow : int64 array
        Places of entries of ``Lambda`` that are held over the root of the residual variance, whose logarithm is the
        last parameter, and free.
    terms : tuple of tuple of bool
        For each grouping factor, whether each of its terms is held.
    names : tuple of str
        As of `Given`.
    """

    layout: Layout
    base: FloatArray
    free: IntArray
    follow: IntArray
    terms: tuple[tuple[bool, ...], ...]
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many parameters are held."""
        return len(self.base) - len(self.free)

    def whole(self, free: FloatArray) -> FloatArray:
        """All parameters."""
        out = self.base.copy()
        out[self.free] = free
        if len(self.follow):
            out[self.follow] *= np.exp(-out[-1] / 2)
        return out

    def jacobian(self, whole: FloatArray) -> FloatArray:
        """Derivatives of all parameters by those that are free, shape (parameters, free)."""
        out = np.zeros((len(whole), len(self.free)))
        out[self.free, np.arange(len(self.free))] = 1.0
        if len(self.follow):
            out[self.follow, -1] = -whole[self.follow] / 2
        return out


def hold(
    layout: Layout, given: Given, z_back: Sequence[FloatArray], y_scale: float, others: int, *, gaussian: bool
) -> Holding:
    """Given covariances in internal coordinates.

    Parameters
    ----------
    layout : Layout
    given : Given
    z_back, y_scale
        As of `ranef.learn.scaling.Scaling`.
    others : int
        Parameters after those of the covariances: of a Gaussian model, the logarithm of the residual variance.
    gaussian : bool
    """
    m = layout.parameters
    base = np.zeros(m + others)
    held: list[int] = []
    for b, (structures, covariances) in enumerate(zip(layout.blocks, given.covariances, strict=True)):
        at, start = 0, layout.slices[b].start
        for structure, covariance in zip(structures, covariances, strict=True):
            count = len(structure.basis)
            if covariance is not None:
                own = slice(at, at + structure.size)
                inverse = np.linalg.inv(z_back[b][own, own]) / y_scale
                base[start : start + count] = structure.project(inverse @ covariance @ inverse.T)
                held += range(start, start + count)
            at, start = at + structure.size, start + count
    follow = held if gaussian and given.sigma2 is None else []
    if gaussian and given.sigma2 is not None:
        base[m] = np.log(given.sigma2 / y_scale**2)
        base[held] *= np.exp(-base[m] / 2)
        held = [*held, m]
    return Holding(
        layout=layout,
        base=base,
        free=np.setdiff1d(np.arange(m + others), held),
        follow=np.array(follow, np.int64),
        terms=tuple(tuple(one is not None for one in covariances) for covariances in given.covariances),
        names=given.names,
    )


At = TypeVar("At", bound=Point)


class Objective(Domain[At], Protocol[At]):
    """An objective over all parameters: of `ranef.learn.minimise`, or the equations of `ranef.learn.root`."""

    def evaluate(self, theta: FloatArray, near: At | None = None, tolerance: float | None = None) -> At: ...


@dataclass(frozen=True, eq=False)
class Held(Generic[At]):
    """An objective over the parameters that are free.

    Attributes
    ----------
    objective : Objective
        Over all parameters.
    holding : Holding
    """

    objective: Objective[At]
    holding: Holding

    @property
    def size(self) -> float:
        """As of the objective that a search minimises."""
        return cast(float, cast(Any, self.objective).size)

    def evaluate(self, theta: FloatArray, near: At | None = None, tolerance: float | None = None) -> At:
        """The point of the whole objective, with ``theta``, gradient, metric and information over what is free."""
        whole = self.holding.whole(theta)
        if near is not None:
            near = _changed(near, theta=self.holding.whole(near.theta))
        at = self.objective.evaluate(whole, near, tolerance)
        if not self.holding.count:
            return at
        j = self.holding.jacobian(whole)
        # Monte-Carlo, where there is one
        covariance = getattr(at, "gradient_covariance", None)
        return _changed(
            at,
            theta=theta,
            gradient=j.T @ at.gradient,
            metric=j.T @ at.metric @ j,
            information=j.T @ at.information @ j,
            **({} if covariance is None else {"gradient_covariance": j.T @ covariance @ j}),
        )

    def canonical(self, theta: FloatArray) -> FloatArray:
        whole = self.holding.whole(theta)
        return np.asarray(self.objective.canonical(whole)[self.holding.free])

    def snapped(self, theta: FloatArray) -> FloatArray | None:
        moved = self.objective.snapped(self.holding.whole(theta))
        if moved is None or np.array_equal(moved[self.holding.free], theta):
            return None
        return np.asarray(moved[self.holding.free])

    def inside(self, at: At, least: float) -> Iterator[FloatArray]:
        """Points off the boundary; no held term moves, whatever its slope."""
        slopes = tuple(slope.copy() for slope in at.slopes)
        for slope, structures, held in zip(slopes, self.holding.layout.blocks, self.holding.terms, strict=True):
            first = 0
            for structure, is_held in zip(structures, held, strict=True):
                if is_held:
                    slope[first : first + structure.size, first : first + structure.size] = 0.0
                first += structure.size
        whole = _changed(at, theta=self.holding.whole(at.theta), slopes=slopes)
        for theta in self.objective.inside(whole, least):
            yield np.asarray(theta[self.holding.free])


def whole_point(at: At, holding: Holding) -> At:
    """The point that a search ended at with ``theta`` and gradient over all parameters; zero where one is held."""
    gradient = np.zeros(len(holding.base))
    gradient[holding.free] = at.gradient
    return _changed(at, theta=holding.whole(at.theta), gradient=gradient)


def _changed(at: At, **changes: Any) -> At:
    return cast(At, replace(cast(Any, at), **changes))
