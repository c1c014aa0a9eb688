"""Variational Bayes for latent terms: sweeps that raise a lower bound of the likelihood, covariances in closed form."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Iteration, Model
from ranef.engine.threads import Engine
from ranef.learn.factor.priors import closed_form, log_prior_gap
from ranef.learn.factor.snapshot import snapshot
from ranef.learn.factor.start import Problem, begin
from ranef.learn.interrupt import deferred_interrupt
from ranef.solve.sweeps import Parameters, State, row_pieces, sweep

FloatArray = npt.NDArray[np.float64]

# full covariances of the vectors are kept up to this many bytes of them, variances alone beyond
MOST_SPREAD = 512 << 20
# tighter ones take several times the sweeps on large data and predict no better
TOLERANCE = 1e-4
MAX_SWEEPS = 200
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
        Of the log marginal likelihood, but for a constant.
    gain : float
        How much the bound rose, for each row; NaN after the first sweep.
    score : float
        Root mean square error on the validation rows; NaN without any.
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
    """

    state: State
    parameters: Parameters
    bound: float
    converged: bool
    stopped: Stopped
    kept: int
    history: tuple[Iteration, ...]


def spread_widths(problem: Problem, kind: str = "auto") -> tuple[int, ...]:
    """Numbers of a spread of each term: ``"full"``, ``"diagonal"``, or full where that fits."""
    full = [term.rank * (term.rank + 1) // 2 for term in problem.sides.terms]
    size = sum(4 * width * term.units for width, term in zip(full, problem.sides.terms, strict=True))
    if kind == "full" or (kind == "auto" and size <= MOST_SPREAD):
        return tuple(full)
    return tuple(term.rank for term in problem.sides.terms)


def search_variational(
    problem: Problem,
    additive: Model,
    engine: Engine,
    *,
    spread: str = "auto",
    seed: int = 0,
    tolerance: float = TOLERANCE,
    max_sweeps: int = MAX_SWEEPS,
    validate: Callable[[Model], float] | None = None,
    after: Callable[[Sweep], bool] | None = None,
) -> Searched:
    """Sweeps until the bound rises by less than ``tolerance`` for each row.

    Ctrl-C ends them after the sweep that is running.

    Parameters
    ----------
    additive : Model
        Of the design without its latent terms.
    validate : callable, optional
        The error of a model's predictions on rows that were held out. Sweeps end when it has not fallen in `PATIENCE`
        of them, and the best one is kept.
    after : callable, optional
        Called after each sweep; ends them by returning True.
    """
    begun = time.perf_counter()
    state, parameters = begin(problem, additive, spread_widths(problem, spread), seed, engine)
    history: list[Iteration] = []
    bound, n = -np.inf, len(state.residual)
    converged = False
    stopped: Stopped = ""
    best: _Kept | None = None
    with deferred_interrupt() as interrupted:
        while len(history) < max_sweeps and not converged and not stopped:
            added = sweep(state, parameters, engine)
            squares = expected_squares(state, added, engine)
            spent = parameters.sigma2
            parameters = closed_form(state, problem.layout, parameters, squares)
            value = lower_bound(problem, state, parameters, squares, spent)
            rise, bound = value - bound, value
            score = float("nan") if validate is None else validate(snapshot(problem, additive, state))
            seconds = time.perf_counter() - begun
            history.append(Iteration(len(history), -2 * value, 2 * rise, True, seconds, score=score))
            number = len(history)
            if validate is not None and (best is None or score < best.score):
                best = _keep(state, parameters, bound, score, number, best)
            converged = rise < tolerance * n
            gain = rise / n if number > 1 else float("nan")
            if after is not None and after(Sweep(number, seconds, value, gain, score)):
                stopped = "callback"
            if best is not None and number - best.number >= PATIENCE:
                stopped = "validation"
            if interrupted():
                stopped = "interrupt"
    kept = len(history)
    if best is not None and best.number < kept:
        for array, copy in zip(_arrays(state), best.arrays, strict=True):
            array[:] = copy
        parameters, bound, kept = best.parameters, best.bound, best.number
    return Searched(state, parameters, bound, converged, stopped, kept, tuple(history))


@dataclass(frozen=True, eq=False)
class _Kept:
    """A sweep that may be gone back to."""

    arrays: list[npt.NDArray[np.floating]]
    parameters: Parameters
    bound: float
    score: float
    number: int


def _keep(state: State, parameters: Parameters, bound: float, score: float, number: int, before: _Kept | None) -> _Kept:
    """A copy of the state, in the arrays of the one before."""
    own = _arrays(state)
    copies = [array.copy() for array in own] if before is None else before.arrays
    for array, copy in zip(own, copies, strict=True):
        copy[:] = array
    return _Kept(copies, parameters, bound, score, number)


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


def expected_squares(state: State, added: float, engine: Engine) -> float:
    """Weighted squares of the residuals, and what the posterior's variance adds to them.

    Parameters
    ----------
    added : float
        As `ranef.solve.sweeps.sweep` returns it.
    """
    pieces = row_pieces(len(state.residual))

    def squares(first: int, last: int) -> float:
        w = state.weights if len(state.weights) == 1 else state.weights[first:last]
        return float(np.sum(w * state.residual[first:last] ** 2))

    return sum(engine.each(pieces, squares), added)


def lower_bound(problem: Problem, state: State, parameters: Parameters, squares: float, variance: float) -> float:
    """The bound of the log marginal likelihood of the internal response; the fixed effects' prior is flat.

    Parameters
    ----------
    squares : float
        As `expected_squares` returns them.
    variance : float
        The residual variance of the sweep, which the fixed effects' posterior has.
    """
    n, p = len(state.residual), len(state.beta)
    logs = 0.0 if problem.rows.weights is None else float(np.sum(np.log(problem.rows.weights)))
    rows = -0.5 * (n * np.log(2 * np.pi * parameters.sigma2) - logs + squares / parameters.sigma2)
    # the fixed part is orthonormal: n times the identity
    fixed = 0.5 * p * (np.log(2 * np.pi * variance / n) + 1)
    return float(rows + log_prior_gap(state, parameters) + fixed)
