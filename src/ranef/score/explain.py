"""A linear predictor taken apart: the addends of each row, which sum to its score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.latent import FieldModel
from ranef.artifact.model import FloatArray, GroupModel, Model
from ranef.score.latent import FieldRows, unit_vectors
from ranef.score.latent_sampled import latent_draws
from ranef.score.rows import GroupBatch, Rows, batches, read_rows
from ranef.score.sampled import kept_sample
from ranef.score.select import select
from ranef.table import Levels, Source, labels_of

PartKind: TypeAlias = Literal["offset", "fixed", "random", "latent"]
IntArray = npt.NDArray[np.int64]
ROWS = 1 << 14


@dataclass(frozen=True, eq=False)
class Addend:
    """One addend of every row.

    Attributes
    ----------
    kind : {"offset", "fixed", "random", "latent"}
    group : str
        A grouping factor, or the text of a latent term; empty of the fixed part.
    name : str
        The coefficient's name; of a latent term the number of the axis.
    level : sequence of str
        Of a grouping factor, row by row; empty where it has none or several.
    covariate, coefficient, addend : float64 arrays, shape (rows,)
        The third is the product of the others; of latent terms the sum over pairs of sides, the others NaN.
    count : int64 array, shape (rows,)
        Rows of the fit behind the coefficient; -1 where it is not known.
    shrinkage : float64 array, shape (rows,)
        How much of what the coefficient is comes from the population: its posterior variance over the variance between
        levels. 0 of fixed effects, 1 of a level that the fit did not have; NaN where it is not known.
    """

    kind: PartKind
    group: str
    name: str
    level: Sequence[str]
    covariate: FloatArray
    coefficient: FloatArray
    addend: FloatArray
    count: IntArray
    shrinkage: FloatArray


def explain_rows(model: Model, source: Source, tables: Mapping[str, Any] | None = None) -> list[Addend]:
    """The addends of every row's linear predictor; their sum is that of `ranef.score.predict`.

    Of a Bayesian fit they are means over its draws.

    Raises
    ------
    As `ranef.score.predict`.
    """
    selection = select(model.spec)
    rows = read_rows(model, source, selection, tables=tables)
    pieces = [list(_of_batch(model, rows, batch)) for batch in batches(model, rows, selection, ROWS)]
    return [_joined(parts) for parts in zip(*pieces, strict=True)]


def _of_batch(model: Model, rows: Rows, batch: Any) -> Iterator[Addend]:
    here = batch.rows
    n = len(here)
    nobs = np.full(n, model.info.nobs, np.int64)
    one, none = np.ones(n), np.zeros(n)
    if batch.offset is not None:
        yield Addend("offset", "", "offset", [""] * n, one, batch.offset, batch.offset, nobs, none)
    beta = model.beta
    if model.sample is not None:
        beta = kept_sample(model).beta(len(model.fixed_columns)).mean(axis=1)
    if batch.x is not None:
        for name, x, value in zip(model.fixed_names, batch.x.T, beta, strict=True):
            yield Addend("fixed", "", name, [""] * n, x, np.full(n, value), x * value, nobs, none)
    for group in batch.groups:
        yield from _of_group(model, group)
    for place in rows.latent:
        yield from _of_latent(model, place, rows, here)


def _of_group(model: Model, batch: GroupBatch) -> Iterator[Addend]:
    spec, learned = model.spec.groups[batch.group], model.groups[batch.group]
    modes = learned.modes
    if model.sample is not None:
        modes = kept_sample(model).effects[batch.group].mean(axis=2)
    k = modes.shape[1]
    # the codes UNKNOWN (-2) and MISSING (-1) index from the end
    coefficients = np.vstack([batch.by_code(modes), np.zeros((1, k)), np.full((1, k), np.nan)])[batch.codes]
    count, shrinkage = _behind(model, batch, learned)
    level = _level_of(learned, spec.columns, model.column_levels, batch)
    for j, (name, z) in enumerate(zip(spec.coefficients, batch.covariates.T, strict=True)):
        own = coefficients[:, j]
        yield Addend("random", spec.name, name, level, z, own, z * own, count, shrinkage[:, j])


def _behind(model: Model, batch: GroupBatch, learned: GroupModel) -> tuple[IntArray, FloatArray]:
    rows = None if model.counts is None else model.counts.groups[batch.group]
    count = _counted(rows, len(learned.levels), batch.codes if batch.units is None else None)
    k = learned.modes.shape[1]
    if batch.units is not None:
        if rows is not None:
            members = batch.units.membership
            per_unit = np.bincount(members.unit, rows[members.level], members.units).astype(np.int64)
            count = np.append(per_unit, 0)[batch.codes]
        else:
            count = np.full(len(batch.codes), -1)
        return count, np.full((len(batch.codes), k), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.einsum("gkk->gk", learned.conditional) / np.diag(learned.covariance)
    share = np.where(np.diag(learned.covariance) > 0, share.clip(0, 1), 1.0)
    return count, np.vstack([share, np.ones((1, k)), np.full((1, k), np.nan)])[batch.codes]


def _counted(rows: IntArray | None, levels: int, codes: npt.NDArray[np.int32] | None) -> IntArray:
    """Rows by code: of levels that were added to a model later, and of new ones, none."""
    if codes is None:
        return np.zeros(0, np.int64)
    if rows is None:
        return np.full(len(codes), -1, np.int64)
    padded = np.zeros(levels + 2, np.int64)
    padded[: len(rows)] = rows
    return padded[codes]


def _level_of(
    learned: GroupModel, columns: Sequence[str], column_levels: Mapping[str, Levels], batch: GroupBatch
) -> list[str]:
    if batch.units is not None:
        return [""] * len(batch.codes)
    met, inverse = np.unique(batch.codes, return_inverse=True)
    names = []
    for code in met.tolist():
        if code < 0:
            names.append("")
        elif learned.combination is None:
            names.append(labels_of(learned.levels.values.slice(code, 1))[0])
        else:
            parts = zip(columns, learned.combination.parts[code].tolist(), strict=True)
            names.append(":".join(labels_of(column_levels[name].values.slice(part, 1))[0] for name, part in parts))
    return [names[place] for place in inverse.reshape(-1).tolist()]


def _of_latent(model: Model, place: int, rows: Rows, here: IntArray) -> Iterator[Addend]:
    spec, term = model.spec.latent[place], model.latent[place]
    n = len(here)
    empty = np.full(n, np.nan)
    count, shrinkage = _behind_latent(model, place, rows, here)
    if model.sample is not None:
        # draws rotate: axes have no meaning over them
        draws = latent_draws(model, {place: rows.latent[place]}, here, len(kept_sample(model).kept))
        yield Addend("latent", spec.text, "all", [""] * n, empty, empty, draws.mean(axis=1), count, empty)
        return
    sides = [
        np.sum(
            [unit_vectors(one, of)[of.codes[here]] for one, of in zip(fields, side, strict=True)],
            axis=0,
        )
        for fields, side in zip(term.sides, rows.latent[place], strict=True)
    ]
    whole = np.sum(sides, axis=0)
    axes = 0.5 * (whole**2 - np.sum([side**2 for side in sides], axis=0))
    for axis in range(term.rank):
        name = str(axis + 1)
        yield Addend("latent", spec.text, name, [""] * n, empty, empty, axes[:, axis], count, shrinkage[:, axis])


def _behind_latent(model: Model, place: int, rows: Rows, here: IntArray) -> tuple[IntArray, FloatArray]:
    """The fewest rows behind any plain factor's level, and the largest shrinkage of these, axis by axis."""
    term = model.latent[place]
    count = np.full(len(here), np.iinfo(np.int64).max)
    shrinkage = np.zeros((len(here), term.rank))
    plain = False
    for s, (fields, side) in enumerate(zip(term.sides, rows.latent[place], strict=True)):
        for f, (one, of) in enumerate(zip(fields, side, strict=True)):
            if of.membership is not None:
                continue
            plain = True
            own = None if model.counts is None else model.counts.latent[place][s][f]
            count = np.minimum(count, _counted(own, len(one.levels), of.codes[here]))
            shrinkage = np.maximum(shrinkage, _share(one, of)[of.codes[here]])
    return (count, shrinkage) if plain else (np.full(len(here), -1), np.full(shrinkage.shape, np.nan))


