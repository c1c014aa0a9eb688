"""A Gaussian mixed model from its design to the fitted model: ML or REML, exact or stochastic."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.engine.threads import Engine
from ranef.errors import FitError
from ranef.learn.assemble import Outcome, Problem, assemble, natural
from ranef.learn.criterion import Criterion
from ranef.learn.doubling import COARSE_PROBES, COARSE_ROWS, FIRST_PROBES, noise, search_doubling
from ranef.learn.draws import draw_posterior
from ranef.learn.held import Given, Held, Holding, hold, whole_point
from ranef.learn.minimise import Step, minimise
from ranef.learn.newton import Point
from ranef.learn.noise import precise_enough
from ranef.learn.posterior import exact_conditional, exact_posterior, stochastic_outcome
from ranef.learn.probes import Probes, draw_probes
from ranef.learn.root import Equations, Root, coarse_start
from ranef.learn.saturation import saturated
from ranef.learn.scaling import scale
from ranef.learn.start import moment_start
from ranef.learn.stochastic import (
    GIVEN_TOLERANCE,
    Estimate,
    Estimating,
    estimate_given,
    estimating,
    stochastic_deviance,
)
from ranef.learn.uncertainty import (
    ParameterUncertainty,
    fixed_effects,
    held_uncertainty,
    parameter_uncertainty,
    shift_of_modes,
)
from ranef.learn.unprofiled import Unprofiled
from ranef.learn.walks import with_exact_levels
from ranef.solve.cross_products import CrossProducts, cross_products

FloatArray = npt.NDArray[np.float64]
Method = Literal["reml", "ml"]
Solver = Literal["auto", "exact", "stochastic", "bound"]

TOLERANCE = 1e-9
STOCHASTIC_TOLERANCE = 1e-5
MAX_ITERATIONS = 200
LOGDET_PROBES = 8
POSTERIOR_DRAWS = 32
EXACT_COLUMNS = 2_000
EXACT_PAIRS = 2e9
# with as many columns to factorise, an exact evaluation costs several stochastic ones
START_COLUMNS, START_PROBES, START_ITERATIONS = 500, 4, 4


def prepare(design: Design, method: Method, engine: Engine) -> Problem:
    """Scale the design and compute its cross products.

    Raises
    ------
    FitError
        If the fixed effects reproduce the response, or the crossed factors are too large for the exact path.
    """
    rows, layout, scaling = scale(design, engine)
    cross = cross_products(rows, engine)
    block = saturated(cross, engine)
    if block is not None:
        spec = design.spec.groups[block]
        raise FitError(
            f"the levels of grouping factor {spec.name!r} (with the fixed effects) reproduce the response "
            f"{design.spec.response_label} exactly: the residual variance is zero and the likelihood has no maximum. "
            "Is the response constant within these levels? Then aggregate the data to one row a level"
        )
    reml = method == "reml"
    log_scale = scaling.log_scale_reml if reml else scaling.log_scale_ml
    return Problem(design, Criterion(cross, layout, reml, engine, log_scale), scaling, layout, rows)


def fit_gaussian(
    design: Design,
    method: Method,
    engine: Engine,
    *,
    solver: Solver = "auto",
    probes: int | None = None,
    seed: int = 0,
    start: Mapping[str, FloatArray] | None = None,
    given: Given | None = None,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    report: Callable[[Step, float, Mapping[str, FloatArray]], None] | None = None,
) -> Model:
    """Fit by ML or REML.

    Parameters
    ----------
    design : Design
    method : {"reml", "ml"}
    engine : Engine
    solver : {"auto", "exact", "stochastic", "bound"}
        ``"auto"`` is exact where that takes seconds; so is ``"bound"``: here the curvature is its own bound.
    probes : int, optional
        Of the stochastic solver; None starts with 8 and doubles them until the Monte-Carlo error of every covariance
        parameter is a twentieth of its standard error.
    seed : int
        Of the probes.
    start : mapping of str to float64 array (k, k), optional
        Starting covariance of each grouping factor over the residual variance; factors that are not named start from
        the method of moments.
    given : Given, optional
        Covariances, and perhaps the residual variance, that are held; the others are learned.
    tolerance : float, optional
        The search ends when a step is predicted to lower the deviance by less; default 1e-9, stochastic 1e-5.
    max_iterations : int, optional
        Evaluations; default 200.
    report : callable, optional
        Gets every step, the residual variance and the covariance of each factor.

    Raises
    ------
    FitError
    """
    begun = time.perf_counter()
    problem = prepare(design, method, engine)
    criterion, scaling = problem.criterion, problem.scaling
    theta, holding = starting_theta(problem, start), None
    if given is not None:
        holding = hold(problem.layout, given, scaling.z_back, scaling.y_scale, 1, gaussian=True)
        theta = _free_start(holding, theta)
    stochastic = solver == "stochastic" or (solver in ("auto", "bound") and not is_exact_cheap(criterion.cross))
    # without random effects, or with stages alone, nothing is left to sample
    stochastic = stochastic and bool(criterion.cross.kept)

    def tell(step: Step, at: Point) -> None:
        if report is not None:
            report(step, *natural(problem, at))

    most = MAX_ITERATIONS if max_iterations is None else max_iterations
    if not stochastic:
        tolerance = TOLERANCE if tolerance is None else tolerance
        if holding is None:
            if criterion.cross.kept and criterion.cross.random >= START_COLUMNS:
                theta = _stochastic_start(problem, theta, seed)
            found = minimise(criterion, theta, tolerance=tolerance, max_iterations=most, report=tell)
            at, uncertainty = found.at, parameter_uncertainty(criterion, found.at)
        else:
            held = Held(Unprofiled(criterion, criterion), holding)
            found = minimise(held, theta, tolerance=tolerance, max_iterations=most, report=tell)
            at, uncertainty = whole_point(found.at, holding), held_uncertainty(criterion, held, found.at)
        fixed = fixed_effects(criterion, at)
        outcome = Outcome(
            at=at,
            solver="exact",
            deviance=at.deviance,
            deviance_error=0.0,
            deviance_draws=(),
            converged=found.converged,
            history=found.history,
            conditional=with_exact_levels(
                exact_conditional(criterion, at, fixed),
                at.inverse.rest,
                criterion.cross,
                design.groups,
                fixed,
                fixed.vcov / at.sigma2 if criterion.reml else None,
            ),
            posterior=exact_posterior(problem, at, fixed),
            noise=np.zeros((problem.layout.parameters + 1,) * 2),
            fixed_noise=None,
            probes=0,
        )
        return assemble(problem, outcome, fixed, uncertainty, begun, holding=holding)
    tolerance = STOCHASTIC_TOLERANCE if tolerance is None else tolerance
    if holding is not None and not len(holding.free):
        return _fit_given(problem, holding, seed, begun)
    return _fit_stochastic(problem, theta, holding, probes, seed, tolerance, most, tell, begun)


def _stochastic_start(problem: Problem, theta: FloatArray, seed: int) -> FloatArray:
    """A start for the exact search from a few evaluations of the stochastic one, which cost far less than its own."""
    criterion = problem.criterion
    few = _drawn(problem, START_PROBES, seed)
    return coarse_start(estimating(criterion, few), theta, START_ITERATIONS)[0]


def _fit_stochastic(
    problem: Problem,
    theta: FloatArray,
    holding: Holding | None,
    probes: int | None,
    seed: int,
    tolerance: float,
    max_iterations: int,
    tell: Callable[[Step, Point], None],
    begun: float,
) -> Model:
    criterion = problem.criterion
    history: list[Step] = []
    searched = time.perf_counter()
    first = _drawn(problem, FIRST_PROBES if probes is None else probes, seed)

    def note(step: Step, at: Estimate) -> Step:
        history.append(replace(step, iteration=len(history), seconds=time.perf_counter() - searched))
        tell(history[-1], at)
        return history[-1]

    few = estimating(criterion, first.first(COARSE_PROBES), False)
    search = search_doubling(
        lambda count: _equations(
            estimating(criterion, first if count == first.count else _drawn(problem, count, seed)), holding
        ),
        theta,
        coarse=_equations(few, holding) if criterion.cross.rows >= COARSE_ROWS else None,
        probes=probes,
        tolerance=tolerance,
        max_iterations=max_iterations,
        report=note,
    )
    found = search.root
    if holding is None:
        at, uncertainty = found.at, parameter_uncertainty(criterion, found.at)
        # the residual variance follows theta: its derivative is minus the quadratic part of the score
        moves = np.concatenate([np.eye(len(theta)), -at.profile[None] / criterion.degrees])
    else:
        at, moves = whole_point(found.at, holding), holding.jacobian(holding.whole(found.at.theta))
        uncertainty = held_uncertainty(criterion, cast(Held[Estimate], search.equations), found.at)
    covariance = moves @ noise(found.at, search.probes) @ moves.T
    root = Root(at, found.converged and search.enough, search.history, found.decrement)
    return _stochastic_model(problem, root, covariance, uncertainty, search.probes, seed, begun, holding)


def _drawn(problem: Problem, count: int, seed: int) -> Probes:
    return draw_probes(problem.rows, problem.criterion.cross, problem.criterion.engine, count, seed)


def _fit_given(problem: Problem, holding: Holding, seed: int, begun: float) -> Model:
    """The stochastic path where no parameter is left to learn: one solve, then what is said of its uncertainty."""
    started = time.perf_counter()
    at = estimate_given(problem.criterion, holding.whole(np.zeros(0)))
    step = Step(0, float("nan"), 0.0, True, time.perf_counter() - started)
    none = np.zeros((len(holding.base),) * 2)
    certain = ParameterUncertainty(none, none[:, :0], "observed")
    found = Root(at, at.tolerance <= GIVEN_TOLERANCE, (step,), 0.0)
    return _stochastic_model(problem, found, none, certain, 0, seed, begun, holding)


def _stochastic_model(
    problem: Problem,
    found: Root[Estimate],
    noise: FloatArray,
    uncertainty: ParameterUncertainty,
    probes: int,
    seed: int,
    begun: float,
    holding: Holding | None,
) -> Model:
    criterion, at = problem.criterion, found.at
    names = [spec.name for spec in problem.design.spec.groups]
    deviances = precise_enough(
        lambda count, skip: stochastic_deviance(criterion, at, names, count, seed, skip), max(probes, LOGDET_PROBES)
    )
    fixed = fixed_effects(criterion, at, shift_of_modes(criterion.cross, at))
    sample = draw_posterior(problem, at, fixed, max(probes, POSTERIOR_DRAWS), seed)
    follow = fixed.moves @ noise @ fixed.moves.T
    outcome = stochastic_outcome(problem, found, deviances, fixed, sample, noise, follow, probes)
    return assemble(problem, outcome, fixed, uncertainty, begun, holding=holding)


def _equations(equations: Estimating, holding: Holding | None) -> Equations[Estimate]:
    """The estimating equations, over what is free."""
    if holding is None:
        return equations
    return Held(Unprofiled(equations, equations.criterion), holding)


def is_exact_cheap(cross: CrossProducts) -> bool:
    """Whether the exact path takes seconds: few columns beside the stages, few pairs of columns within their levels."""
    pairs = sum(float(s.size * np.sum(np.diff(s.offsets).astype(np.float64) ** 2)) for s in cross.stages)
    return cross.random <= EXACT_COLUMNS and pairs <= EXACT_PAIRS


def starting_theta(problem: Problem, start: Mapping[str, FloatArray] | None) -> FloatArray:
    """``theta`` of given relative covariances (raw coordinates), by moments where none is given."""
    theta = moment_start(problem.criterion.cross, problem.layout, problem.criterion.engine)
    if not start:
        return theta
    covariances = [f @ f.T for f in problem.layout.factors(theta)]
    for b, (spec, back) in enumerate(zip(problem.design.spec.groups, problem.scaling.z_back, strict=True)):
        given = start.get(spec.name)
        if given is not None and given.shape == back.shape:
            inverse = np.linalg.inv(back)
            covariances[b] = inverse @ given @ inverse.T
    return problem.layout.project(covariances)


def _free_start(holding: Holding, theta: FloatArray) -> FloatArray:
    """Where a search starts whose covariances are not over the profiled residual variance.

    ``theta`` is over that of the method of moments, which shares the response's mean square of one with the random
    effects.
    """
    log_sigma2 = -float(np.log1p(theta @ theta))
    log_held = log_sigma2 if len(holding.base) - 1 in holding.free else float(holding.base[-1])
    return np.append(theta * np.exp((log_sigma2 - log_held) / 2), log_held)[holding.free]


def theta_of(problem: Problem, relative: Mapping[str, FloatArray]) -> FloatArray:
    """``theta`` of covariances over the residual variance, every grouping factor given by name."""
    covariances = []
    for spec, back in zip(problem.design.spec.groups, problem.scaling.z_back, strict=True):
        inverse = np.linalg.inv(back)
        covariances.append(inverse @ relative[spec.name] @ inverse.T)
    return problem.layout.project(covariances)
