"""The model as it is between two sweeps: enough of it to predict the expected response."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranef.artifact.latent import FieldModel, LatentModel
from ranef.artifact.model import GroupModel, Model
from ranef.design.build import Group
from ranef.design.fields import FieldDesign
from ranef.design.spec import GroupSpec
from ranef.learn.factor.start import Problem, effects_back
from ranef.solve.sweeps import State

FloatArray = npt.NDArray[np.float64]


def snapshot(problem: Problem, additive: Model, state: State) -> Model:
    """What a state predicts; how uncertain it is stays behind.

    Parameters
    ----------
    additive : Model
        Where sweeps begin; it lends what a state does not have.
    """
    scaling, design = problem.scaling, problem.design
    beta = additive.beta
    if len(state.beta):
        beta = scaling.least_squares + scaling.y_scale * scaling.x_back @ state.beta
    known = {spec.name: group for spec, group in zip(additive.spec.groups, additive.groups, strict=True)}
    groups = [
        known.get(spec.name) or _empty(spec, group, len(beta))
        for spec, group in zip(design.spec.groups, design.groups, strict=True)
    ]
    for side, of in zip(state.sides.sides, state.coefficients, strict=True):
        for member, own in zip(side.members, of, strict=True):
            if member.group is not None:
                modes = scaling.y_scale * own.effects @ effects_back(problem, member.group).T
                groups[member.group] = _with_modes(groups[member.group], modes)
    scale = float(np.sqrt(scaling.y_scale))
    latent = []
    for number, term in enumerate(state.sides.terms):
        sides = []
        for place, fields in zip(term.sides, design.latent[number].sides, strict=True):
            members = state.coefficients[place]
            sides.append(tuple(_field(field, scale * own.vectors) for field, own in zip(fields, members, strict=True)))
        latent.append(LatentModel(tuple(sides)))
    return replace(
        additive,
        spec=design.spec,
        beta=beta,
        groups=tuple(groups),
        attributes=design.attributes,
        latent=tuple(latent),
    )


def _empty(spec: GroupSpec, group: Group, fixed: int) -> GroupModel:
    """A grouping factor of which nothing is known."""
    levels, k = len(group.levels), len(spec.coefficients)
    history = group.owners is not None
    return GroupModel(
        levels=group.levels,
        combination=group.combination,
        covariance=np.zeros((k, k)),
        modes=np.zeros((levels, k)),
        conditional=np.zeros((levels, k, k)),
        sensitivity=np.zeros((levels, k, fixed)),
        walk=group.walk,
        membership=group.membership if history else None,
        owners=group.owners,
    )


def _with_modes(group: GroupModel, modes: FloatArray) -> GroupModel:
    return replace(group, modes=modes if group.walk is None else group.walk.membership.sums(modes))


def _field(field: FieldDesign, vectors: npt.NDArray[np.float32]) -> FieldModel:
    k = vectors.shape[1]
    if field.walk is not None:
        # levels are sums of increments
        vectors = field.walk.membership.sums(vectors.astype(np.float64)).astype(np.float32)
    history = field.spec.kind == "history"
    return FieldModel(
        levels=field.levels,
        combination=field.combination,
        owners=field.owners if history else None,
        membership=field.membership if history else None,
        vectors=vectors,
        spread=np.zeros((len(vectors), 0), np.float32),
        covariance=np.zeros((k, k)),
    )
