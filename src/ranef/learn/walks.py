"""From the increments of a random walk, which are solved for, to its levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ranef.design.build import Group
from ranef.design.membership import Membership
from ranef.learn.draws import Draws
from ranef.learn.uncertainty import FixedEffects
from ranef.solve.cross_products import CrossProducts

FloatArray = npt.NDArray[np.float64]


def with_exact_levels(
    conditional: Sequence[FloatArray],
    rest: FloatArray,
    cross: CrossProducts,
    groups: Sequence[Group],
    fixed: FixedEffects,
    joint: FloatArray | None,
) -> list[FloatArray]:
    """Posterior covariance of each level given the fixed effects, of walks their levels' in place of their increments'.

    Parameters
    ----------
    conditional : sequence of float64 arrays (levels, k, k)
        Solver's coordinates, over sigma^2.
    rest : float64 array
        Of the inverse of the system; see `ranef.solve.inverse.Inverse`.
    joint : float64 array, shape (p, p), or None
        Covariance of the fixed effects over sigma^2, where the system is the joint one: what they add is taken away.
    """
    out = list(conditional)
    for b, group in enumerate(groups):
        if group.walk is not None:
            kept = next(one for one in cross.kept if one.block == b)
            own = _level_blocks(group.walk.membership, rest[kept.place, kept.place], kept.size)
            m = group.on_levels(fixed.sensitivity[b])
            out[b] = own if joint is None else own - m @ joint @ m.transpose(0, 2, 1)
    return out


def with_drawn_levels(draws: Draws, fixed: FixedEffects, groups: Sequence[Group]) -> list[FloatArray]:
    """As `with_exact_levels`, from draws: of a walk's levels their mean square."""
    out = list(draws.conditional)
    for block, group in enumerate(groups):
        if group.walk is not None:
            given = group.on_levels(draws.values[block] + np.tensordot(fixed.sensitivity[block], draws.beta, 1))
            out[block] = np.asarray(np.einsum("gas,gbs->gab", given, given) / given.shape[2])
    return out


def _level_blocks(increments: Membership, inverse: FloatArray, k: int) -> FloatArray:
    """Own block of each level, from the joint covariance of all increments; shape (levels, k, k)."""
    levels = increments.units
    joint = inverse.reshape(levels, k, levels, k)
    out = np.empty((levels, k, k))
    for level in range(levels):
        members = slice(increments.start[level], increments.start[level + 1])
        at, weight = increments.level[members], increments.weight[members]
        out[level] = np.einsum("i,iajb,j->ab", weight, joint[at][:, :, at], weight, optimize=True)
    return out
