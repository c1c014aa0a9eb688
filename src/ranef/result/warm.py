"""What a new fit takes over from an earlier one: covariances, and the coefficients of the levels that both have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ranef.artifact.latent import FieldModel
from ranef.artifact.model import GroupModel, Model
from ranef.design.build import Design
from ranef.design.spec import GroupSpec
from ranef.learn.factor.earlier import Earlier, EarlierField, no_fields
from ranef.learn.start import Start
from ranef.table import Levels, to_numpy
from ranef.table.kinds import common_type

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def start_of(model: Model, design: Design) -> Start:
    """An earlier fit's estimates for the rows of a new design."""
    covariances, modes = {}, {}
    known = dict(zip((spec.name for spec in model.spec.groups), model.groups, strict=True))
    specs = {spec.name: spec for spec in model.spec.groups}
    for spec, group in zip(design.spec.groups, design.groups, strict=True):
        learned = known.get(spec.name)
        if learned is None or not same_coefficients(spec, specs[spec.name]):
            continue
        covariances[spec.name] = learned.covariance / model.info.sigma**2
        modes[spec.name] = modes_of(learned, group.levels)[0]
    return Start(
        covariances=covariances,
        modes=modes,
        beta=dict(zip(model.fixed_names, model.beta.tolist(), strict=True)),
        family=(model.info.family, model.info.link),
        phi=model.phi,
    )


def earlier_of(model: Model, design: Design) -> Earlier:
    """An earlier fit's estimates for the rows of a design with latent terms.

    The vectors of a term are those of the first earlier term with as many sides that has a factor in common with each.
    """
    names = [[[field.name for field in side] for side in term.sides] for term in model.spec.latent]
    fields: list[tuple[tuple[EarlierField | None, ...], ...]] = []
    left = list(range(len(names)))
    for term in design.latent:
        wanted = [[field.spec.name for field in side] for side in term.sides]
        which = next((t for t in left if _alike(names[t], wanted)), None)
        if which is None:
            fields.append(no_fields(term.sides))
            continue
        left.remove(which)
        sides = []
        for side, own, known in zip(term.sides, names[which], model.latent[which].sides, strict=True):
            found = dict(zip(own, known, strict=True))
            sides.append(tuple(_earlier_field(found.get(field.spec.name), field.levels) for field in side))
        fields.append(tuple(sides))
    return Earlier(start_of(model, design), model.info.sigma**2, tuple(fields))


def _alike(one: list[list[str]], other: list[list[str]]) -> bool:
    return len(one) == len(other) and all(set(a) & set(b) for a, b in zip(one, other, strict=True))


def _earlier_field(learned: FieldModel | None, levels: Levels) -> EarlierField | None:
    if learned is None:
        return None
    place = _places(levels, learned.levels)
    known = place >= 0
    spread = learned.spread if learned.draws is None else learned.spread[:, :0]
    return EarlierField(
        vectors=np.where(known[:, None], learned.vectors[place].astype(np.float64), 0.0),
        known=known,
        spread=np.where(known[:, None], spread[place], np.float32(0)),
        covariance=learned.covariance,
    )


def same_coefficients(one: GroupSpec, other: GroupSpec) -> bool:
    """Whether two fits have the same coefficients of a grouping factor, in the same terms."""
    return [term.effects.names for term in one.terms] == [term.effects.names for term in other.terms]


def modes_of(learned: GroupModel, levels: Levels) -> tuple[FloatArray, IntArray]:
    """Coefficients of given levels, and where each one is among the learned ones.

    Returns
    -------
    modes : float64 array, shape (levels, k)
        Zero where the level is new.
    place : int64 array, shape (levels,)
        -1 where it is.
    """
    place = _places(levels, learned.levels)
    return np.where(place[:, None] >= 0, learned.modes[place], 0.0), place


def _places(levels: Levels, known: Levels) -> IntArray:
    dtype = common_type([levels.values.type, known.values.type])
    if dtype is None:
        # text, say, that was numbers
        values, among = pa.array(levels.labels, pa.large_string()), pa.array(known.labels, pa.large_string())
    else:
        values, among = levels.values.cast(dtype), known.values.cast(dtype)
    found = pc.fill_null(pc.index_in(values, value_set=among), -1)
    return np.asarray(to_numpy(found), np.int64)
