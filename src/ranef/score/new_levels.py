"""Levels that a model does not have, found in new rows, and the model with room for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.artifact.latent import FieldModel, LatentModel
from ranef.artifact.model import GroupModel, Model, Sample
from ranef.artifact.seen import Counts
from ranef.design.attributes import joined_attributes, open_tables, with_made_columns
from ranef.design.fields import weighted
from ranef.design.membership import Membership
from ranef.design.spec import FieldSpec
from ranef.errors import DataError
from ranef.score.merged import Merged, levels_of, merged_factors
from ranef.score.rows import match
from ranef.table import UNKNOWN, CodeArray, Combination, Factor, Levels, Source, from_numpy, labels_of, read_table
from ranef.table.arrow import from_texts
from ranef.table.encode import look_up

IntArray = npt.NDArray[np.int64]
History = TypeVar("History", GroupModel, FieldModel)


@dataclass(frozen=True, eq=False)
class Extended:
    """A model with room for new levels, whose coefficients are zero until they are known.

    Attributes
    ----------
    model : Model
        New levels stand behind those of the fit.
    before : mapping of str to int
        By name of the factor: how many levels it had. Factors without new levels are left out.
    """

    model: Model
    before: Mapping[str, int]


def with_new_levels(model: Model, source: Source, tables: Mapping[str, Any] | None = None) -> Extended:
    """The model with the levels of new rows, and with the attributes that came with these.

    Parameters
    ----------
    model : Model
    source : Source
    tables : mapping of str to table, optional
        Attributes by key, as of a prediction.

    Raises
    ------
    OptionError, DataError
        A column is absent, or has another type than in the fit.
    """
    factors = merged_factors(model)
    attributes = joined_attributes(model.attributes, open_tables(tables, source), source)
    columns = sorted({name for one in factors for name in one.columns})
    made = with_made_columns(source, attributes, model.spec.periods, [])
    histories = {name for spec in _histories(model) for name in spec.columns}
    raw = read_table(made, numbers=[], factors=sorted(histories.union(columns))).factors
    of_columns = dict(model.column_levels)
    for name in columns:
        of_columns[name] = _with_values(name, of_columns[name], raw[name])
    model = replace(model, column_levels=of_columns, attributes=attributes)
    before = {}
    for one in factors:
        levels, combination = levels_of(model, one)
        if combination is None:
            found: tuple[Levels, Combination | None] = _with_values(one.columns[0], levels, raw[one.columns[0]]), None
        else:
            found = _with_combinations(one.columns, levels, combination, raw, of_columns)
        if len(found[0]) > len(levels):
            before[one.name] = len(levels)
            model = _with_room(model, one, *found)
    return Extended(_with_histories(model, raw), before)


def _histories(model: Model) -> list[FieldSpec]:
    found = [one for term in model.spec.latent for side in term.sides for one in side if one.kind == "history"]
    return found + [one.field for one in model.spec.groups if one.kind == "history" and one.field is not None]


def _with_histories(model: Model, raw: Mapping[str, Factor]) -> Model:
    """The model with the histories of owners that it does not have; those that it has stay as they are."""
    groups = [
        group if spec.kind != "history" else _with_owners(group, cast(FieldSpec, spec.field), raw)
        for spec, group in zip(model.spec.groups, model.groups, strict=True)
    ]
    latent = [
        LatentModel(
            tuple(
                tuple(
                    field if spec.kind != "history" else _with_owners(field, spec, raw)
                    for spec, field in zip(specs, fields, strict=True)
                )
                for specs, fields in zip(term.sides, learned.sides, strict=True)
            )
        )
        for term, learned in zip(model.spec.latent, model.latent, strict=True)
    ]
    return replace(model, groups=tuple(groups), latent=tuple(latent))


def _with_owners(of: History, spec: FieldSpec, raw: Mapping[str, Factor]) -> History:
    level, owner = (raw[name] for name in spec.columns)
    known, membership = cast(Levels, of.owners), cast(Membership, of.membership)
    owners = _with_values(spec.columns[1], known, owner)
    if len(owners) == len(known):
        return of
    codes = match(spec.columns[1], owner, owners) - len(known)
    rows = (codes >= 0) & (level.codes >= 0)
    pairs = np.unique(np.column_stack([codes[rows], level.codes[rows]]), axis=0)
    start = np.searchsorted(pairs[:, 0], np.arange(len(owners) - len(known) + 1)).astype(np.int64)
    own = look_up(spec.columns[0], level.levels, of.levels)[pairs[:, 1]].astype(np.int32)
    new = weighted(spec, start, own, np.ones(len(own)))
    # levels that the fit does not have count in the scale, and have no vector
    met = new.level >= 0
    count = np.bincount(new.unit[met], minlength=new.units)
    ends = membership.start[-1] + np.cumsum(count)
    whole = Membership(
        np.concatenate([membership.start, ends]).astype(np.int64),
        np.concatenate([membership.level, new.level[met]]),
        np.concatenate([membership.weight, new.weight[met]]),
    )
    return replace(of, owners=owners, membership=whole)


def _with_values(column: str, levels: Levels, factor: Factor) -> Levels:
    """The levels, then those of the rows that are not among them."""
    codes = match(column, factor, levels)
    added = np.unique(factor.codes[codes == UNKNOWN])
    if not len(added):
        return levels
    values, kind = factor.levels.values.take(from_numpy(added)), levels.values.type
    try:
        values = values.cast(kind)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"column {column!r} has new values that are no {kind}, the type of the fit's ({error}); give them as the "
            "fit has them",
            column=column,
        ) from error
    return Levels(pa.concat_arrays([levels.values, values]), levels.ordered, levels.declared)


def _with_combinations(
    columns: Collection[str],
    levels: Levels,
    combination: Combination,
    raw: Mapping[str, Factor],
    of_columns: Mapping[str, Levels],
) -> tuple[Levels, Combination]:
    """Likewise of a product of columns, whose levels ``of_columns`` has all of."""
    codes = np.column_stack([match(name, raw[name], of_columns[name]) for name in columns])
    met = np.unique(codes[(codes >= 0).all(axis=1)], axis=0).astype(np.int32)
    first = np.unique(np.concatenate([combination.parts, met]), axis=0, return_index=True)[1]
    new = np.sort(first[first >= len(combination)])
    if not len(new):
        return levels, combination
    added: CodeArray = met[new - len(combination)]
    texts = [
        labels_of(of_columns[name].values.take(from_numpy(part))) for name, part in zip(columns, added.T, strict=True)
    ]
    values = from_texts([":".join(one) for one in zip(*texts, strict=True)]).cast(levels.values.type)
    whole = Levels(pa.concat_arrays([levels.values, values]), levels.ordered, levels.declared)
    return whole, Combination(np.concatenate([combination.parts, added]))


def _with_room(model: Model, factor: Merged, levels: Levels, combination: Combination | None) -> Model:
    count = len(levels)
    if factor.group is not None:
        groups = list(model.groups)
        groups[factor.group] = _group_with_room(groups[factor.group], levels, combination)
        model = replace(model, groups=tuple(groups))
        if model.sample is not None:
            model = replace(model, sample=_sample_with_room(model.sample, factor.group, count))
        if model.thresholds is not None:
            moves = list(model.thresholds.moves)
            moves[factor.group] = padded(moves[factor.group], count)
            model = replace(model, thresholds=replace(model.thresholds, moves=tuple(moves)))
    latent = [[list(side) for side in term.sides] for term in model.latent]
    for t, s, f in factor.fields:
        latent[t][s][f] = _field_with_room(latent[t][s][f], levels, combination)
    model = replace(model, latent=tuple(LatentModel(tuple(map(tuple, term))) for term in latent))
    if model.counts is None:
        return model
    return replace(model, counts=changed_counts(model.counts, factor, lambda own: padded(own, count)))


def changed_counts(counts: Counts, factor: Merged, change: Callable[[IntArray], IntArray]) -> Counts:
    """The numbers of rows with those of one factor's levels changed, wherever it stands."""
    groups = [change(one) if g == factor.group else one for g, one in enumerate(counts.groups)]
    latent = tuple(
        tuple(
            tuple(change(one) if (t, s, f) in factor.fields else one for f, one in enumerate(side))
            for s, side in enumerate(term)
        )
        for t, term in enumerate(counts.latent)
    )
    return Counts(tuple(groups), latent)