def _share(field: FieldModel, of: FieldRows) -> FloatArray:
    """Posterior variance over prior variance of each number of every level's vector, then of UNKNOWN and MISSING."""
    rank, width = len(field.covariance), field.spread.shape[1]
    diagonal = field.spread if width == rank else field.spread[:, np.cumsum(np.arange(1, rank + 1)) - 1]
    prior = np.diag(field.covariance)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(prior > 0, (diagonal.astype(np.float64) / prior).clip(0, 1), 1.0)
    return np.vstack([share, np.ones((1, rank)), np.full((1, rank), np.nan)])


def _joined(parts: Sequence[Addend]) -> Addend:
    first = parts[0]
    return Addend(
        first.kind,
        first.group,
        first.name,
        [label for one in parts for label in one.level],
        *(
            cast(Any, np.concatenate([getattr(one, name) for one in parts]))
            for name in ("covariate", "coefficient", "addend", "count", "shrinkage")
        ),
    )


def explain_implicit(
    model: ImplicitModel, users: npt.NDArray[np.integer], items: npt.NDArray[np.integer]
) -> list[Addend]:
    """The addends of pairs of a model of implicit feedback: products axis by axis.

    Parameters
    ----------
    users, items : integer arrays, shape (pairs,)
        Places; negative of those that the model does not have, whose vectors are zero.
    """
    n = len(users)
    sides = []
    for vectors, places in ((model.user_vectors, users), (model.item_vectors, items)):
        own = vectors.astype(np.float64)[np.maximum(places, 0)]
        sides.append(np.where((places >= 0)[:, None], own, 0.0))
    products, empty = sides[0] * sides[1], np.full(n, np.nan)
    count = np.full(n, -1)
    if model.seen is not None:
        count = np.where(users >= 0, np.diff(model.seen.start)[np.maximum(users, 0)], 0)
    return [
        Addend("latent", "latent", str(axis + 1), [""] * n, empty, empty, products[:, axis], count, empty)
        for axis in range(model.rank)
    ]


def past_shares(vector: FloatArray, target: FloatArray, past: FloatArray) -> FloatArray:
    """What each past target adds to the product of an entity's vector and a target's.

    An entity's vector is, but for what its own attributes say, a combination of the vectors of the targets that it
    has: ``Sigma sum_j g_j q_j`` at the mode, with the scores ``g_j`` of its rows. The smallest weights that give the
    vector say how much of it each stands for.

    Parameters
    ----------
    vector, target : float64 arrays, shape (rank,)
    past : float64 array, shape (targets, rank)

    Returns
    -------
    float64 array, shape (targets,)
        They sum to the product where the past targets' vectors span the entity's, and else to that of its part that
        they span.
    """
    if not len(past):
        return np.zeros(0)
    weights, *_ = np.linalg.lstsq(past.T, vector, rcond=1e-10)
    shares: FloatArray = weights * (past @ target)
    return shares
