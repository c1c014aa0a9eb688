"""A model with latent terms, from its design to the fitted model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.artifact.latent import FieldModel, LatentModel
from ranef.artifact.model import Model, VarianceRow
from ranef.design.build import Design
from ranef.design.fields import FieldDesign
from ranef.engine.threads import Engine
from ranef.family import Family
from ranef.learn.factor import penalised, variational
from ranef.learn.factor.additive import Additive, quickly_fitted
from ranef.learn.factor.earlier import Earlier, take_over
from ranef.learn.factor.penalised import search_penalised, without_moments
from ranef.learn.factor.penalties import Penalty, are_given, effect_covariances, rescaled, with_penalties
from ranef.learn.factor.priors import is_scaled, main_member
from ranef.learn.factor.response import Response, bound_constant, response_of
from ranef.learn.factor.rotation import Turned, rotations, turned, turns
from ranef.learn.factor.snapshot import snapshot
from ranef.learn.factor.start import Problem, TakeOver, begin, prepare
from ranef.learn.factor.sweeping import Following, Searched, Sweep
from ranef.learn.factor.variational import search_variational
from ranef.learn.gaussian import Solver
from ranef.solve.sides import Side, Term
from ranef.solve.sweeps import Parameters, State, products, row_pieces, weighted_squares

FloatArray = npt.NDArray[np.float64]
Method = Literal["vb", "map"]

# the rank of rank="auto"; components that vanish are dropped
AUTO_RANK = 32
# share of the residual variance below which a component's products have vanished
VANISHED = 1e-3
# variance of the products below which a term is reported as dropped: of the residual's, and of what the prior says
DROPPED_OF_RESIDUAL, DROPPED_OF_PRIOR = 1e-2, 5e-2
# of the variational sweeps that learn penalties
LEARNING_TOLERANCE, LEARNING_SWEEPS = 1e-3, 50
# where the response is linearised: how often, and sweeps towards the mode in between
LEARNING_ROUNDS, LEARNING_CLIMB = 3, 20


def fit_factors(
    design: Design,
    engine: Engine,
    *,
    family: Family | None = None,
    method: Method = "vb",
    penalty: Penalty = None,
    solver: Solver = "auto",
    probes: int | None = None,
    seed: int = 0,
    start: Earlier | None = None,
    tolerance: float | None = None,
    max_sweeps: int | None = None,
    validate: Callable[[Model], float] | None = None,
    after: Callable[[Sweep], bool] | None = None,
) -> Model:
    """Fit by variational Bayes, or find the mode of the penalised likelihood.

    Parameters
    ----------
    design : Design
        With latent terms.
    engine : Engine
    family : Family, optional
        Another one than the Gaussian.
    method : {"vb", "map"}
    penalty : float or mapping of str to float, optional
        Of ``"map"``: of all factors' vectors and effects, or of those named; what is not given is learned by
        variational sweeps first. See `ranef.learn.factor.penalties`.
    solver, probes
        Of the additive part; see `ranef.learn.gaussian.fit_gaussian`.
    seed : int
        Of the first vectors, and of the probes.
    start : Earlier, optional
        What an earlier fit knows.
    tolerance : float, optional
        The sweeps end when one gains less of the bound, or of the objective, for each row.
    max_sweeps : int, optional
    validate : callable, optional
        The error of a model's predictions on rows that were held out.
    after : callable, optional
        As of `ranef.learn.factor.sweeping.Following`.

    Returns
    -------
    Model
        The additive part is fitted once more at the end, given the products of the vectors: by ``"vb"`` its variances
        and standard errors are those of the mixed model for what the vectors leave; by ``"map"`` its variances are held
        where the objective had them, so that its modes are those of the objective.

    Raises
    ------
    FitError, OptionError
    """
    begun = time.perf_counter()
    additive = Additive(quickly_fitted(design), family, engine, solver, probes, seed).alone()
    ranks = [AUTO_RANK if term.rank is None else term.rank for term in design.latent]
    problem = prepare(design, ranks, engine, family)
    response = None if family is None else response_of(design, family)
    earlier = None if start is None else partial(take_over, problem, start)
    phi = None if start is None or family is None else start.phi((family.name, family.link))

    def score(state: State, phi: FloatArray) -> float:
        return float("nan") if validate is None else validate(replace(snapshot(problem, additive, state), phi=phi))

    following = Following(None if validate is None else score, after)
    if method == "vb":
        found = search_variational(
            problem,
            additive,
            engine,
            response=response,
            phi=phi,
            seed=seed,
            earlier=earlier,
            following=following,
            tolerance=variational.TOLERANCE if tolerance is None else tolerance,
            max_sweeps=variational.MAX_SWEEPS if max_sweeps is None else max_sweeps,
        )
    else:
        found = _mode(
            problem, additive, response, phi, earlier, penalty, engine, seed, tolerance, max_sweeps, following
        )
    offset = np.zeros(len(design.y)) if design.offset is None else np.array(design.offset)
    dropped = []
    for term, spec in enumerate(design.spec.latent):
        sums = np.zeros(2)
        for first, last in row_pieces(len(offset)):
            part = products(found.state, term, slice(first, last))
            sums += part.sum(), part @ part
            offset[first:last] += problem.scaling.y_scale * part
        if method == "vb" and _is_dropped(problem, found, term, sums / len(offset)):
            dropped.append(spec.text)
    sigma2 = found.parameters.sigma2 * problem.scaling.y_scale**2
    additive_design = replace(design, latent=(), spec=msgspec.structs.replace(design.spec, latent=()))
    rest = Additive(additive_design, family, engine, solver, probes, seed).given(
        offset, sigma2, effect_covariances(problem, found.parameters), additive, held=method == "map"
    )
    info = msgspec.structs.replace(
        rest.info,
        method=method,
        deviance=float("nan"),
        deviance_error=0.0,
        deviance_draws=(),
        held=(),
        df=rest.info.df + (1 if family is None else 0) + (_parameters(problem) if method == "vb" else 0),
        converged=(found.converged or found.stopped == "validation") and rest.info.converged,
        stopped=found.stopped,
        iterations=found.kept,
        score=found.history[found.kept - 1].score,
        dropped_terms=tuple(dropped),
        history=found.history,
        seconds=time.perf_counter() - begun,
    )
    if method == "vb":
        constant = len(design.y) * float(np.log(problem.scaling.y_scale))
        if response is not None:
            constant = -bound_constant(response)
        info = msgspec.structs.replace(info, elbo=found.bound - constant)
    # given penalties are those of all directions alike, and of each factor as they are
    turn = turns if penalty is None else rotations
    latent = tuple(
        _latent_model(problem, found, t, turn, auto=design.latent[t].rank is None) for t in range(len(ranks))
    )
    varcorr = rest.varcorr
    if method == "vb" and family is None:
        degrees = weighted_squares(found.state, engine) / found.parameters.sigma2
        varcorr = (*varcorr[:-1], _with_error(varcorr[-1], degrees))
    return replace(rest, spec=design.spec, info=info, latent=latent, varcorr=varcorr)


def _with_error(residual: VarianceRow, degrees: float) -> VarianceRow:
    """The residual variance with its standard error: the sweeps learned what the mixed model after them was given.

    Parameters
    ----------
    degrees : float
        Squares of the residuals over their variance: the rows less what the coefficients' uncertainty adds, which is
        how many of them the rows tell.
    """
    return msgspec.structs.replace(residual, se=residual.vcov * float(np.sqrt(2 / degrees)))


def _mode(
    problem: Problem,
    additive: Model,
    response: Response | None,
    begin_phi: FloatArray | None,
    earlier: TakeOver | None,
    penalty: Penalty,
    engine: Engine,
    seed: int,
    tolerance: float | None,
    max_sweeps: int | None,
    following: Following,
) -> Searched:
    """The mode at penalties that are given, or learned by a few variational sweeps."""
    phi = additive.phi if begin_phi is None else begin_phi
    state, parameters = begin(problem, additive, None, seed, engine, earlier)
    if response is not None:
        parameters = replace(parameters, sigma2=1.0)

    def learn(at: FloatArray | None) -> Searched:
        return search_variational(
            problem,
            additive,
            engine,
            response=response,
            linearised_at=at,
            phi=phi,
            seed=seed,
            earlier=earlier,
            tolerance=LEARNING_TOLERANCE,
            max_sweeps=LEARNING_SWEEPS,
        )

    def climb(tolerance: float, max_sweeps: int, following: Following) -> tuple[Searched, FloatArray | None]:
        given = with_penalties(problem, parameters, penalty)
        return search_penalised(
            problem,
            state,
            given,
            response,
            phi,
            engine,
            tolerance=tolerance,
            max_sweeps=max_sweeps,
            following=following,
        )

    if are_given(problem, penalty):
        pass
    elif response is None or response.kind != "linearised":
        learned = learn(None)
        parameters, phi, state = learned.parameters, learned.phi, without_moments(learned.state)
    else:
        # what a linearised response says of variances is worth as much as the place is near the mode
        at = None
        for remaining in reversed(range(LEARNING_ROUNDS)):
            parameters = learn(at).parameters
            if remaining:
                found, at = climb(LEARNING_TOLERANCE, LEARNING_CLIMB, Following())
                phi = found.phi
    found, _ = climb(
        penalised.TOLERANCE if tolerance is None else tolerance,
        penalised.MAX_SWEEPS if max_sweeps is None else max_sweeps,
        following,
    )
    parameters = found.parameters
    if response is None and are_given(problem, penalty):
        # nothing but the residuals tells their variance: penalties stay what they are
        parameters = rescaled(parameters, weighted_squares(found.state, engine) / len(found.state.residual))
    return replace(found, parameters=parameters)


def _is_dropped(problem: Problem, found: Searched, number: int, moments: FloatArray) -> bool:
    """Whether the mean vectors of a term predict as good as nothing.

    Parameters
    ----------
    moments : float64 array, shape (2,)
        Mean and mean square over the rows of their products.
    """
    term, sides = problem.sides.terms[number], problem.sides.sides
    priors = [
        found.parameters.covariances[place][main_member(sides[place], term.rank)][: term.rank, : term.rank]
        for place in term.sides
    ]
    prior = sum(float(np.sum(one * other)) for s, one in enumerate(priors) for other in priors[:s])
    variance = float(moments[1] - moments[0] ** 2)
    return variance < DROPPED_OF_RESIDUAL * found.parameters.sigma2 and variance < DROPPED_OF_PRIOR * prior


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


def _latent_model(
    problem: Problem,
    found: Searched,
    number: int,
    turn_sides: Callable[[State, Parameters, Term], list[FloatArray]],
    auto: bool,
) -> LatentModel:
    state, parameters, term = found.state, found.parameters, problem.sides.terms[number]
    scale = float(np.sqrt(problem.scaling.y_scale))
    sides = []
    for place, turn in zip(term.sides, turn_sides(state, parameters, term), strict=True):
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
        main = side[main_member(of, term.rank)]
        # modes tell by themselves; so does a posterior's covariance, which its spreads are part of
        variances.append(np.mean(main.vectors**2, axis=0) if not found.state.uncertain else np.diag(main.covariance))
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
    if not spread.shape[1]:
        # modes count as certain
        spread = np.zeros(vectors.shape, np.float32)
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
