"""A Bayesian mixed model from its design to the fitted model, by Gibbs sampling."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import FamilyParameter, FitInfo, GroupModel, Model, Sample, VarianceRow
from ranef.artifact.versions import versions
from ranef.design.build import Design
from ranef.design.matrix import INTERCEPT
from ranef.design.spec import distinct
from ranef.engine.threads import Engine
from ranef.errors import FitError, OptionError, nearest
from ranef.family import Family
from ranef.family.ordinal import Ordinal
from ranef.learn.assemble import fixed_variance, random_variance
from ranef.learn.augment import augmentation_of, check_weights
from ranef.learn.chains import Lengths, run_chains
from ranef.learn.convergence import ess_bulk, ess_tail, mean_error, rhat
from ranef.learn.drawn import Drawn
from ranef.learn.hyperprior import Prior, Unit, residual_unit, units_of
from ranef.learn.likelihood import likelihood
from ranef.learn.mode import ConjugateGradients, Exact
from ranef.learn.scaling import Scaling, scale, scale_generalized, unit_variance
from ranef.learn.sweep import FixedPrior, State, Target, placed
from ranef.learn.unbounded import refuse_improper
from ranef.solve.cross_products import CrossProducts
from ranef.solve.reweigh import reweigh
from ranef.solve.rows import Rows
from ranef.solve.weighted import Weighing, weighing

FloatArray = npt.NDArray[np.float64]
Solver = Literal["auto", "exact", "stochastic", "bound"]

# a dense factorisation is made at every sweep: beyond, conjugate gradients are faster
EXACT_COLUMNS = 500
EXACT_PAIRS = 5e7
# of the solutions by conjugate gradients
ACCURACY = 1e-7
# draws that say the same of every parameter: Vehtari et al. (2021)
LARGEST_RHAT = 1.01
LEAST_ESS_A_CHAIN = 100.0
# chains start with standard deviations half of the prior's unit, times or over about two
START_SD, START_SPREAD = 0.5, 0.7
LOG_POSTERIOR = "log_posterior"


def fit_gibbs(
    design: Design,
    family: Family,
    engine: Engine,
    prior: Prior,
    lengths: Lengths,
    *,
    solver: Solver = "auto",
    seed: int = 0,
    start: Mapping[str, FloatArray] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Model:
    """Draw from the posterior of all parameters.

    Parameters
    ----------
    design : Design
    family : Family
    engine : Engine
    prior : Prior
    lengths : Lengths
    solver : {"auto", "exact", "stochastic"}
        Of the mixed-model system of each sweep: factorised, or by conjugate gradients.
    seed : int
    start : mapping of str to float64 array (k, k), optional
        Covariance of each grouping factor, around which the chains start.
    report : callable, optional
        Gets how many sweeps are done, and of how many.

    Raises
    ------
    OptionError
        The family has no augmentation, or a prior names a coefficient that is not there.
    DataError
    FitError
        The posterior is improper, or the numerics broke down.
    """
    begun = time.perf_counter()
    target, chosen = prepare_target(design, family, engine, prior, solver)
    names = [design.spec.fixed.names[j] for j in target.scaling.columns]
    flat = [name for name, precision in zip(names, target.fixed.beta, strict=True) if precision == 0]
    # of a Gaussian family there are no such parameters
    flat += [name for name, p in zip(target.of.family.parameters, target.fixed.phi, strict=False) if p == 0]
    try:
        drawn = run_chains(target, _starts(target, design, start), lengths, seed, report)
    except FitError:
        refuse_improper(design, family, flat)
        raise
    units = target.units
    model = sampled_model(design, target.of.family, target.scaling, units, drawn, lengths, solver=chosen, begun=begun)
    refuse_improper(design, family, flat, model)
    return model


def prepare_target(
    design: Design, family: Family, engine: Engine, prior: Prior, solver: Solver = "auto"
) -> tuple[Target, str]:
    """The posterior in internal coordinates, and the solver: ``"exact"`` or ``"iterative"``."""
    augmentation = augmentation_of(family)
    family = family.with_categories(design.spec.response_levels)
    check_weights(family, design.weights)
    gaussian, ordered = augmentation == "none", family.kind == "ordered"
    rows, layout, scaling = scale(design, engine) if gaussian else scale_generalized(design, ordered, engine)
    inside: Rows = rows
    if ordered:
        # an intercept that the thresholds stand for: they are moved by it
        inside = replace(rows, x=np.column_stack([np.ones(len(design.y)), rows.x[:]]))
    pattern = weighing(inside, engine)
    y = rows.y[:] if gaussian else design.y
    of = likelihood(family, pattern, y, design.weights, None if gaussian else design.offset)
    spread = scaling.y_scale
    scales = effect_scales(design, spread)
    names = [design.spec.fixed.names[j] for j in scaling.columns]
    cross = gaussian_products(pattern, of.y, of.weights) if gaussian else None
    exact = solver == "exact" or (solver == "auto" and _is_small(pattern.cross))
    target = Target(
        of=of,
        augmentation=augmentation,
        scaling=scaling,
        units=units_of(layout, prior, scales),
        residual=residual_unit(prior, spread) if gaussian else None,
        fixed=_fixed_prior(prior, names, () if gaussian else family.parameters),
        shift=family.threshold_shift if isinstance(family, Ordinal) else None,
        intercept=names.index(INTERCEPT) if INTERCEPT in names else -1,
        solver=Exact() if exact or not pattern.cross.kept else ConjugateGradients(ACCURACY, ACCURACY),
        cross=cross,
        groups=design.groups,
    )
    return target, "exact" if isinstance(target.solver, Exact) else "iterative"


def gaussian_products(pattern: Weighing, y: FloatArray, weights: FloatArray | None) -> CrossProducts:
    """The cross products of Gaussian rows, weighed once for all sweeps."""
    weight = np.ones(len(y)) if weights is None else weights
    return reweigh(pattern, weight, weight * y)


def _is_small(cross: CrossProducts) -> bool:
    pairs = sum(float(s.size * np.sum(np.diff(s.offsets).astype(np.float64) ** 2)) for s in cross.stages)
    return cross.random <= EXACT_COLUMNS and pairs <= EXACT_PAIRS


def effect_scales(design: Design, spread: float) -> list[FloatArray]:
    """For each grouping factor, the spread of the response over that of each covariate, shape (k,)."""
    return [spread / _spreads(group.covariates, design.weights) / unit_variance(group)[1] for group in design.groups]


def _spreads(covariates: FloatArray, weights: FloatArray | None) -> FloatArray:
    """Standard deviation of each covariate, or its size if it is constant."""
    mean = np.average(covariates, axis=0, weights=weights)
    sd = np.sqrt(np.average((covariates - mean) ** 2, axis=0, weights=weights))
    size = np.sqrt(np.average(covariates**2, axis=0, weights=weights))
    return np.asarray(np.where(sd > 1e-8 * size, sd, np.where(size > 0, size, 1.0)))


def _fixed_prior(prior: Prior, names: Sequence[str], thresholds: Sequence[str]) -> FixedPrior:
    given = prior.fixed
    if isinstance(given, Mapping):
        known = [*names, *thresholds]
        for name in given:
            if name not in known:
                close = nearest(name, known, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise OptionError(f"prior: there is no fixed effect {name!r}; there are {', '.join(known)}{hint}")
    sds = given if isinstance(given, Mapping) else dict.fromkeys([*names, *thresholds], given or np.inf)

    def precisions(of: Sequence[str]) -> FloatArray:
        return np.array([sds.get(name, np.inf) for name in of], np.float64) ** -2

    return FixedPrior(precisions(names), precisions(thresholds))


def _starts(
    target: Target, design: Design, start: Mapping[str, FloatArray] | None
) -> Callable[[int, np.random.Generator], State]:
    """Chains begin without random effects, with standard deviations apart by a factor of two or so."""
    intercept, phi = target.of.family.start(target.of.y, target.of.weights, target.of.offset)
    raw = np.zeros(len(target.scaling.columns))
    beta = np.zeros(len(raw))
    if target.augmentation != "none" and target.intercept >= 0:
        raw[target.intercept] = intercept
        beta = np.asarray(np.linalg.solve(target.to_raw, raw))

    def begin(chain: int, rng: np.random.Generator) -> State:
        del chain
        covariances = []
        for b, (spec, group) in enumerate(zip(design.spec.groups, design.groups, strict=True)):
            k = group.covariates.shape[1]
            apart = np.exp(START_SPREAD * rng.standard_normal(k))
            given = None if start is None else start.get(spec.name)
            if given is not None and given.shape == (k, k) and np.linalg.eigvalsh(given)[0] > 0:
                covariances.append(apart[:, None] * given * apart)
                continue
            sds = np.empty(k)
            for unit in (unit for unit in target.units if unit.block == b):
                sds[unit.own] = START_SD * unit.scale * (apart[unit.own][0] if unit.common else apart[unit.own])
            covariances.append(np.diag(sds**2))
        blocks = tuple(np.zeros((len(g.levels), g.covariates.shape[1])) for g in design.groups)
        return placed(target, State(beta, blocks, tuple(covariances), phi, np.empty(0), 0.0))

    return begin


def sampled_model(
    design: Design,
    family: Family,
    scaling: Scaling,
    units: Sequence[Unit],
    drawn: Drawn,
    lengths: Lengths,
    *,
    solver: str,
    begun: float,
    others: Mapping[str, FloatArray] | None = None,
) -> Model:
    """The model that chains of draws tell.

    Parameters
    ----------
    units : sequence of Unit
        Whose covariances were drawn.
    begun : float
        When the fit began, by ``time.perf_counter``.
    others : mapping of str to float64 array (chains, draws), optional
        More numbers to report of every draw.
    """
    spec = design.spec
    p = drawn.beta.shape[2]
    names = [spec.fixed.names[j] for j in scaling.columns]
    every = [drawn.beta]
    gaussian = spec.kind == "number"
    phi = drawn.phi.reshape(drawn.log_posterior.size, drawn.phi.shape[2])
    natural: list[str] = [] if gaussian else list(family.natural(phi[0]))
    if natural:
        values = np.array([list(family.natural(one).values()) for one in phi])
        every.append(values.reshape(*drawn.phi.shape[:2], len(natural)))
    varcorr: list[VarianceRow] = []
    own: list[str] = []
    for group, covariance in zip(spec.groups, drawn.covariances, strict=True):
        for number, term in enumerate(group.terms):
            label = group.name if number == 0 else f"{group.name}.{number}"
            places = range(term.start, term.start + term.size)
            pairs = [(i, j) for i in places for j in places if j > i and term.covariance == "full"]
            rows = [(i, i) for i in places] + pairs
            for i, j in rows:
                varcorr.append(_variance_row(label, group.coefficients, covariance, i, j))
            # in the order of confint
            for i, j in sorted(rows):
                one, other = group.coefficients[i], group.coefficients[j]
                own.append(f"sd_{one}|{group.name}" if i == j else f"cor_{other}.{one}|{group.name}")
                every.append(_scaled(covariance, i, j)[:, :, None])
    sigma2 = np.exp(drawn.phi[:, :, 0]) if gaussian else np.ones(drawn.phi.shape[:2])
    if gaussian:
        own.append("sigma")
        every.append(np.sqrt(sigma2)[:, :, None])
        varcorr.append(_summed("Residual", None, None, sigma2, np.sqrt(sigma2)))
    for name, value in (others or {}).items():
        own.append(name)
        every.append(value[:, :, None])
    parameters = np.concatenate([*every, drawn.log_posterior[:, :, None]], axis=2)
    flat = parameters.reshape(drawn.log_posterior.size, parameters.shape[2])
    beta = flat[:, :p].mean(axis=0)
    covariances = [c.mean(axis=(0, 1)) for c in drawn.covariances]
    mean_covariances = {group.name: c for group, c in zip(spec.groups, covariances, strict=True)}
    reported = tuple(
        FamilyParameter(name, float(flat[:, p + i].mean()), float(flat[:, p + i].std(ddof=1)))
        for i, name in enumerate(natural)
    )
    info = FitInfo(
        family=family.name,
        link=family.link,
        method="gibbs",
        nobs=len(design.y),
        dropped=design.dropped.rows,
        dropped_missing=dict(design.dropped.missing),
        dropped_zero_weight=design.dropped.zero_weight,
        aliased=tuple(n for j, n in enumerate(spec.fixed.names) if j not in scaling.columns),
        df=p + len(family.parameters) + sum(u.size * (u.size + 1) // 2 for u in units),
        sigma=float(np.mean(np.sqrt(sigma2))),
        deviance=float("nan"),
        converged=is_converged(parameters),
        singular=False,
        solver=solver,
        iterations=lengths.sweeps,
        seconds=time.perf_counter() - begun,
        information="draws",
        gradient=float("nan"),
        fixed_variance=fixed_variance(design, scaling, beta),
        random_variance=random_variance(design, mean_covariances),
        history=(),
        versions=versions(),
        family_parameters=reported,
        thresholds=getattr(family, "thresholds", None),
    )
    groups = [
        GroupModel(
            levels=group.levels,
            combination=group.combination,
            covariance=covariance,
            modes=mean,
            conditional=spread,
            sensitivity=np.zeros((*mean.shape, p)),
            walk=group.walk,
            membership=group.membership if group.owners is not None else None,
            owners=group.owners,
        )
        for group, covariance, mean, spread in zip(
            design.groups, covariances, drawn.mean, drawn.covariance, strict=True
        )
    ]
    return Model(
        spec=spec,
        info=info,
        fixed_columns=scaling.columns,
        beta=beta,
        vcov=np.atleast_2d(np.cov(flat[:, :p].T)) if p else np.zeros((0, 0)),
        varcorr=tuple(varcorr),
        groups=tuple(groups),
        column_levels=design.column_levels,
        parameter_vcov=np.zeros((0, 0)),
        vcov_gradient=np.zeros((0, p, p)),
        posterior=None,
        phi=np.zeros(0) if gaussian else phi.mean(axis=0),
        sample=Sample(
            names=tuple(distinct([*names, *natural, *own, LOG_POSTERIOR])),
            parameters=parameters,
            warmup=lengths.warmup,
            thin=lengths.thin,
            kept=drawn.kept,
            phi=phi[drawn.kept],
            covariances=tuple(
                np.ascontiguousarray(np.moveaxis(c.reshape(-1, *c.shape[2:])[drawn.kept], 0, 2))
                for c in drawn.covariances
            ),
            effects=drawn.effects,
        ),
    )


def _scaled(covariance: FloatArray, i: int, j: int) -> FloatArray:
    """Standard deviation, or correlation if ``i`` and ``j`` differ; shape (chains, draws)."""
    sd = np.sqrt(covariance[:, :, i, i])
    return sd if i == j else covariance[:, :, i, j] / (sd * np.sqrt(covariance[:, :, j, j]))


def _variance_row(label: str, names: Sequence[str], covariance: FloatArray, i: int, j: int) -> VarianceRow:
    other = None if i == j else names[j]
    return _summed(label, names[i], other, covariance[:, :, i, j], _scaled(covariance, i, j))


def _summed(group: str, one: str | None, other: str | None, vcov: FloatArray, sdcor: FloatArray) -> VarianceRow:
    """Posterior means, the posterior standard deviation of ``vcov``, and the Monte-Carlo error of its mean."""
    return VarianceRow(
        group, one, other, float(vcov.mean()), float(sdcor.mean()), float(vcov.std(ddof=1)), mean_error(vcov)
    )


def is_converged(parameters: FloatArray) -> bool:
    """Whether chains agree, and are worth enough independent draws, for every parameter that moves."""
    least = LEAST_ESS_A_CHAIN * len(parameters)
    for number in range(parameters.shape[2]):
        one = parameters[:, :, number]
        if not (rhat(one) <= LARGEST_RHAT and min(ess_bulk(one), ess_tail(one)) >= least):
            return False
    return True
