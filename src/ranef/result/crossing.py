"""Where a profile of the deviance crosses a quantile."""

from __future__ import annotations

from collections.abc import Callable

from scipy.optimize import brentq

from ranef.errors import FitError

# Deviance by which a profile may lie below the fit's: far below any quantile of interest.
SLACK = 1e-4
MOST_DOUBLINGS = 60


def crossing(excess: Callable[[float], float], estimate: float, step: float, end: float) -> float:
    """Where ``excess`` becomes positive from the estimate in the direction of ``step``; ``end`` if it does not."""
    if estimate == end:
        return end
    inside, outside = estimate, estimate + step
    for _ in range(MOST_DOUBLINGS):
        if abs(outside - estimate) >= abs(end - estimate):
            outside = end
        if excess(outside) > 0:
            return float(brentq(excess, inside, outside, xtol=1e-6 * abs(outside - inside), rtol=1e-8))
        if outside == end:
            return end
        inside, step = outside, 2 * step
        outside = inside + step
    raise FitError("the profile does not rise to the quantile")


def above(rise: float) -> float:
    """How much a profile lies above the fit's deviance, without what searches leave over.

    Raises
    ------
    FitError
        It lies below by more.
    """
    if rise < -SLACK:
        raise FitError("the profile found a larger likelihood than the fit")
    return max(rise, 0.0)
