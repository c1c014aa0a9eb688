"""Sweeps one after the other until they gain little: scored on other rows, ended by callbacks or Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Iteration
from ranef.learn.interrupt import deferred_interrupt
from ranef.solve.sweeps import Parameters, State

FloatArray = npt.NDArray[np.float64]

# sweeps without a better score on the validation rows, after which they end
PATIENCE = 5

Stopped = Literal["", "validation", "callback", "interrupt"]


@dataclass(frozen=True)
class Sweep:
    """What there is to say after a sweep over latent terms.

    Attributes
    ----------
    number : int
        From 1.
    seconds : float
        Since the first sweep began.
    bound : float
        What the sweeps raise: the bound of the log marginal likelihood, but for a constant; for modes, minus half the
        objective over the residual variance.
    gain : float
        How much it rose, for each row; NaN after the first sweep.
    score : float
        On the validation rows, the lower the better; NaN without any.
    """

    number: int
    seconds: float
    bound: float
    gain: float
    score: float


@dataclass(frozen=True, eq=False)
class Searched:
    """Where the sweeps ended, or the one with the best score.

    Attributes
    ----------
    stopped : str
        What ended them before the bound stood; see `ranef.artifact.model.FitInfo`.
    kept : int
        The number of the sweep whose state this is.
    phi : float64 array
        Parameters of the response's family.
    """

    state: State
    parameters: Parameters
    bound: float
    converged: bool
    stopped: Stopped
    kept: int
    history: tuple[Iteration, ...]
    phi: FloatArray


@dataclass(frozen=True, eq=False)
class Swept:
    """What a sweep leaves beside the state: parameters, those of the family, and the value that sweeps raise."""

    parameters: Parameters
    phi: FloatArray
    value: float


@dataclass(frozen=True, eq=False)
class Following:
    """What watches the sweeps.

    Attributes
    ----------
    validate : callable, optional
        Given the family's parameters, the error of the state's predictions on rows that were held out. Sweeps end when
        it has not fallen in `PATIENCE` of them, and the best one is kept.
    after : callable, optional
        Called after each sweep; ends them by returning True.
    """

    validate: Callable[[State, FloatArray], float] | None = None
    after: Callable[[Sweep], bool] | None = None


def run_sweeps(
    state: State,
    once: Callable[[], Swept],
    following: Following,
    *,
    tolerance: float,
    max_sweeps: int,
    unit: float = 1.0,
    constant: float = 0.0,
) -> Searched:
    """Sweeps until the value rises by less than ``tolerance`` for each row.

    Ctrl-C ends them after the sweep that is running.

    Parameters
    ----------
    once : callable
        A sweep, which changes the state.
    unit, constant : float
        The history has ``-2 value`` times the one plus the other.
    """
    begun = time.perf_counter()
    history: list[Iteration] = []
    n = len(state.residual)
    converged, value = False, -np.inf
    stopped: Stopped = ""
    best: _Kept | None = None
    with deferred_interrupt() as interrupted:
        while len(history) < max_sweeps and not converged and not stopped:
            at = once()
            rise, value = at.value - value, at.value
            score = float("nan") if following.validate is None else following.validate(state, at.phi)
            seconds, number = time.perf_counter() - begun, len(history) + 1
            history.append(
                Iteration(number - 1, constant - 2 * unit * value, 2 * unit * rise, True, seconds, score=score)
            )
            if following.validate is not None and (best is None or score < best.score):
                best = _keep(state, at, score, number, best)
            converged = rise < tolerance * n
            gain = rise / n if number > 1 else float("nan")
            if following.after is not None and following.after(Sweep(number, seconds, value, gain, score)):
                stopped = "callback"
            if best is not None and number - best.number >= PATIENCE:
                stopped = "validation"
            if interrupted():
                stopped = "interrupt"
    kept = len(history)
    if best is not None and best.number < kept:
        for array, copy in zip(_arrays(state), best.arrays, strict=True):
            array[:] = copy
        at, kept = best.at, best.number
    return Searched(state, at.parameters, at.value, converged, stopped, kept, tuple(history), at.phi)


@dataclass(frozen=True, eq=False)
class _Kept:
    """A sweep that may be gone back to."""

    arrays: list[npt.NDArray[np.floating]]
    at: Swept
    score: float
    number: int


def _keep(state: State, at: Swept, score: float, number: int, before: _Kept | None) -> _Kept:
    """A copy of the state, in the arrays of the one before."""
    own = _arrays(state)
    copies = [array.copy() for array in own] if before is None else before.arrays
    for array, copy in zip(own, copies, strict=True):
        copy[:] = array
    return _Kept(copies, at, score, number)


def _arrays(state: State) -> list[npt.NDArray[np.floating]]:
    """The arrays that sweeps change."""
    arrays: list[npt.NDArray[np.floating]] = [state.residual, state.beta, *state.vectors, *state.spreads]
    for side, members in zip(state.sides.sides, state.coefficients, strict=True):
        for own in members:
            arrays += [own.effects, own.extra, own.moments]
            if not side.alone:
                # else they are those of the units
                arrays += [own.vectors, own.spread]
    return arrays
