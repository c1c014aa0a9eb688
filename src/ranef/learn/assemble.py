"""From the end of a search to the fitted model: everything in raw units again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from ranef.artifact.model import (
    FamilyParameter,
    FitInfo,
    GroupModel,
    Iteration,
    Model,
    Posterior,
    PosteriorDraws,
    VarianceRow,
)
from ranef.artifact.versions import versions
from ranef.design.build import Design
from ranef.design.matrix import INTERCEPT
from ranef.design.spec import GroupSpec
from ranef.learn.criterion import Criterion
from ranef.learn.held import Holding
from ranef.learn.minimise import Step
from ranef.learn.newton import Point
from ranef.learn.scaling import Scaling
from ranef.learn.uncertainty import FixedEffects, ParameterUncertainty
from ranef.prior import Layout
from ranef.solve.elimination import by_block
from ranef.solve.rows import Rows

FloatArray = npt.NDArray[np.float64]

# A search that says it has converged with a parameter this many standard errors away has lost its digits.
LARGEST_GRADIENT = 0.1


@dataclass(frozen=True, eq=False)
class Problem:
    """A design in internal coordinates with its criterion: what a search, a profile or a bootstrap works on."""

    design: Design
    criterion: Criterion
    scaling: Scaling
    layout: Layout
    rows: Rows


@dataclass(frozen=True, eq=False)
class Outcome:
    """What either solver ends with.

    Attributes
    ----------
    at : Point
    solver : {"exact", "stochastic"}
    deviance, deviance_error : float
        The criterion and its Monte-Carlo standard error.
    deviance_draws : tuple of float
        The criterion by each probe alone; empty if exact.
    converged : bool
    history : tuple of Step
    conditional : list of float64 arrays (levels, k, k)
        Posterior covariance of each level given the fixed effects, over sigma^2; of a walk that of its levels, and not
        of its increments.
    posterior : Posterior or PosteriorDraws
    noise : float64 array, shape (parameters + 1, parameters + 1)
        Monte-Carlo covariance of ``(theta, log sigma^2)``.
    fixed_noise : float64 array, shape (p, p), or None
        Of the fixed effects, internal coordinates; None if exact.
    probes : int
    """

    at: Point
    solver: Literal["exact", "stochastic"]
    deviance: float
    deviance_error: float
    deviance_draws: tuple[float, ...]
    converged: bool
    history: tuple[Step, ...]
    conditional: list[FloatArray]
    posterior: Posterior | PosteriorDraws
    noise: FloatArray
    fixed_noise: FloatArray | None
    probes: int


@dataclass(frozen=True, eq=False)
class Description:
    """What a family other than the Gaussian adds to the model.

    Attributes
    ----------
    family, link, method : str
    parameters : tuple of FamilyParameter
    thresholds : str or None
    phi : float64 array
    covariance : float64 array
        Of ``(theta, phi)``.
    quadrature : int
        Nodes of each level's integral.
    """

    family: str
    link: str
    method: str
    parameters: tuple[FamilyParameter, ...]
    thresholds: Literal["flexible", "symmetric", "equidistant"] | None
    phi: FloatArray
    covariance: FloatArray
    quadrature: int


def natural(problem: Problem, at: Point) -> tuple[float, dict[str, FloatArray]]:
    """Residual variance and the covariance of each factor, response units squared."""
    sigma2 = at.sigma2 * problem.scaling.y_scale**2
    covariances = {}
    for spec, back, factor in zip(problem.design.spec.groups, problem.scaling.z_back, at.factors, strict=True):
        root = back @ factor
        # what cancels to rounding is zero: a variance of 1e-38 with a correlation of -1 is neither
        root[np.abs(root) < 1e-13 * (np.abs(back) @ np.maximum(np.abs(factor), 1.0))] = 0.0
        covariances[spec.name] = sigma2 * root @ root.T
    return sigma2, covariances


def assemble(
    problem: Problem,
    outcome: Outcome,
    fixed: FixedEffects,
    parameters: ParameterUncertainty,
    begun: float,
    described: Description | None = None,
    holding: Holding | None = None,
) -> Model:
    """The fitted model in raw units.

    Parameters
    ----------
    begun : float
        When the fit began, by `time.perf_counter`.
    described : Description, optional
        Of another family than the Gaussian: there is then no residual variance.
    holding : Holding, optional
        Which parameters were held at given values.
    """
    design, scaling, criterion, at = problem.design, problem.scaling, problem.criterion, outcome.at
    cross = criterion.cross
    sigma2, covariances = natural(problem, at)
    held = () if holding is None else holding.names
    # what is given has no error
    varcorr = tuple(
        replace(row, se=float("nan"), mcse=0.0) if row.grp in held else row
        for row in _varcorr(problem, outcome, covariances, sigma2, parameters)
    )
    if described is not None:
        # the residual's row
        varcorr = varcorr[:-1]
    back, y2 = scaling.x_back, scaling.y_scale**2
    p = cross.fixed
    noise = np.zeros((p, p)) if outcome.fixed_noise is None else outcome.fixed_noise
    fixed_noise = np.sqrt(np.diag(y2 * back @ noise @ back.T).clip(0))
    beta = scaling.least_squares + scaling.y_scale * back @ at.solution.rest[cross.random : cross.random + p, 0]
    groups = []
    into = np.linalg.inv(back) if p else back
    modes = by_block(cross, at.solution)
    for spec, group, mode, conditional, m, z_back in zip(
        design.spec.groups,
        design.groups,
        modes,
        outcome.conditional,
        fixed.sensitivity,
        scaling.z_back,
        strict=True,
    ):
        groups.append(
            GroupModel(
                levels=group.levels,
                combination=group.combination,
                covariance=covariances[spec.name],
                modes=scaling.y_scale * group.on_levels(mode[:, :, 0]) @ z_back.T,
                conditional=sigma2 * z_back @ conditional @ z_back.T,
                sensitivity=z_back @ group.on_levels(m) @ into,
                walk=group.walk,
                membership=group.membership if group.owners is not None else None,
                owners=group.owners,
            )
        )
    # of half the deviance, times the standard error: how many standard errors the parameter is off
    errors = np.sqrt(np.diag(parameters.covariance))
    if described is not None:
        count = problem.layout.parameters
        own = np.sqrt(np.diag(described.covariance)[count:])
        # at joint modes the fixed effects are no parameters of the search
        of_fixed = np.sqrt(np.diag(fixed.vcov))[: len(at.gradient) - count - len(own)]
        errors = np.concatenate([errors[:count], of_fixed, own])
    left = at.gradient[: len(errors)]
    gradient = float(np.max(np.abs(left) * errors[: len(left)] / 2, initial=0.0))
    info = FitInfo(
        family="gaussian" if described is None else described.family,
        link="identity" if described is None else described.link,
        method=("reml" if criterion.reml else "ml") if described is None else described.method,
        nobs=cross.rows,
        dropped=design.dropped.rows,
        dropped_missing=dict(design.dropped.missing),
        dropped_zero_weight=design.dropped.zero_weight,
        aliased=tuple(n for j, n in enumerate(design.spec.fixed.names) if j not in scaling.columns),
        df=(
            p
            + problem.layout.parameters
            + (1 if described is None else len(described.phi))
            - (0 if holding is None else holding.count)
        ),
        sigma=float(np.sqrt(sigma2)),
        deviance=outcome.deviance,
        converged=outcome.converged and gradient < LARGEST_GRADIENT,
        singular=_singular(problem.layout, at, holding),
        solver=outcome.solver,
        iterations=len(outcome.history),
        seconds=time.perf_counter() - begun,
        information=parameters.information,
        gradient=gradient,
        fixed_variance=fixed_variance(design, scaling, beta),
        random_variance=random_variance(design, covariances),
        history=tuple(
            Iteration(s.iteration, s.deviance, s.decrement, s.accepted, s.seconds, s.gradient) for s in outcome.history
        ),
        versions=versions(),
        deviance_error=outcome.deviance_error,
        family_parameters=() if described is None else described.parameters,
        thresholds=None if described is None else described.thresholds,
        quadrature=1 if described is None else described.quadrature,
        deviance_draws=outcome.deviance_draws,
        empty_categories=design.empty_categories,
        probes=outcome.probes,
        held=held,
        fixef_mcse=() if outcome.fixed_noise is None else tuple(fixed_noise.tolist()),
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
        parameter_vcov=parameters.covariance if described is None else described.covariance,
        vcov_gradient=y2 * back @ fixed.gradient @ back.T,
        posterior=outcome.posterior,
        phi=np.zeros(0) if described is None else described.phi,
    )


def _singular(layout: Layout, at: Point, holding: Holding | None) -> bool:
    """Whether a covariance that was learned is singular."""
    for b, (structures, factor) in enumerate(zip(layout.blocks, at.factors, strict=True)):
        # in whitened coordinates a correlation of one is a zero on the diagonal too
        small = iter(np.abs(np.diag(factor)) < 1e-4)
        for t, structure in enumerate(structures):
            own = [next(small) for _ in range(structure.size)]
            if any(own) and not (holding is not None and holding.terms[b][t]):
                return True
    return False


def fixed_variance(design: Design, scaling: Scaling, beta: FloatArray) -> float:
    """Variance over the rows of the fixed part."""
    if design.spec.fixed.names == (INTERCEPT,):
        return 0.0
    n, centre, first, second = len(design.y), None, 0.0, 0.0
    for rows in design.storage.pieces(n):
        values = design.x[rows][:, scaling.columns] @ beta
        centre = values.mean() if centre is None else centre
        first += float(np.sum(values - centre))
        second += float(np.sum((values - centre) ** 2))
    return max(0.0, second / n - (first / n) ** 2)


def random_variance(design: Design, covariances: Mapping[str, FloatArray]) -> float:
    """Mean over the rows of the random effects' variance."""
    total = 0.0
    for spec, group in zip(design.spec.groups, design.groups, strict=True):
        # of a unit's sum of levels, or a walk's of increments, over that of one
        one = group.membership if group.walk is None else group.walk.membership
        squares = None if one is None else one.squares
        second = np.ones((1, 1))
        if not spec.intercept_only or squares is not None:
            second = np.zeros_like(covariances[spec.name])
            for rows in design.storage.pieces(len(design.y)):
                z = (
                    group.covariates[rows]
                    if squares is None
                    else group.covariates[rows] * squares[group.codes[rows], None]
                )
                second += z.T @ group.covariates[rows] / len(design.y)
        total += float(np.sum(second * covariances[spec.name]))
    return total


