"""All that a model knows of the levels of one factor, as one block of coefficients: random terms, then vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ranef.artifact.latent import FieldModel
from ranef.artifact.model import GroupModel, Model
from ranef.errors import OptionError, nearest
from ranef.score.level_state import LevelState
from ranef.table import Combination, Levels

FloatArray = npt.NDArray[np.float64]

# share of a factor's largest variance that every direction has at least, where precisions are kept
LEAST_VARIANCE = 1e-10


@dataclass(frozen=True, eq=False)
class Merged:
    """One factor and the parts of a level's block.

    Attributes
    ----------
    name : str
        ``g``, or ``a:b``.
    columns : tuple of str
    group : int or None
        Its place among the random terms' factors; their coefficients come first.
    fields : tuple of (int, int, int)
        Latent term, side and place on the side; their vectors follow in this order.
    sizes : tuple of int
        Coefficients of each part.
    """

    name: str
    columns: tuple[str, ...]
    group: int | None
    fields: tuple[tuple[int, int, int], ...]
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        return sum(self.sizes)

    @property
    def effects(self) -> int:
        """Coefficients of the random terms."""
        return self.sizes[0] if self.group is not None else 0

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each part is in the block."""
        return tuple(slice(int(a), int(b)) for a, b in pairwise(np.cumsum([0, *self.sizes])))

    @property
    def field_slices(self) -> tuple[slice, ...]:
        return self.slices[len(self.sizes) - len(self.fields) :]


def merged_factors(model: Model) -> tuple[Merged, ...]:
    """The factors of a model that have one level a row; bags, histories and walks are none of them."""
    found: dict[str, tuple[tuple[str, ...], int | None, list[tuple[int, int, int]]]] = {}
    for g, spec in enumerate(model.spec.groups):
        if spec.kind == "factor":
            found[spec.name] = (spec.columns, g, [])
    for t, term in enumerate(model.spec.latent):
        for s, side in enumerate(term.sides):
            for f, field in enumerate(side):
                if field.kind == "factor":
                    found.setdefault(field.name, (field.columns, None, []))[2].append((t, s, f))
    return tuple(
        Merged(
            name,
            columns,
            group,
            tuple(fields),
            (
                *(() if group is None else (len(model.groups[group].covariance),)),
                *(len(model.latent[t].sides[s][f].covariance) for t, s, f in fields),
            ),
        )
        for name, (columns, group, fields) in found.items()
    )


def merged_factor(model: Model, name: str) -> Merged:
    """The factor of this name.

    Raises
    ------
    OptionError
    """
    known = {one.name: one for one in merged_factors(model)}
    if name not in known:
        close = nearest(name, known, 1)
        guess = f"; did you mean {close[0]!r}?" if close else "."
        raise OptionError(
            f"the model has no factor {name!r} with one level a row{guess} It has "
            f"{', '.join(map(repr, known)) or 'none'}"
        )
    return known[name]


def field_of(model: Model, place: tuple[int, int, int]) -> FieldModel:
    t, s, f = place
    return model.latent[t].sides[s][f]


def levels_of(model: Model, factor: Merged) -> tuple[Levels, Combination | None]:
    """The factor's levels, in the order of the arrays of all its parts."""
    one: GroupModel | FieldModel = (
        field_of(model, factor.fields[0]) if factor.group is None else model.groups[factor.group]
    )
    return one.levels, one.combination


def prior_covariance(model: Model, factor: Merged) -> FloatArray:
    """Of a level's block before any row of its own, shape (d, d)."""
    blocks = [] if factor.group is None else [model.groups[factor.group].covariance]
    return block_diagonal([*blocks, *(field_of(model, place).covariance for place in factor.fields)])


def prior_state(model: Model, factor: Merged) -> LevelState:
    """What is known of a level without rows."""
    covariance = prior_covariance(model, factor)
    return LevelState(np.zeros(factor.size), precision_of(covariance, covariance))


def level_state(model: Model, factor: Merged, level: int) -> LevelState:
    """What the model knows of one of its levels, as `level_states`.

    Parameters
    ----------
    model : Model
    factor : Merged
    level : int
        Its place among the factor's levels.
    """
    means, precisions = level_states(model, factor, np.array([level]))
    return LevelState(means[0], precisions[0])


