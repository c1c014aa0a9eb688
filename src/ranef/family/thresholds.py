"""Thresholds of ordinal families: free parameters ``alpha`` -> ordered thresholds, linear as ``tau = J alpha``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from ranef.family.special import log1mexp

FloatArray = npt.NDArray[np.float64]
Structure = Literal["flexible", "symmetric", "equidistant"]
STRUCTURES: tuple[Structure, ...] = ("flexible", "symmetric", "equidistant")


def names(structure: Structure, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the parameters ``alpha`` as R's ordinal has them."""
    cuts = len(labels) - 1
    if structure == "flexible":
        return threshold_names(labels)
    if structure == "equidistant":
        return ("threshold.1", "spacing")
    central = ("central",) if cuts % 2 else ("central.1", "central.2")
    return central + tuple(f"spacing.{i + 1}" for i in range((cuts - 1) // 2))


def threshold_names(labels: tuple[str, ...]) -> tuple[str, ...]:
    """``low|middle``, ``middle|high``."""
    return tuple(f"{a}|{b}" for a, b in pairwise(labels))


def jacobian(structure: Structure, cuts: int) -> FloatArray:
    """``J``, shape (thresholds, parameters).

    Flexible: every threshold is free. Equidistant: the first one and the distance of neighbours. Symmetric: the middle
    one, or the two middle ones, and the distances from the middle of each pair around it.
    """
    if structure == "flexible":
        return np.eye(cuts)
    if structure == "equidistant":
        return np.column_stack([np.ones(cuts), np.arange(float(cuts))])
    middles = 2 - cuts % 2
    pairs = (cuts - middles) // 2
    out = np.zeros((cuts, middles + pairs))
    out[: pairs + 1, 0] = 1.0
    out[pairs + middles - 1 :, middles - 1] = 1.0
    for pair in range(pairs):
        out[pairs - 1 - pair, middles + pair] = -1.0
        out[pairs + middles + pair, middles + pair] = 1.0
    return out


def nearest(structure: Structure, tau: FloatArray) -> FloatArray:
    """``alpha`` whose thresholds come nearest to ``tau``; in order if ``tau`` is."""
    return np.asarray(np.linalg.lstsq(jacobian(structure, len(tau)), tau, rcond=None)[0])


@dataclass(frozen=True)
class Cuts:
    """Thresholds in the forms that rows look up by the code of their category.

    Attributes
    ----------
    tau : float64 array, shape (categories - 1,)
    """

    tau: FloatArray

    @cached_property
    def lower(self) -> FloatArray:
        """Lower end of each category, shape (categories,): the first is minus infinity."""
        return np.concatenate([[-np.inf], self.tau])

    @cached_property
    def upper(self) -> FloatArray:
        """Upper end of each category, shape (categories,): the last is infinity."""
        return np.concatenate([self.tau, [np.inf]])

    @cached_property
    def width(self) -> FloatArray:
        return self.upper - self.lower

    @cached_property
    def log1mexp_width(self) -> FloatArray:
        """``log(1 - exp(-width))``."""
        return log1mexp(self.width)

    @cached_property
    def odds(self) -> FloatArray:
        """``1 / (exp(width) - 1)``."""
        return 1.0 / np.expm1(np.minimum(self.width, 700.0))