def _varcorr(
    problem: Problem,
    outcome: Outcome,
    covariances: Mapping[str, FloatArray],
    sigma2: float,
    parameters: ParameterUncertainty,
) -> list[VarianceRow]:
    rows: list[VarianceRow] = []
    m = problem.layout.parameters
    for b, spec in enumerate(problem.design.spec.groups):
        covariance = covariances[spec.name]
        slopes = np.zeros((m + 1, *covariance.shape))
        root = problem.scaling.z_back[b] @ outcome.at.factors[b]
        half = sigma2 * (problem.scaling.z_back[b] @ problem.layout.basis[b]) @ root.T
        slopes[problem.layout.slices[b]] = half + half.transpose(0, 2, 1)
        slopes[m] = covariance
        variance = np.einsum("pij,pq,qij->ij", slopes, parameters.covariance, slopes)
        lost = np.abs(np.einsum("pij,pu->iju", slopes, parameters.unknown)).sum(-1)
        # no standard error at the boundary, or for what the data do not determine
        none = (covariance == 0) | (lost > 1e-6 * np.sqrt(np.sum(slopes**2, axis=0)))
        error = np.sqrt(np.where(none, np.nan, variance.clip(0)))
        noise = np.sqrt(np.einsum("pij,pq,qij->ij", slopes, outcome.noise, slopes).clip(0))
        rows += _term_rows(spec, covariance, error, noise)
    residual_error = sigma2 * float(np.sqrt(parameters.covariance[m, m]))
    noise_error = sigma2 * float(np.sqrt(outcome.noise[m, m].clip(0)))
    rows.append(VarianceRow("Residual", None, None, sigma2, float(np.sqrt(sigma2)), residual_error, noise_error))
    return rows


def _term_rows(spec: GroupSpec, covariance: FloatArray, error: FloatArray, noise: FloatArray) -> list[VarianceRow]:
    rows: list[VarianceRow] = []

    def add(group: str, one: str, other: str | None, a: int, b: int, sdcor: float) -> None:
        entries = (float(covariance[a, b]), sdcor, float(error[a, b]), float(noise[a, b]))
        rows.append(VarianceRow(group, one, other, *entries))

    for number, term in enumerate(spec.terms):
        name = spec.name if number == 0 else f"{spec.name}.{number}"
        names = term.effects.names
        sd = np.sqrt(np.diag(covariance))
        for i in range(term.size):
            a = term.start + i
            add(name, names[i], None, a, a, float(sd[a]))
        if term.covariance != "full":
            continue
        for i in range(term.size):
            for j in range(i + 1, term.size):
                a, b = term.start + i, term.start + j
                scale = sd[a] * sd[b]
                add(name, names[i], names[j], a, b, float(covariance[a, b] / scale) if scale > 0 else float("nan"))
    return rows
