"""What is kept of the posterior of the coefficients, from either solver."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Posterior, PosteriorDraws, PosteriorStage
from ranef.kernel.eliminate import reduce_levels
from ranef.learn.assemble import Problem
from ranef.learn.criterion import Criterion, Evaluation
from ranef.learn.laplace import LaplacePoint
from ranef.learn.stochastic import Estimate
from ranef.learn.uncertainty import FixedEffects
from ranef.solve.elimination import by_block

FloatArray = npt.NDArray[np.float64]


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


def stochastic_conditional(criterion: Criterion, at: Estimate, fixed: FixedEffects) -> list[FloatArray]:
    """Each level's posterior covariance given the fixed effects, by the law of total variance, over sigma^2."""
    v = fixed.vcov / at.sigma2
    out = []
    for own, added, m in zip(at.own, at.spread, fixed.sensitivity, strict=True):
        total = own + added
        if criterion.reml:
            # against a mean over probes this may be too much: the level's own part is the least that can be left
            reduced = total - m @ v @ m.transpose(0, 2, 1)
            enough = np.einsum("gaa->ga", reduced) >= np.einsum("gaa->ga", own)
            total = np.where(enough.all(axis=1)[:, None, None], reduced, own)
        out.append(total)
    return out


def posterior_draws(problem: Problem, at: Estimate, fixed: FixedEffects) -> PosteriorDraws:
    """The probes' solutions of the joint system, as draws of all coefficients.

    Under ML they solve the system without the fixed effects; draws of these from their own covariance complete them.
    """
    cross = problem.criterion.cross
    draws = [np.array(d) for d in by_block(cross, at.draws)]
    p, count = cross.fixed, draws[0].shape[2] if draws else 0
    beta = at.draws.rest[cross.random : cross.random + p].copy()
    if not problem.criterion.reml and p:
        root = np.linalg.cholesky(fixed.vcov / at.sigma2)
        beta = root @ np.random.default_rng(0).standard_normal((p, count))
        draws = [d - m @ beta for d, m in zip(draws, fixed.sensitivity, strict=True)]
    return PosteriorDraws(
        scale=at.sigma2 * problem.scaling.y_scale**2,
        x_back=problem.scaling.x_back,
        z_back=problem.scaling.z_back,
        group=cross.stages[0].block,
        own=at.own[cross.stages[0].block],
        draws=tuple(draws),
        beta=beta,
    )
