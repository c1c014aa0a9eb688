"""How the vectors of a tower follow the coefficients of its factor's levels.

A tower is affine in the coefficients of each level: ``row = base + b @ matrix``, ``b`` being all that the model has for
a level of one factor. So a row of the response says of ``b`` what it says of any regression's coefficients, and a
changed ``b`` is a changed row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.errors import OptionError
from ranef.score.merged import Merged, levels_of, merged_factor
from ranef.score.towers import Towers, compile_towers
from ranef.table import Levels

FloatArray = npt.NDArray[np.float64]

# how far rows may be from what the matrix says, in units of the largest
EXACT = 1e-8


@dataclass(frozen=True, eq=False)
class EntityBlock:
    """The vectors of one tower without and with the coefficients of its factor.

    Attributes
    ----------
    factor : Merged
    base : float64 array, shape (n + 1, d)
        Vectors with all coefficients zero.
    matrix : float64 array, shape (size, d)
    codes : int64 array, shape (n + 1,)
        The level of the factor of each row; -1 of one that has none.
    met : int64 array, shape (m,)
        The level of the other factor that each target is; -1 of one that has none.
    """

    factor: Merged
    base: FloatArray
    matrix: FloatArray
    codes: npt.NDArray[np.int64]
    met: npt.NDArray[np.int64]


def entity_block(model: Model, towers: Towers) -> EntityBlock:
    """What the rows of the entity's tower are made of.

    The model is compiled twice more, with its entities' coefficients all zero and then at random, and the matrix is
    read off.

    Raises
    ------
    OptionError
        The model is known by draws, has no factor of the entity alone, or the coefficients of an entity multiply
        columns of the entity itself, so that no one matrix serves all.
    """
    if model.sample is not None:
        raise OptionError(
            "a model of method='gibbs' keeps draws and has no one state of a user that events could change; fit it by "
            "another method, or fold the rows in offline"
        )
    factor = merged_factor(model, towers.entity)
    levels = levels_of(model, factor)[0]
    count = len(levels)
    nothing = np.zeros((count, factor.size))
    zero = compile_towers(_with_coefficients(model, factor, nothing), towers.entity, towers.target)
    codes = np.append(_codes(towers.entities, levels), -1)
    rng = np.random.default_rng(0)
    drawn: list[FloatArray] = []
    moved: list[FloatArray] = []
    while sum(len(one) for one in drawn) < 2 * factor.size:
        own = rng.normal(size=(count, factor.size)).astype(np.float32).astype(np.float64)
        at = compile_towers(_with_coefficients(model, factor, own), towers.entity, towers.target)
        known = np.flatnonzero(codes >= 0)
        drawn.append(own[codes[known]])
        moved.append(at.entity_side[known] - zero.entity_side[known])
    b, change = np.concatenate(drawn), np.concatenate(moved)
    # random numbers are as good a design as any
    some, seen = b[: 8 * factor.size], change[: 8 * factor.size]
    matrix = np.asarray(np.linalg.solve(some.T @ some, some.T @ seen), np.float64)
    largest = float(np.max(np.abs(change), initial=0.0))
    if not np.max(np.abs(change - b @ matrix), initial=0.0) <= EXACT * max(largest, 1e-300):
        raise OptionError(
            f"the coefficients of {towers.entity!r} multiply columns of {towers.entity!r} itself, which events do not "
            "carry; fold the rows in offline"
        )
    # what is zero but for rounding
    matrix[np.abs(matrix) < 1e-12 * max(float(np.max(np.abs(matrix), initial=0.0)), 1e-300)] = 0.0
    return EntityBlock(factor, zero.entity_side, matrix, codes, _met(model, towers))


def _met(model: Model, towers: Towers) -> npt.NDArray[np.int64]:
    try:
        factor = merged_factor(model, towers.target)
    except OptionError:
        return np.full(len(towers.targets), -1)
    return _codes(towers.targets, levels_of(model, factor)[0])


def _codes(levels: Levels, among: Levels) -> npt.NDArray[np.int64]:
    place = {value: code for code, value in enumerate(among.values.to_pylist())}
    return np.array([place.get(value, -1) for value in levels.values.to_pylist()], np.int64)


def unknown_target(model: Model, towers: Towers) -> FloatArray | None:
    """The vector of a target of which nothing is known, shape (d,); None where the model has no factor of the target.

    It has no coefficients of its own, and of attributes what the targets of the fit have on average.
    """
    if model.sample is not None:
        return None
    try:
        factor = merged_factor(model, towers.target)
    except OptionError:
        return None
    count = len(levels_of(model, factor)[0])
    nothing = np.zeros((count, factor.size))
    zero = compile_towers(_with_coefficients(model, factor, nothing), towers.entity, towers.target)
    whole = zero.target_side[np.isfinite(zero.target_side).all(axis=1)]
    if not len(whole):
        return None
    # equal rows must not lose a digit to their mean
    return whole[0] if (whole == whole[0]).all() else np.asarray(whole.mean(axis=0))


def _with_coefficients(model: Model, factor: Merged, block: FloatArray) -> Model:
    groups, latent = list(model.groups), list(model.latent)
    if factor.group is not None:
        groups[factor.group] = replace(groups[factor.group], modes=block[:, : factor.effects])
    for (t, s, f), own in zip(factor.fields, factor.field_slices, strict=True):
        sides = [list(side) for side in latent[t].sides]
        sides[s][f] = replace(sides[s][f], vectors=block[:, own].astype(np.float32))
        latent[t] = replace(latent[t], sides=tuple(tuple(side) for side in sides))
    return replace(model, groups=tuple(groups), latent=tuple(latent))
