"""A Gaussian mixed model from its design to the fitted model: ML or REML on the exact path."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import FitInfo, GroupModel, Iteration, Model, Posterior, PosteriorStage, VarianceRow
from ranef.artifact.versions import versions
from ranef.design.build import Design
from ranef.design.spec import GroupSpec
from ranef.engine.threads import Engine
from ranef.kernel.eliminate import reduce_levels
from ranef.learn.criterion import Criterion, Evaluation
from ranef.learn.minimise import Minimum, Step, minimise
from ranef.learn.scaling import Scaling, scale
from ranef.learn.start import moment_start
from ranef.learn.uncertainty import FixedEffects, ParameterUncertainty, fixed_effects, parameter_uncertainty
from ranef.prior import Layout
from ranef.solve.cross_products import cross_products
from ranef.solve.elimination import by_block

FloatArray = npt.NDArray[np.float64]
Method = Literal["reml", "ml"]

TOLERANCE = 1e-9
MAX_ITERATIONS = 200


@dataclass(frozen=True, eq=False)
class Problem:
    """A design in internal coordinates with its criterion: what a search, a profile or a bootstrap works on."""

    design: Design
    criterion: Criterion
    scaling: Scaling
    layout: Layout


def prepare(design: Design, method: Method, engine: Engine) -> Problem:
    """Scale the design and compute its cross products.

    Raises
    ------
    FitError
        If the fixed effects reproduce the response, or the crossed factors are too large for the exact path.
    """
    rows, layout, scaling = scale(design)
    cross = cross_products(rows, engine)
    reml = method == "reml"
    log_scale = scaling.log_scale_reml if reml else scaling.log_scale_ml
    return Problem(design, Criterion(cross, layout, reml, engine, log_scale), scaling, layout)


def fit_gaussian(
    design: Design,
    method: Method,
    engine: Engine,
    *,
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
    start : mapping of str to float64 array (k, k), optional
        Starting covariance of each grouping factor over the residual variance; factors that are not named start from
        the method of moments.
    tolerance : float, optional
        The search ends when a step is predicted to lower the deviance by less; default 1e-9.
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

    def tell(step: Step, at: Evaluation) -> None:
        if report is not None:
            report(step, *natural(problem, at))

    found = minimise(
        problem.criterion,
        theta,
        tolerance=TOLERANCE if tolerance is None else tolerance,
        max_iterations=MAX_ITERATIONS if max_iterations is None else max_iterations,
        report=tell,
    )
    return _model(problem, found, begun)


def starting_theta(problem: Problem, start: Mapping[str, FloatArray] | None) -> FloatArray:
    """``theta`` of given relative covariances (raw coordinates), by moments where none is given."""
    theta = moment_start(problem.criterion.cross, problem.layout)
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


def natural(problem: Problem, at: Evaluation) -> tuple[float, dict[str, FloatArray]]:
    """Residual variance and the covariance of each factor, response units squared."""
    sigma2 = at.sigma2 * problem.scaling.y_scale**2
    covariances = {}
    for spec, back, factor in zip(problem.design.spec.groups, problem.scaling.z_back, at.system.factors, strict=True):
        root = back @ factor
        covariances[spec.name] = sigma2 * root @ root.T
    return sigma2, covariances


def _model(problem: Problem, found: Minimum, begun: float) -> Model:
    design, scaling, criterion, at = problem.design, problem.scaling, problem.criterion, found.at
    cross = criterion.cross
    sigma2, covariances = natural(problem, at)
    fixed = fixed_effects(criterion, at)
    parameters = parameter_uncertainty(criterion, at)
    varcorr = tuple(_varcorr(problem, at, covariances, sigma2, parameters))
    back, y2 = scaling.x_back, scaling.y_scale**2
    beta = scaling.least_squares + scaling.y_scale * back @ at.system.beta
    p = len(beta)
    groups = []
    into = np.linalg.inv(back) if p else back
    modes = by_block(cross, at.system.solution)
    for spec, group, mode, conditional, m, z_back in zip(
        design.spec.groups,
        design.groups,
        modes,
        _conditional(criterion, at, fixed),
        fixed.sensitivity,
        scaling.z_back,
        strict=True,
    ):
        groups.append(
            GroupModel(
                levels=group.levels,
                combination=group.combination,
                covariance=covariances[spec.name],
                modes=scaling.y_scale * mode[:, :, 0] @ z_back.T,
                conditional=sigma2 * z_back @ conditional @ z_back.T,
                sensitivity=z_back @ m @ into,
            )
        )
    errors = np.sqrt(np.diag(parameters.covariance)[:-1])
    info = FitInfo(
        family="gaussian",
        link="identity",
        method="reml" if criterion.reml else "ml",
        nobs=cross.rows,
        dropped=design.dropped.rows,
        dropped_missing=dict(design.dropped.missing),
        dropped_zero_weight=design.dropped.zero_weight,
        aliased=tuple(n for j, n in enumerate(design.spec.fixed.names) if j not in scaling.columns),
        df=p + problem.layout.parameters + 1,
        sigma=float(np.sqrt(sigma2)),
        deviance=at.deviance,
        converged=found.converged,
        singular=_singular(at),
        solver="exact",
        iterations=len(found.history),
        seconds=time.perf_counter() - begun,
        information=parameters.information,
        # of half the deviance, times the standard error: how many standard errors the parameter is off
        gradient=float(np.max(np.abs(at.gradient) * errors / 2, initial=0.0)),
        fixed_variance=float(np.var(design.x[:, scaling.columns] @ beta)) if p else 0.0,
        random_variance=_random_variance(design, covariances),
        history=tuple(Iteration(s.iteration, s.deviance, s.decrement, s.accepted, s.seconds) for s in found.history),
        versions=versions(),
    )
    return Model(
        spec=design.spec,
        info=info,
        fixed_columns=scaling.columns,
        beta=beta,
        vcov=y2 * back @ fixed.vcov @ back.T,
        varcorr=varcorr,
        groups=tuple(groups),
        column_levels=design.column_levels,
        parameter_vcov=parameters.covariance,
        vcov_gradient=y2 * back @ fixed.gradient @ back.T,
        posterior=_posterior(problem, at, fixed, sigma2),
    )


def _conditional(criterion: Criterion, at: Evaluation, fixed: FixedEffects) -> list[FloatArray]:
    """Own blocks of the inverse of ``C_b``; of the joint system's under REML, less what the fixed effects add."""
    if not criterion.reml:
        return list(at.inverse.diagonal)
    v = fixed.vcov / at.sigma2
    return [d - m @ v @ m.transpose(0, 2, 1) for d, m in zip(at.inverse.diagonal, fixed.sensitivity, strict=True)]