def _group_with_room(group: GroupModel, levels: Levels, combination: Combination | None) -> GroupModel:
    old, count = len(group.levels), len(levels)
    conditional = padded(group.conditional, count)
    conditional[old:] = group.covariance
    apart = np.zeros(count, np.bool_)
    apart[:old] = False if group.apart is None else group.apart
    apart[old:] = True
    return replace(
        group,
        levels=levels,
        combination=combination,
        modes=padded(group.modes, count),
        conditional=conditional,
        sensitivity=padded(group.sensitivity, count),
        apart=apart,
    )


def _sample_with_room(sample: Sample, group: int, count: int) -> Sample:
    effects = list(sample.effects)
    effects[group] = padded(effects[group], count)
    return replace(sample, effects=tuple(effects))


def _field_with_room(field: FieldModel, levels: Levels, combination: Combination | None) -> FieldModel:
    old, count, k = len(field.levels), len(levels), len(field.covariance)
    i, j = (np.arange(k), np.arange(k)) if field.spread.shape[1] == k else np.tril_indices(k)
    spread = padded(field.spread, count)
    spread[old:] = field.covariance[i, j]
    draws = field.draws
    if draws is not None:
        room = np.zeros((len(draws.vectors), count - old, k), np.float32)
        draws = replace(draws, vectors=np.concatenate([draws.vectors, room], axis=1))
    return replace(
        field,
        levels=levels,
        combination=combination,
        vectors=padded(field.vectors, count),
        spread=spread,
        draws=draws,
    )


def padded(values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """The array with zeros behind, shape (count, ...)."""
    out = np.zeros((count, *values.shape[1:]), values.dtype)
    out[: len(values)] = values
    return out
