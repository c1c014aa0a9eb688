"""Singular covariances: when a diagonal of ``Lambda`` is as good as zero, and which way leads inside again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ranef.learn.newton import Point
from ranef.prior import Layout

FloatArray = npt.NDArray[np.float64]

# A diagonal of Lambda below this is tried at zero: a standard deviation of 1e-4 sigma (lme4's bound for "singular").
NEARLY_ZERO = 1e-4

Seen = TypeVar("Seen", bound=Point, contravariant=True)


class Domain(Protocol[Seen]):
    """What a search asks about its parameters, wherever the criterion or the score comes from."""

    def canonical(self, theta: FloatArray) -> FloatArray:
        """An equivalent ``theta`` with no negative diagonal of ``Lambda``."""
        ...

    def snapped(self, theta: FloatArray) -> FloatArray | None:
        """``theta`` with nearly zero diagonals at zero; None if there are none."""
        ...

    def inside(self, at: Seen, least: float) -> Iterator[FloatArray]:
        """Points off the boundary where the criterion should be lower, by slopes below ``-least``."""
        ...


class Within(ABC, Generic[Seen]):
    """Has the domain of something else."""

    @property
    @abstractmethod
    def domain(self) -> Domain[Seen]: ...

    def canonical(self, theta: FloatArray) -> FloatArray:
        return self.domain.canonical(theta)

    def snapped(self, theta: FloatArray) -> FloatArray | None:
        return self.domain.snapped(theta)

    def inside(self, at: Seen, least: float) -> Iterator[FloatArray]:
        return self.domain.inside(at, least)


def snapped(layout: Layout, theta: FloatArray) -> FloatArray | None:
    """``theta`` with nearly zero diagonals at zero; None if there are none."""
    out = theta.copy()
    for part, basis in zip(layout.slices, layout.basis, strict=True):
        diagonal = np.einsum("pii->p", basis) > 0
        small = diagonal & (np.abs(out[part]) < NEARLY_ZERO)
        out[part] = np.where(small, 0.0, out[part])
    return None if np.array_equal(out, theta) else out


def inside(
    layout: Layout, at: Point, least: float, information: Callable[[tuple[FloatArray, ...]], FloatArray]
) -> Iterator[FloatArray]:
    """``theta`` of points inside where the criterion should be lower, nearer and nearer; none if ``at`` is a minimum.

    At a singular ``Lambda`` the derivatives by ``Sigma`` in the null space decide; each term whose derivative is below
    ``-least`` moves by its own Newton step in the variance.

    Parameters
    ----------
    information : callable
        Average information at ``at`` of given directions ``dSigma`` of each block, shape (directions, k, k).
    """
    if not layout.parameters:
        return
    changes = [np.zeros((0, *factor.shape)) for factor in at.factors]
    for b, terms in enumerate(layout.blocks):
        first = 0
        for structure in terms:
            own = slice(first, first + structure.size)
            first += structure.size
            direction = _interior_direction(at.factors[b][own, own], at.slopes[b][own, own], structure.kind)
            if direction is not None and float(np.sum(direction * at.slopes[b][own, own])) < -least:
                change = np.zeros((1, *at.factors[b].shape))
                change[0, own, own] = direction
                changes[b] = np.concatenate([changes[b], change])
    if not any(len(change) for change in changes):
        return
    slopes = np.concatenate([np.einsum("pij,ij->p", c, s) for c, s in zip(changes, at.slopes, strict=True)])
    curvature = np.diag(information(tuple(changes)))
    lengths = iter(np.clip(-slopes / np.maximum(curvature, 1e-300), 0.0, 1.0))
    moves = [np.tensordot([next(lengths) for _ in c], c, 1) if len(c) else np.zeros(c.shape[1:]) for c in changes]
    for shorter in 4.0 ** -np.arange(12):
        yield layout.project([f @ f.T + shorter * move for f, move in zip(at.factors, moves, strict=True)])


def _interior_direction(factor: FloatArray, slope: FloatArray, kind: str) -> FloatArray | None:
    """A covariance to add that lowers the criterion fastest, within the null space of ``factor``; None if none does."""
    k = len(factor)
    if kind == "identity":
        return np.eye(k) if factor[0, 0] == 0 and np.trace(slope) < 0 else None
    if kind == "diagonal":
        open_ = (np.diag(factor) == 0) & (np.diag(slope) < 0)
        return np.diag(open_.astype(float)) if open_.any() else None
    values, vectors = np.linalg.eigh(factor @ factor.T)
    null = vectors[:, values <= 1e-12 * max(values[-1], 1e-300)] if values[-1] > 0 else np.eye(k)
    if not null.shape[1]:
        return None
    slopes, inside = np.linalg.eigh(null.T @ slope @ null)
    directions = null @ inside[:, slopes < 0]
    return directions @ directions.T if directions.shape[1] else None