def _singular(at: Evaluation) -> bool:
    # in whitened coordinates a correlation of one is a zero on the diagonal too
    return any(bool(np.any(np.abs(np.diag(factor)) < 1e-4)) for factor in at.system.factors)


def _random_variance(design: Design, covariances: Mapping[str, FloatArray]) -> float:
    total = 0.0
    for spec, group in zip(design.spec.groups, design.groups, strict=True):
        second = group.covariates.T @ group.covariates / len(design.y)
        total += float(np.sum(second * covariances[spec.name]))
    return total


def _varcorr(
    problem: Problem,
    at: Evaluation,
    covariances: Mapping[str, FloatArray],
    sigma2: float,
    parameters: ParameterUncertainty,
) -> list[VarianceRow]:
    rows: list[VarianceRow] = []
    m = problem.layout.parameters
    for b, spec in enumerate(problem.design.spec.groups):
        covariance = covariances[spec.name]
        slopes = np.zeros((m + 1, *covariance.shape))
        root = problem.scaling.z_back[b] @ at.system.factors[b]
        half = sigma2 * (problem.scaling.z_back[b] @ problem.layout.basis[b]) @ root.T
        slopes[problem.layout.slices[b]] = half + half.transpose(0, 2, 1)
        slopes[m] = covariance
        variance = np.einsum("pij,pq,qij->ij", slopes, parameters.covariance, slopes)
        lost = np.abs(np.einsum("pij,pu->iju", slopes, parameters.unknown)).sum(-1)
        # no standard error at the boundary, or for what the data do not determine
        none = (covariance == 0) | (lost > 1e-6 * np.sqrt(np.sum(slopes**2, axis=0)))
        error = np.sqrt(np.where(none, np.nan, variance.clip(0)))
        rows += _term_rows(spec, covariance, error)
    residual_error = sigma2 * float(np.sqrt(parameters.covariance[m, m]))
    rows.append(VarianceRow("Residual", None, None, sigma2, float(np.sqrt(sigma2)), residual_error, 0.0))
    return rows


