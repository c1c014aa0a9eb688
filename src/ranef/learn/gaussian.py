"""A Gaussian mixed model from its design to the fitted model: ML or REML, exact or stochastic."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.engine.threads import Engine
from ranef.errors import FitError
from ranef.learn.assemble import Outcome, Problem, assemble, natural
from ranef.learn.criterion import Criterion
from ranef.learn.draws import draw_posterior
from ranef.learn.minimise import Step, minimise
from ranef.learn.newton import Point
from ranef.learn.noise import coverage_factor, precise_enough, standard_error
from ranef.learn.posterior import exact_conditional, exact_posterior, posterior_draws, stochastic_conditional
from ranef.learn.probes import draw_probes
from ranef.learn.root import coarse_start, find_root
from ranef.learn.saturation import saturated
from ranef.learn.scaling import scale
from ranef.learn.start import moment_start
from ranef.learn.stochastic import Estimate, estimating, stochastic_deviance
from ranef.learn.uncertainty import fixed_effects, parameter_uncertainty
from ranef.solve.cross_products import CrossProducts, cross_products

FloatArray = npt.NDArray[np.float64]
Method = Literal["reml", "ml"]
Solver = Literal["auto", "exact", "stochastic"]

TOLERANCE = 1e-9
STOCHASTIC_TOLERANCE = 1e-5
MAX_ITERATIONS = 200
FIRST_PROBES = 8
MOST_PROBES = 64
LOGDET_PROBES = 8
POSTERIOR_DRAWS = 32
# of a parameter's standard error
LARGEST_NOISE = 0.05
# with as many rows an evaluation costs more than its overhead, and a few with few probes save one with many
COARSE_ROWS, COARSE_PROBES = 500_000, 2
EXACT_COLUMNS = 2_000
EXACT_PAIRS = 2e9


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
    solver : {"auto", "exact", "stochastic"}
        ``"auto"`` is exact where that takes seconds.
    probes : int, optional
        Of the stochastic solver; None starts with 8 and doubles them until the Monte-Carlo error of every covariance
        parameter is a twentieth of its standard error.
    seed : int
        Of the probes.
    start : mapping of str to float64 array (k, k), optional
        Starting covariance of each grouping factor over the residual variance; factors that are not named start from
        the method of moments.
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
    theta = starting_theta(problem, start)
    stochastic = solver == "stochastic" or (solver == "auto" and not is_exact_cheap(problem.criterion.cross))
    # without random effects, or with stages alone, nothing is left to sample
    stochastic = stochastic and bool(problem.criterion.cross.kept)

    def tell(step: Step, at: Point) -> None:
        if report is not None:
            report(step, *natural(problem, at))

    most = MAX_ITERATIONS if max_iterations is None else max_iterations
    if not stochastic:
        tolerance = TOLERANCE if tolerance is None else tolerance
        found = minimise(problem.criterion, theta, tolerance=tolerance, max_iterations=most, report=tell)
        fixed = fixed_effects(problem.criterion, found.at)
        outcome = Outcome(
            at=found.at,
            solver="exact",
            deviance=found.at.deviance,
            deviance_error=0.0,
            deviance_draws=(),
            converged=found.converged,
            history=found.history,
            conditional=exact_conditional(problem.criterion, found.at, fixed),
            posterior=exact_posterior(problem, found.at, fixed),
            noise=np.zeros((len(theta), len(theta))),
            profile=np.zeros(len(theta)),
            probes=0,
        )
        return assemble(problem, outcome, fixed, parameter_uncertainty(problem.criterion, found.at), begun)
    tolerance = STOCHASTIC_TOLERANCE if tolerance is None else tolerance
    return _fit_stochastic(problem, theta, probes, seed, tolerance, most, tell, begun)


def _fit_stochastic(
    problem: Problem,
    theta: FloatArray,
    probes: int | None,
    seed: int,
    tolerance: float,
    max_iterations: int,
    tell: Callable[[Step, Point], None],
    begun: float,
) -> Model:
    criterion = problem.criterion
    count = FIRST_PROBES if probes is None else probes
    history: list[Step] = []
    searched = time.perf_counter()
    near = False
    drawn = draw_probes(problem.rows, criterion.cross, criterion.engine, count, seed)
    if criterion.cross.rows >= COARSE_ROWS:
        # one evaluation at least is left for the search itself
        onward = _onward(history, time.perf_counter() - searched, tell)
        few = estimating(criterion, drawn.first(COARSE_PROBES), False)
        theta, near = coarse_start(few, theta, max_iterations - 1, onward)
    while True:
        equations = estimating(criterion, drawn)
        found = find_root(
            equations,
            theta,
            tolerance=tolerance,
            max_iterations=max_iterations - len(history),
            near=near,
            report=_onward(history, time.perf_counter() - searched, tell),
        )
        theta, near = found.at.theta, True
        noise, errors = _noise(found.at, count)
        enough = probes is not None or count >= MOST_PROBES or bool(np.all(noise <= (LARGEST_NOISE * errors) ** 2))
        if enough or len(history) >= max_iterations:
            break
        count *= 2
        drawn = draw_probes(problem.rows, criterion.cross, criterion.engine, count, seed)
    at = found.at
    names = [spec.name for spec in problem.design.spec.groups]
    draws = precise_enough(
        lambda probes, skip: stochastic_deviance(equations, at, names, probes, seed, skip), max(count, LOGDET_PROBES)
    )
    fixed = fixed_effects(criterion, at)
    sample = draw_posterior(problem, at, fixed, max(count, POSTERIOR_DRAWS), seed)
    inverse = np.linalg.pinv(at.metric, hermitian=True)
    outcome = Outcome(
        at=at,
        solver="stochastic",
        deviance=float(draws.mean()),
        deviance_error=standard_error(draws),
        deviance_draws=tuple(draws.tolist()),
        converged=found.converged and enough,
        history=tuple(history),
        conditional=stochastic_conditional(sample, fixed),
        posterior=posterior_draws(problem, at, sample),
        noise=coverage_factor(count) ** 2 * inverse @ at.gradient_covariance @ inverse,
        profile=at.profile / criterion.degrees,
        probes=count,
    )
    return assemble(problem, outcome, fixed, parameter_uncertainty(criterion, at), begun)


def _onward(history: list[Step], since: float, tell: Callable[[Step, Point], None]) -> Callable[[Step, Estimate], None]:
    """What a search reports to: its steps are counted and timed on from those of the searches before it."""
    first = len(history)

    def note(step: Step, at: Estimate) -> None:
        history.append(replace(step, iteration=first + step.iteration, seconds=since + step.seconds))
        tell(history[-1], at)

    return note


def _noise(at: Estimate, probes: int) -> tuple[FloatArray, FloatArray]:
    """Monte-Carlo variances and standard errors of the parameters."""
    inverse = np.linalg.pinv(at.metric, hermitian=True)
    noise = coverage_factor(probes) ** 2 * inverse @ at.gradient_covariance @ inverse
    return np.diag(noise), np.sqrt(2 * np.diag(inverse).clip(0))


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


def theta_of(problem: Problem, relative: Mapping[str, FloatArray]) -> FloatArray:
    """``theta`` of covariances over the residual variance, every grouping factor given by name."""
    covariances = []
    for spec, back in zip(problem.design.spec.groups, problem.scaling.z_back, strict=True):
        inverse = np.linalg.inv(back)
        covariances.append(inverse @ relative[spec.name] @ inverse.T)
    return problem.layout.project(covariances)
