"""Variational Bayes for latent terms: sweeps that raise a lower bound of the likelihood, covariances in closed form.

Responses that are not Gaussian stand for a Gaussian one in a sweep (`ranef.learn.factor.response`) with a residual
variance of one; what stands for them is made anew after each sweep, which raises the same bound.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.engine.threads import Engine
from ranef.learn.factor.priors import closed_form, log_prior_gap
from ranef.learn.factor.response import Response
from ranef.learn.factor.stand_in import StandIn
from ranef.learn.factor.start import Problem, TakeOver, begin
from ranef.learn.factor.sweeping import Following, Searched, Swept, run_sweeps
from ranef.solve.sweeps import Parameters, State, sweep, weighted_squares

FloatArray = npt.NDArray[np.float64]

# full covariances of the vectors are kept up to this many bytes of them, variances alone beyond
MOST_SPREAD = 512 << 20
# on held-out training rows of MovieLens tighter ones take up to twice the sweeps and predict no better
TOLERANCE = 2e-4
MAX_SWEEPS = 200
UNFOLLOWED = Following()


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
    response: Response | None = None,
    linearised_at: FloatArray | None = None,
    phi: FloatArray | None = None,
    spread: str = "auto",
    seed: int = 0,
    earlier: TakeOver | None = None,
    tolerance: float = TOLERANCE,
    max_sweeps: int = MAX_SWEEPS,
    following: Following = UNFOLLOWED,
) -> Searched:
    """Sweeps until the bound rises by less than ``tolerance`` for each row.

    Parameters
    ----------
    additive : Model
        Of the design without its latent terms.
    response : Response, optional
        Of another family than the Gaussian.
    linearised_at : float64 array, shape (rows,), optional
        Linear predictor at which a response is linearised that has no bound; default: of ``additive``.
    phi : float64 array, optional
        The family's own parameters to begin with; default: of ``additive``.
    earlier : callable, optional
        As of `ranef.learn.factor.start.begin`.
    following : Following
        What watches the sweeps.
    """
    state, parameters = begin(problem, additive, spread_widths(problem, spread), seed, engine, earlier)
    phi = additive.phi if phi is None else phi
    stand_in = None if response is None else StandIn(state, response, phi, linearised_at, engine)
    if stand_in is not None:
        state, parameters = stand_in.state, replace(parameters, sigma2=1.0)
    before = parameters

    def once() -> Swept:
        nonlocal before
        added = sweep(state, before, engine)
        if stand_in is None:
            squares = weighted_squares(state, engine) + added
            now = closed_form(state, problem.layout, before, squares)
            swept = Swept(now, phi, lower_bound(problem, state, now, squares, before.sigma2))
        else:
            now = replace(closed_form(state, problem.layout, before, 0.0), sigma2=1.0)
            value = stand_in.renew(added) + log_prior_gap(state, now)
            swept = Swept(now, stand_in.phi, value)
        before = now
        return swept

    return run_sweeps(state, once, following, tolerance=tolerance, max_sweeps=max_sweeps)


def lower_bound(problem: Problem, state: State, parameters: Parameters, squares: float, variance: float) -> float:
    """The bound of the log marginal likelihood of the internal response; the fixed effects' prior is flat.

    Parameters
    ----------
    squares : float
        Expected weighted squares of the residuals.
    variance : float
        The residual variance of the sweep, which the fixed effects' posterior has.
    """
    n, p = len(state.residual), len(state.beta)
    logs = 0.0 if problem.rows.weights is None else float(np.sum(np.log(problem.rows.weights)))
    rows = -0.5 * (n * np.log(2 * np.pi * parameters.sigma2) - logs + squares / parameters.sigma2)
    # the fixed part is orthonormal: n times the identity
    fixed = 0.5 * p * (np.log(2 * np.pi * variance / n) + 1)
    return float(rows + log_prior_gap(state, parameters) + fixed)
