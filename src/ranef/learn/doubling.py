"""The search with probes: few first, then twice as many until their noise is small beside the estimates' own error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ranef.learn.minimise import Step
from ranef.learn.noise import coverage_factor
from ranef.learn.root import Equations, Estimated, Root, coarse_start, find_root

FloatArray = npt.NDArray[np.float64]

FIRST_PROBES = 8
MOST_PROBES = 64
# of a parameter's standard error
LARGEST_NOISE = 0.05
# with as many rows an evaluation costs more than its overhead, and a few with few probes save one with many
COARSE_ROWS, COARSE_PROBES = 500_000, 2


class Noisy(Estimated, Protocol):
    """A point whose score has a Monte-Carlo covariance."""

    @property
    def gradient_covariance(self) -> FloatArray: ...


At = TypeVar("At", bound=Noisy)


@dataclass(frozen=True, eq=False)
class Searched(Generic[At]):
    """Where the search ended.

    Attributes
    ----------
    root : Root
    equations : Equations
        The last ones.
    probes : int
    enough : bool
        Whether these are enough; where their number was given, they are.
    history : tuple of Step
        Of all searches.
    """

    root: Root[At]
    equations: Equations[At]
    probes: int
    enough: bool
    history: tuple[Step, ...]


def search_doubling(
    draw: Callable[[int], Equations[At]],
    start: FloatArray,
    *,
    coarse: Equations[At] | None,
    probes: int | None,
    tolerance: float,
    max_iterations: int,
    report: Callable[[Step, At], Step],
) -> Searched[At]:
    """Solve estimating equations with as many probes as it takes.

    Parameters
    ----------
    draw : callable
        The equations with a given number of probes.
    coarse : Equations, optional
        With very few probes, to begin with.
    probes : int, optional
        Their number; None doubles it until the Monte-Carlo error of every parameter is a twentieth of its standard
        error.
    report : callable
        Gets every step and returns it with its place in the history of the fit.
    """
    history: list[Step] = []

    last: At | None = None

    def note(step: Step, at: At) -> None:
        nonlocal last
        last = at
        history.append(report(step, at))

    count = FIRST_PROBES if probes is None else probes
    theta, near = start, False
    if coarse is not None:
        # one evaluation at least is left for the search itself
        theta, near = coarse_start(coarse, theta, max_iterations - 1, note)
    while True:
        equations = draw(count)
        found = find_root(
            equations,
            theta,
            tolerance=tolerance,
            max_iterations=max_iterations - len(history),
            near=near,
            warm=last,
            report=note,
        )
        theta, near = found.at.theta, True
        enough = probes is not None or count >= MOST_PROBES or _is_quiet(found.at, count)
        if enough or len(history) >= max_iterations:
            return Searched(found, equations, count, enough, tuple(history))
        count *= 2


def noise(at: Noisy, probes: int) -> FloatArray:
    """Monte-Carlo covariance of the parameters, its errors as `ranef.learn.noise` has them."""
    inverse = np.linalg.pinv(at.metric, hermitian=True)
    return np.asarray(coverage_factor(probes) ** 2 * inverse @ at.gradient_covariance @ inverse)


def _is_quiet(at: Noisy, probes: int) -> bool:
    variances = 2 * np.diag(np.linalg.pinv(at.metric, hermitian=True)).clip(0)
    return bool(np.all(np.diag(noise(at, probes)) <= LARGEST_NOISE**2 * variances))
