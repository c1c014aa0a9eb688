"""A Gaussian model with latent terms, from its design to the fitted model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np

from ranef.artifact.latent import FieldModel, LatentModel
from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.design.fields import FieldDesign
from ranef.engine.threads import Engine
from ranef.learn.factor.priors import is_scaled, main_member
from ranef.learn.factor.rotation import Turned, turned, turns
from ranef.learn.factor.start import Problem, prepare
from ranef.learn.factor.variational import MAX_SWEEPS, TOLERANCE, Searched, Sweep, search_variational
from ranef.learn.gaussian import Solver, fit_gaussian
from ranef.learn.held import Given
from ranef.solve.sides import Side, Term
from ranef.solve.sweeps import products, row_pieces

# the rank of rank="auto"; components that vanish are dropped
AUTO_RANK = 32
# share of the residual variance below which a component's products have vanished
VANISHED = 1e-3


def fit_factors(
    design: Design,
    engine: Engine,
    *,
    solver: Solver = "auto",
    probes: int | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    max_sweeps: int | None = None,
    validate: Callable[[Model], float] | None = None,
    after: Callable[[Sweep], bool] | None = None,
) -> Model:
    """Fit by variational Bayes.

    Parameters
    ----------
    design : Design
        With latent terms.
    engine : Engine
    solver, probes
        Of the additive part; see `ranef.learn.gaussian.fit_gaussian`.
    seed : int
        Of the first vectors, and of the probes.
    tolerance : float, optional
        The sweeps end when one raises the bound by less, for each row.
    max_sweeps : int, optional
    validate, after : callable, optional
        As of `ranef.learn.factor.variational.search_variational`.

    Returns
    -------
    Model
        The additive part is fitted once more at the end, given the products of the vectors and the residual variance:
        its variances and standard errors are those of the mixed model for what the vectors leave.

    Raises
    ------
    FitError
    """
    begun = time.perf_counter()
    additive_spec = msgspec.structs.replace(design.spec, latent=())
    additive_design = replace(design, latent=(), spec=additive_spec)
    additive = fit_gaussian(additive_design, "reml", engine, solver=solver, probes=probes, seed=seed)
    ranks = [AUTO_RANK if term.rank is None else term.rank for term in design.latent]
    problem = prepare(design, ranks, engine)
    found = search_variational(
        problem,
        additive,
        engine,
        seed=seed,
        validate=validate,
        after=after,
        tolerance=TOLERANCE if tolerance is None else tolerance,
        max_sweeps=MAX_SWEEPS if max_sweeps is None else max_sweeps,
    )
    offset = np.zeros(len(design.y)) if design.offset is None else np.array(design.offset)
    for term in range(len(ranks)):
        for first, last in row_pieces(len(offset)):
            offset[first:last] += problem.scaling.y_scale * products(found.state, term, slice(first, last))
    sigma2 = found.parameters.sigma2 * problem.scaling.y_scale**2
    given = Given(tuple((None,) * len(spec.terms) for spec in design.spec.groups), sigma2, ("Residual",))
    rest = fit_gaussian(
        replace(additive_design, offset=offset),
        "reml",
        engine,
        solver=solver,
        probes=probes,
        seed=seed,
        start={
            spec.name: group.covariance / sigma2
            for spec, group in zip(design.spec.groups, additive.groups, strict=True)
        },
        given=given,
    )
    info = msgspec.structs.replace(
        rest.info,
        method="vb",
        deviance=float("nan"),
        deviance_error=0.0,
        deviance_draws=(),
        held=(),
        elbo=found.bound - len(design.y) * float(np.log(problem.scaling.y_scale)),
        df=rest.info.df + 1 + _parameters(problem),
        converged=(found.converged or found.stopped == "validation") and rest.info.converged,
        stopped=found.stopped,
        iterations=found.kept,
        score=found.history[found.kept - 1].score,
        history=found.history,
        seconds=time.perf_counter() - begun,
    )
    latent = tuple(_latent_model(problem, found, t, auto=design.latent[t].rank is None) for t in range(len(ranks)))
    return replace(rest, spec=design.spec, info=info, latent=latent)


def _parameters(problem: Problem) -> int:
    """Free numbers of the vectors' covariances; of a pair of sides only the product counts."""
    count = 0
    for term in problem.sides.terms:
        k = term.rank
        for place in term.sides:
            side = problem.sides.sides[place]
            count += sum(1 if is_scaled(side, m, k) else k * (k + 1) // 2 for m in range(len(side.members)))
        count -= k * k if len(term.sides) == 2 else k * (k - 1) // 2
    return count


def _latent_model(problem: Problem, found: Searched, number: int, auto: bool) -> LatentModel:
    state, parameters, term = found.state, found.parameters, problem.sides.terms[number]
    scale = float(np.sqrt(problem.scaling.y_scale))
    sides = []
    for place, turn in zip(term.sides, turns(state, parameters, term), strict=True):
        members = range(len(state.sides.sides[place].members))
        sides.append([turned(state, parameters, place, m, turn, scale) for m in members])
    kept = _kept(problem, found, term, sides) if auto else term.rank
    design = problem.design.latent[number]
    return LatentModel(
        tuple(
            tuple(_field_model(field, member, kept) for field, member in zip(fields, side, strict=True))
            for fields, side in zip(design.sides, sides, strict=True)
        )
    )


def _kept(problem: Problem, found: Searched, term: Term, sides: list[list[Turned]]) -> int:
    """How many components have not vanished: coordinates descend."""
    sigma2 = found.parameters.sigma2 * problem.scaling.y_scale**2
    variances = []
    for place, side in zip(term.sides, sides, strict=True):
        of: Side = found.state.sides.sides[place]
        variances.append(np.diag(side[main_member(of, term.rank)].covariance))
    whole = np.sum(variances, axis=0)
    squares = np.sum(np.square(variances), axis=0)
    return max(1, int(np.count_nonzero((whole**2 - squares) / 2 > VANISHED * sigma2)))


def _field_model(field: FieldDesign, of: Turned, kept: int) -> FieldModel:
    k = len(of.covariance)
    vectors, spread = of.vectors, of.spread
    if field.walk is not None:
        # levels are sums of increments
        steps = field.walk.membership
        vectors = steps.sums(vectors)
        spread = replace(steps, weight=steps.weight**2).sums(spread).astype(np.float32)
    if kept < k:
        spread = spread[:, :kept] if spread.shape[1] == k else spread[:, : kept * (kept + 1) // 2]
    history = field.spec.kind == "history"
    return FieldModel(
        levels=field.levels,
        combination=field.combination,
        owners=field.owners if history else None,
        membership=field.membership if history else None,
        vectors=np.ascontiguousarray(vectors[:, :kept], np.float32),
        spread=np.ascontiguousarray(spread),
        covariance=np.ascontiguousarray(of.covariance[:kept, :kept]),
    )