def _term_rows(spec: GroupSpec, covariance: FloatArray, error: FloatArray) -> list[VarianceRow]:
    rows = []
    for number, term in enumerate(spec.terms):
        name = spec.name if number == 0 else f"{spec.name}.{number}"
        names = term.effects.names
        sd = np.sqrt(np.diag(covariance))
        for i in range(term.size):
            a = term.start + i
            rows.append(
                VarianceRow(name, names[i], None, float(covariance[a, a]), float(sd[a]), float(error[a, a]), 0.0)
            )
        if term.covariance != "full":
            continue
        for i in range(term.size):
            for j in range(i + 1, term.size):
                a, b = term.start + i, term.start + j
                scale = sd[a] * sd[b]
                correlation = float(covariance[a, b] / scale) if scale > 0 else float("nan")
                rows.append(
                    VarianceRow(name, names[i], names[j], float(covariance[a, b]), correlation, float(error[a, b]), 0.0)
                )
    return rows


def _posterior(problem: Problem, at: Evaluation, fixed: FixedEffects, sigma2: float) -> Posterior:
    """Everything the variance of a linear combination of coefficients needs."""
    cross, system, engine = problem.criterion.cross, at.system, problem.criterion.engine
    stages = []
    for stage, reduced in zip(cross.stages, system.stages, strict=True):
        turned = np.ascontiguousarray(reduced.transfer.transpose(0, 2, 1))
        pull, pull_up = np.empty_like(reduced.reduced), np.empty_like(reduced.reduced_up)
        engine.each(
            stage.partitions, reduce_levels, turned, stage.offsets, reduced.reduced, reduced.reduced_up, pull, pull_up
        )
        position = np.empty(stage.levels, np.int64)
        position[stage.old] = np.arange(stage.levels)
        stages.append(
            PosteriorStage(
                group=stage.block,
                position=position,
                own=turned @ reduced.transfer,
                offsets=stage.offsets,
                columns=stage.columns,
                pull=pull,
                parents=tuple(a.parent for a in stage.ancestors),
                pull_up=pull_up,
            )
        )
    dense = at.inverse.rest
    r, p = cross.random, cross.fixed
    if not problem.criterion.reml:
        v = fixed.vcov / at.sigma2
        m = (
            np.concatenate([fixed.sensitivity[k.block].reshape(-1, p) for k in cross.kept])
            if cross.kept
            else np.zeros((0, p))
        )
        dense = dense.copy()
        dense[:r, :r] += m @ v @ m.T
        dense[:r, r : r + p] = -m @ v
        dense[r : r + p, :r] = dense[:r, r : r + p].T
        dense[r : r + p, r : r + p] = v
    return Posterior(
        scale=sigma2,
        x_back=problem.scaling.x_back,
        z_back=problem.scaling.z_back,
        stages=tuple(stages),
        kept=tuple(k.block for k in cross.kept),
        kept_start=tuple(k.start for k in cross.kept),
        fixed_start=r,
        dense=dense,
    )
