"""What is kept of the posterior of the coefficients, from either solver."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Posterior, PosteriorDraws, PosteriorStage
from ranef.kernel.eliminate import reduce_levels
from ranef.learn.assemble import Outcome, Problem
from ranef.learn.criterion import Criterion, Evaluation
from ranef.learn.draws import Draws
from ranef.learn.laplace import LaplacePoint
from ranef.learn.newton import Point
from ranef.learn.noise import standard_error
from ranef.learn.root import Estimated, Root
from ranef.learn.uncertainty import FixedEffects
from ranef.learn.walks import with_drawn_levels

FloatArray = npt.NDArray[np.float64]

At = TypeVar("At", bound=Estimated)


def exact_conditional(criterion: Criterion, at: Evaluation, fixed: FixedEffects) -> list[FloatArray]:
    """Own blocks of the inverse of ``C_b``; of the joint system's under REML, less what the fixed effects add."""
    if not criterion.reml:
        return list(at.inverse.diagonal)
    v = fixed.vcov / at.sigma2
    return [d - m @ v @ m.transpose(0, 2, 1) for d, m in zip(at.inverse.diagonal, fixed.sensitivity, strict=True)]


def exact_posterior(problem: Problem, at: Evaluation | LaplacePoint, fixed: FixedEffects) -> Posterior:
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
            np.concatenate([fixed.sensitivity[k.block].reshape(k.levels * k.size, p) for k in cross.kept])
            if cross.kept
            else np.zeros((0, p))
        )
        dense = dense.copy()
        dense[:r, :r] += m @ v @ m.T
        dense[:r, r : r + p] = -m @ v
        dense[r : r + p, :r] = dense[:r, r : r + p].T
        dense[r : r + p, r : r + p] = v
    return Posterior(
        scale=at.sigma2 * problem.scaling.y_scale**2,
        x_back=problem.scaling.x_back,
        z_back=problem.scaling.z_back,
        stages=tuple(stages),
        kept=tuple(k.block for k in cross.kept),
        kept_start=tuple(k.start for k in cross.kept),
        fixed_start=r,
        dense=dense,
    )


def posterior_draws(problem: Problem, at: Point, draws: Draws) -> PosteriorDraws:
    """What the variance of a linear combination of coefficients needs; see `PosteriorDraws`.

    A walk's draws are those of its levels, which are sums of increments: nothing is known of them exactly.
    """
    values, known = list(draws.values), list(draws.known)
    for block, group in enumerate(problem.design.groups):
        if group.walk is not None:
            values[block] = group.on_levels(values[block])
            known[block] = np.zeros_like(known[block])
    return PosteriorDraws(
        scale=at.sigma2 * problem.scaling.y_scale**2,
        x_back=problem.scaling.x_back,
        z_back=problem.scaling.z_back,
        chain=tuple(stage.block for stage in problem.criterion.cross.stages),
        known=tuple(known),
        draws=tuple(values),
        beta=draws.beta,
    )


def stochastic_outcome(
    problem: Problem,
    found: Root[At],
    deviances: FloatArray,
    fixed: FixedEffects,
    draws: Draws,
    noise: FloatArray,
    fixed_noise: FloatArray,
    probes: int,
) -> Outcome:
    """What the stochastic solver ends with.

    Parameters
    ----------
    problem : Problem
    found : Root
        At a point over all parameters.
    deviances : float64 array
        By each probe alone.
    fixed : FixedEffects
    draws : Draws
    noise, fixed_noise, probes
        As of `Outcome`.
    """
    return Outcome(
        at=found.at,
        solver="stochastic",
        deviance=float(deviances.mean()),
        deviance_error=standard_error(deviances),
        deviance_draws=tuple(deviances.tolist()),
        converged=found.converged,
        history=found.history,
        conditional=with_drawn_levels(draws, fixed, problem.design.groups),
        posterior=posterior_draws(problem, found.at, draws),
        noise=noise,
        fixed_noise=fixed_noise,
        probes=probes,
    )
