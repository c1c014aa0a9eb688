"""How uncertain an ordinal model's thresholds are together with the coefficients that are compared with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Thresholds
from ranef.design.build import Group
from ranef.learn.laplace import AtMode, Laplace, parameter_sums
from ranef.learn.scaling import Scaling
from ranef.learn.uncertainty import FixedEffects
from ranef.solve.elimination import by_block

FloatArray = npt.NDArray[np.float64]


def with_thresholds(
    problem: Laplace,
    scaling: Scaling,
    groups: Sequence[Group],
    at: AtMode,
    covariance: FloatArray,
    fixed: FixedEffects,
) -> tuple[FixedEffects, Thresholds | None]:
    """What predictions need of the thresholds' uncertainty.

    Parameters
    ----------
    problem : Laplace
    scaling : Scaling
    groups : sequence of Group
    at : AtMode
        Where the search ended, over all parameters.
    covariance : float64 array
        Of ``(theta, beta, phi)``; without ``beta`` at joint modes.
    fixed : FixedEffects

    Returns
    -------
    fixed : FixedEffects
        At joint modes with what the thresholds add to the uncertainty of the fixed effects.
    thresholds : Thresholds or None
        None for other families.
    """
    family = problem.of.family
    if family.kind != "ordered":
        return fixed, None
    cross, m = at.mode.cross, problem.layout.parameters
    phi = problem.split(at.theta)[2]
    q, p, r = len(phi), cross.fixed, cross.random
    score = parameter_sums(problem, at.mode, phi)[1]
    own = covariance[-q:, -q:]
    if problem.joint:
        follow = at.solve(score, fixed=True).rest[r : r + p]
        shared = follow @ own
        fixed = replace(fixed, vcov=fixed.vcov + shared @ follow.T)
    else:
        shared = covariance[m : m + p, -q:]
    moves = by_block(cross, at.solve(score, fixed=False))
    back = scaling.x_back
    return fixed, Thresholds(
        vcov=np.block([[back @ fixed.vcov @ back.T, back @ shared], [shared.T @ back.T, own]]),
        moves=tuple(
            z_back @ group.on_levels(own_moves)
            for z_back, own_moves, group in zip(scaling.z_back, moves, groups, strict=True)
        ),
    )