def level_states(model: Model, factor: Merged, levels: npt.NDArray[np.integer]) -> tuple[FloatArray, FloatArray]:
    """Means and precisions of some levels, shapes (some levels, d) and (some levels, d, d).

    Those that were updated after the fit have the precision of their whole block; of others the parts' covariances are
    those that the model keeps, one independent of the other.
    """
    parts: list[tuple[FloatArray, FloatArray]] = []
    if factor.group is not None:
        group = model.groups[factor.group]
        parts.append((group.modes[levels], group.conditional[levels]))
    for place in factor.fields:
        field = field_of(model, place)
        parts.append((field.vectors[levels].astype(np.float64), unpacked(field.spread[levels], len(field.covariance))))
    mean = np.concatenate([one for one, _ in parts], axis=1)
    precision = np.zeros((len(levels), factor.size, factor.size))
    prior = prior_covariance(model, factor)
    for own, (_, covariance) in zip(factor.slices, parts, strict=True):
        precision[:, own, own] = precision_of(covariance, prior[own, own])
    for states in model.states:
        if states.factor == factor.name:
            at = np.searchsorted(states.levels, levels).clip(max=max(len(states.levels) - 1, 0))
            met = np.flatnonzero(states.levels[at] == levels) if len(states.levels) else np.zeros(0, np.int64)
            at = at[met]
            mean[met] = states.mean[at]
            i, j = np.tril_indices(factor.size)
            precision[met[:, None], i, j] = states.precision[at]
            precision[met[:, None], j, i] = states.precision[at]
    return mean, precision


def partner_spreads(model: Model, factor: Merged, other: str, codes: npt.NDArray[np.integer]) -> FloatArray | None:
    """How uncertain the vectors are that rows meet: covariances of what multiplies the block, shape (rows, d, d).

    Parameters
    ----------
    model : Model
    factor : Merged
        Whose block.
    other : str
        The factor on the other sides.
    codes : integer array, shape (rows,)
        Its level in each row; negative where it is not known, which counts as certain.

    Returns
    -------
    float64 array, or None
        None where fits take vectors for certain: of any method but variational Bayes, and of other families than the
        Gaussian.
    """
    if model.info.method != "vb" or model.spec.kind != "number":
        return None
    out = np.zeros((len(codes), factor.size, factor.size))
    for (t, own_side, _), own in zip(factor.fields, factor.field_slices, strict=True):
        for s, side in enumerate(model.latent[t].sides):
            for spec, field in zip(model.spec.latent[t].sides[s], side, strict=True):
                if s != own_side and spec.name == other:
                    met = unpacked(field.spread[codes], own.stop - own.start)
                    out[:, own, own] += np.where(codes[:, None, None] >= 0, met, 0.0)
    return out


def precision_of(covariance: FloatArray, prior: FloatArray) -> FloatArray:
    """Inverses of covariances, shape (..., k, k); a direction without variance has a tiny share of the prior's."""
    # a factor without any variance is held at zero
    largest = float(np.max(np.diag(prior), initial=0.0)) or LEAST_VARIANCE
    values, vectors = np.linalg.eigh(covariance)
    inverse = 1.0 / np.maximum(values, LEAST_VARIANCE * largest)
    return np.asarray((vectors * inverse[..., None, :]) @ np.swapaxes(vectors, -1, -2))


def unpacked(spread: npt.NDArray[np.floating], k: int) -> FloatArray:
    """Covariances from their lower triangles by rows, or from their diagonals alone; shape (levels, k, k)."""
    if spread.shape[1] == k:
        return np.asarray(spread, np.float64)[:, :, None] * np.eye(k)
    i, j = np.tril_indices(k)
    place = np.zeros((k, k), np.int64)
    place[i, j] = place[j, i] = np.arange(len(i))
    return np.take(np.asarray(spread, np.float64), place.reshape(-1), axis=1).reshape(-1, k, k)


def block_diagonal(blocks: Sequence[FloatArray]) -> FloatArray:
    """The blocks along the diagonal of a matrix of zeros."""
    size = sum(len(one) for one in blocks)
    out, at = np.zeros((size, size)), 0
    for one in blocks:
        out[at : at + len(one), at : at + len(one)] = one
        at += len(one)
    return out
