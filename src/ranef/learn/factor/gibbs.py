"""A model with latent terms by Gibbs sampling, from its design to the fitted model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.artifact.latent import FieldDraws, FieldModel, LatentModel
from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.design.fields import FieldDesign
from ranef.engine.threads import Engine
from ranef.errors import OptionError
from ranef.family import Family
from ranef.learn.augment import check_weights
from ranef.learn.chains import Lengths
from ranef.learn.convergence import rhat
from ranef.learn.factor.additive import Additive, quickly_fitted
from ranef.learn.factor.chains import FactorDraws, run_factor_chains
from ranef.learn.factor.conditional import priors_of
from ranef.learn.factor.earlier import Earlier, take_over
from ranef.learn.factor.response import response_of
from ranef.learn.factor.start import prepare
from ranef.learn.gaussian import Solver
from ranef.learn.gibbs import sampled_model
from ranef.learn.hyperprior import Prior
from ranef.learn.unbounded import refuse_improper

FloatArray = npt.NDArray[np.float64]

# the rank of rank="auto": components that the data do not have get small variances, and no harm is done
AUTO_RANK = 32
# fixed effects have flat priors
IMPROPER = "Leave out what separates them, or make it a random effect: (1 | column)"
# of sigma or thresholds and of all standard deviations; vectors and fixed effects mix slowly, what is predicted fast
LARGEST_RHAT = 1.1


def sample_factors(
    design: Design,
    family: Family,
    engine: Engine,
    prior: Prior,
    lengths: Lengths,
    *,
    solver: Solver = "auto",
    seed: int = 0,
    start: Earlier | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Model:
    """Draw from the posterior of all coefficients, vectors and parameters.

    Parameters
    ----------
    design : Design
        With latent terms.
    family : Family
        One that `ranef.learn.augment` knows.
    engine : Engine
    prior : Prior
        Fixed effects have flat ones.
    lengths : Lengths
    solver : {"auto", "exact", "stochastic"}
        Of the mixed model where the chains begin.
    seed : int
    start : Earlier, optional
        What an earlier fit knows: where every chain begins.
    report : callable, optional
        Gets how many sweeps are done, and of how many.

    Raises
    ------
    OptionError
        A prior of fixed effects.
    DataError
        Weights that latent variables cannot have.
    FitError
    """
    begun = time.perf_counter()
    if prior.fixed is not None:
        raise OptionError("prior: fixed effects have flat priors beside latent() or fm(); leave 'fixed' out")
    check_weights(family, design.weights)
    gaussian = family.kind == "number"
    additive = Additive(quickly_fitted(design), None if gaussian else family, engine, solver, None, seed).alone()
    ranks = [AUTO_RANK if term.rank is None else term.rank for term in design.latent]
    problem = prepare(design, ranks, engine, None if gaussian else family)
    response = None if gaussian else response_of(design, family)
    priors = priors_of(problem, prior)
    earlier = None if start is None else partial(take_over, problem, start)
    flat = [design.spec.fixed.names[j] for j in problem.scaling.columns]
    flat += [] if response is None else response.family.parameters
    found = run_factor_chains(problem, additive, priors, lengths, seed, engine, report, earlier, response)
    others = {f"sd_{term.spec.text}": found.products[:, :, t] for t, term in enumerate(design.latent)}
    model = sampled_model(
        design,
        family if response is None else response.family,
        problem.scaling,
        priors.units,
        found.drawn,
        lengths,
        solver=additive.info.solver,
        begun=begun,
        others=others,
    )
    refuse_improper(design, family, flat, model, IMPROPER)
    count = sum(len(one.variances[0]) for term in found.fields for side in term for one in side)
    info = msgspec.structs.replace(model.info, df=model.info.df + int(gaussian) + count, converged=_is_converged(found))
    latent = [_latent_model(term.sides, of) for term, of in zip(design.latent, found.fields, strict=True)]
    return replace(model, info=info, latent=tuple(latent))


def _is_converged(found: FactorDraws) -> bool:
    variances = [c[:, :, i, i] for c in found.drawn.covariances for i in range(c.shape[2])]
    every = [*np.moveaxis(found.drawn.phi, 2, 0), *np.moveaxis(found.products, 2, 0), *variances]
    return all(rhat(one) <= LARGEST_RHAT for one in every)


def _latent_model(sides: Sequence[Sequence[FieldDesign]], draws: Sequence[Sequence[FieldDraws]]) -> LatentModel:
    turns = turns_of([of for side in draws for of in side])
    return LatentModel(
        tuple(
            tuple(_field_model(field, of, turns) for field, of in zip(fields, side, strict=True))
            for fields, side in zip(sides, draws, strict=True)
        )
    )


def turns_of(draws: Sequence[FieldDraws]) -> FloatArray:
    """Rotations that make the draws of a term's vectors agree, shape (kept, k, k): vectors times the rotation.

    Products do not know them, and the chain wanders among them. All are turned to agree with the last, in the sense of
    least squares over the levels of all factors (Procrustes), and that one to its principal axes, descending.
    """
    kept, _, k = draws[0].vectors.shape
    last = [of.vectors[-1].astype(np.float64) for of in draws]
    _, axes = np.linalg.eigh(np.sum([vectors.T @ vectors for vectors in last], axis=0))
    target = [vectors @ axes[:, ::-1] for vectors in last]
    out = np.empty((kept, k, k))
    for draw in range(kept):
        cross = sum(
            (of.vectors[draw].astype(np.float64).T @ to for of, to in zip(draws, target, strict=True)),
            np.zeros((k, k)),
        )
        left, _, right = np.linalg.svd(cross)
        out[draw] = left @ right
    return out


def _field_model(field: FieldDesign, draws: FieldDraws, turns: FloatArray) -> FieldModel:
    mean, square = np.zeros(draws.vectors.shape[1:]), np.zeros(draws.vectors.shape[1:])
    covariance = np.zeros(turns.shape[1:])
    for number, (vectors, variance, turn) in enumerate(zip(draws.vectors, draws.variances, turns, strict=True)):
        turned = vectors.astype(np.float64) @ turn
        before = turned - mean
        mean += before / (number + 1)
        square += before * (turned - mean)
        covariance += (turn.T * variance) @ turn / len(turns)
    history = field.spec.kind == "history"
    return FieldModel(
        levels=field.levels,
        combination=field.combination,
        owners=field.owners if history else None,
        membership=field.membership if history else None,
        vectors=mean.astype(np.float32),
        spread=(square / max(len(turns) - 1, 1)).astype(np.float32),
        covariance=(covariance + covariance.T) / 2,
        draws=draws,
    )
