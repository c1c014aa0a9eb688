"""Smooth functions of one or two numbers from their values at some points: Chebyshev interpolation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import FloatArray

# numbers of points along each side that are tried; a second side has half as many
POINTS = (17, 33, 65)
ROWS = 1 << 14


@dataclass(frozen=True)
class Box:
    """A range of numbers."""

    low: float
    high: float

    @classmethod
    def around(cls, values: FloatArray, outside: float, low: float | None = None) -> Box:
        """The range of all but a share of the values at either end; ``low`` in place of the lower end."""
        if not len(values):
            return cls(0.0, 1.0)
        ends = np.quantile(values, [outside, 1.0 - outside])
        # a point is a range too
        first = float(ends[0]) if low is None else low
        return cls(first, max(float(ends[1]), first + 1e-6 * max(1.0, abs(first))))

    def holds(self, values: FloatArray) -> npt.NDArray[np.bool_]:
        return (values >= self.low) & (values <= self.high)

    def unit(self, values: FloatArray) -> FloatArray:
        """Between -1 and 1."""
        return np.clip((2.0 * values - self.low - self.high) / (self.high - self.low), -1.0, 1.0)

    def real(self, unit: FloatArray) -> FloatArray:
        return (self.low + self.high + unit * (self.high - self.low)) / 2.0


def interpolation(
    function: Callable[..., FloatArray], boxes: Sequence[Box], tolerance: float, tried: int
) -> tuple[FloatArray, float]:
    """Coefficients of a polynomial that is near the function, and the largest error seen.

    Parameters
    ----------
    function : callable
        Of as many arrays as there are boxes: an array of the same length.
    boxes : sequence of Box
        One or two.
    tolerance : float
        More points are taken until the error is below it, or they are too many.
    tried : int
        Places that the error is looked at: spread evenly, the same for every call.
    """
    # a sequence of low discrepancy: fractions of multiples of irrational numbers
    shares = [np.modf(np.arange(1, tried + 1) * step)[0] for step in (0.7548776662466927, 0.5698402909980532)]
    places = [box.real(2.0 * share - 1.0) for box, share in zip(boxes, shares, strict=False)]
    exact = function(*places)
    for points in POINTS:
        counts = [points, points // 2 + 1][: len(boxes)]
        nodes = [np.cos(np.pi * (np.arange(n) + 0.5) / n) for n in counts]
        grid = np.meshgrid(*(box.real(own) for box, own in zip(boxes, nodes, strict=True)), indexing="ij")
        table = function(*(part.ravel() for part in grid)).reshape(counts)
        for side, own in enumerate(nodes):
            into = np.linalg.inv(np.polynomial.chebyshev.chebvander(own, len(own) - 1))
            table = np.moveaxis(np.tensordot(into, table, (1, side)), 0, side)
        error = float(np.max(np.abs(interpolate(table, boxes, *places) - exact)))
        if error <= tolerance:
            break
    return table, error


def interpolate(table: FloatArray, boxes: Sequence[Box], *values: FloatArray) -> FloatArray:
    """The polynomial at some places; those outside a box are moved to its side."""
    out = np.empty(len(values[0]))
    for at in range(0, len(out), ROWS):
        own = slice(at, at + ROWS)
        sides = [
            np.polynomial.chebyshev.chebvander(box.unit(one[own]), count - 1)
            for box, one, count in zip(boxes, values, table.shape, strict=True)
        ]
        out[own] = sides[0] @ table if len(sides) == 1 else np.einsum("ni,ni->n", sides[0] @ table, sides[1])
    return out
