"""Variational Bayes for latent terms: sweeps that raise a lower bound of the likelihood, covariances in closed form."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Iteration, Model
from ranef.engine.threads import Engine
from ranef.learn.factor.priors import closed_form, log_prior_gap
from ranef.learn.factor.start import Problem, begin
from ranef.solve.sweeps import Parameters, State, row_pieces, sweep

FloatArray = npt.NDArray[np.float64]

# full covariances of the vectors are kept up to this many bytes of them, variances alone beyond
MOST_SPREAD = 512 << 20
# tighter ones take several times the sweeps on large data and predict no better
TOLERANCE = 1e-4
MAX_SWEEPS = 200


@dataclass(frozen=True, eq=False)
class Searched:
    """Where the sweeps ended."""

    state: State
    parameters: Parameters
    bound: float
    converged: bool
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
    report: Callable[[int, State, Parameters, float], None] | None = None,
) -> Searched:
    """Sweeps until the bound rises by less than ``tolerance`` for each row.

    Parameters
    ----------
    additive : Model
        Of the design without its latent terms.
    report : callable, optional
        Gets the number of the sweep, state, parameters and bound.
    """
    begun = time.perf_counter()
    state, parameters = begin(problem, additive, spread_widths(problem, spread), seed, engine)
    history: list[Iteration] = []
    bound, n = -np.inf, len(state.residual)
    converged = False
    while len(history) < max_sweeps and not converged:
        added = sweep(state, parameters, engine)
        squares = expected_squares(state, added, engine)
        spent = parameters.sigma2
        parameters = closed_form(state, problem.layout, parameters, squares)
        value = lower_bound(problem, state, parameters, squares, spent)
        rise, bound = value - bound, value
        history.append(Iteration(len(history), -2 * value, 2 * rise, True, time.perf_counter() - begun))
        if report is not None:
            report(len(history), state, parameters, value)
        converged = rise < tolerance * n
    return Searched(state, parameters, bound, converged, tuple(history))


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
