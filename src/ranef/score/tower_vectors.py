"""Latent terms as blocks of two towers: vectors of the entity's levels times those of the target's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ranef.artifact.latent import FieldModel
from ranef.artifact.model import FloatArray, Model
from ranef.design.spec import FieldSpec
from ranef.errors import OptionError
from ranef.score.latent import FieldRows, field_rows, unit_vectors
from ranef.score.latent_sampled import drawn_vectors, met_field
from ranef.score.rows import field_codes
from ranef.score.sampled import kept_sample
from ranef.score.sides import Columns, Side, SideRows
from ranef.table import Levels, Table

# the vectors of each of a term's sides on the rows of an entity or target; None where a side has no factor there
Sides = list[FloatArray | None]
Block = tuple[FloatArray, FloatArray]


def latent_blocks(model: Model, place: int, columns: Columns, entity: SideRows, target: SideRows) -> list[Block]:
    """The blocks of a latent term, of which the product is its part of the linear predictor.

    Parameters
    ----------
    place : int
        Of the term in the model.

    Returns
    -------
    list of pairs of float64 arrays, shapes (entities, w) and (targets, w)
        Of a Bayesian fit those of every kept draw, over their number: a mean of products is no product of means.

    Raises
    ------
    OptionError
        A factor of the term is a product of the entity's columns and the target's.
    """
    specs, term = model.spec.latent[place].sides, model.latent[place]
    where: list[list[Side]] = []
    for fields in specs:
        where.append([])
        for spec in fields:
            side = columns.of(spec.columns[-1:] if spec.kind == "history" else spec.columns)
            if side is None:
                raise OptionError(
                    f"{spec.name} in {model.spec.latent[place].text} has columns of {columns.entity!r} and of "
                    f"{columns.target!r}: recommendations cannot use it; use predict() on the pairs"
                )
            where[-1].append(side)
    rows = {"entity": entity, "target": target}
    on_rows = [
        [_field_rows(model, spec, own, rows[side]) for spec, own, side in zip(fields, models, sides, strict=True)]
        for fields, models, sides in zip(specs, term.sides, where, strict=True)
    ]
    if model.sample is None:
        parts = {side: _summed(term.sides, on_rows, where, side) for side in rows}
        return _products(parts["entity"], parts["target"], entity.rows, target.rows)
    draws = len(kept_sample(model).kept)
    drawn = _Drawn(term.sides, on_rows, where, {side: own.rows for side, own in rows.items()})
    blocks = []
    for draw in range(draws):
        found = _products(drawn.sides("entity", draw), drawn.sides("target", draw), entity.rows, target.rows)
        blocks += [(a / draws, c) for a, c in found]
    return blocks


def _field_rows(model: Model, spec: FieldSpec, field: FieldModel, rows: SideRows) -> FieldRows:
    codes = field_codes(model, spec, field, rows.factors)
    return field_rows(spec, field, Table(rows.rows, {}, rows.factors), codes)


def _summed(
    fields: Sequence[Sequence[FieldModel]],
    on_rows: Sequence[Sequence[FieldRows]],
    where: Sequence[Sequence[Side]],
    side: str,
) -> Sides:
    out: Sides = []
    for models, of, sides in zip(fields, on_rows, where, strict=True):
        own = [unit_vectors(m, o)[o.codes] for m, o, s in zip(models, of, sides, strict=True) if s == side]
        out.append(np.sum(own, axis=0) if own else None)
    return out


class _Drawn:
    """The vectors of a Bayesian fit draw by draw."""

    def __init__(
        self,
        fields: Sequence[Sequence[FieldModel]],
        on_rows: Sequence[Sequence[FieldRows]],
        where: Sequence[Sequence[Side]],
        rows: Mapping[str, int],
    ):
        self._met = [
            [
                (side, met_field(field.draws, of, np.arange(rows[side])))
                for field, of, side in zip(models, have, sides, strict=True)
                if field.draws is not None
            ]
            for models, have, sides in zip(fields, on_rows, where, strict=True)
        ]

    def sides(self, side: str, draw: int) -> Sides:
        out: Sides = []
        for fields in self._met:
            own = []
            for where, met in fields:
                if where == side:
                    vectors = drawn_vectors(met, draw, None).astype(np.float64)
                    vectors[met.missing] = np.nan
                    own.append(vectors)
            out.append(np.sum(own, axis=0) if own else None)
        return out


def _products(entity: Sides, target: Sides, entities: int, targets: int) -> list[Block]:
    """``sum_{s<t} (a_s + c_s)'(a_t + c_t)`` by sides: what each has by itself, and products of the two."""
    blocks: list[Block] = []
    own = [one for one in entity if one is not None]
    other = [one for one in target if one is not None]
    if len(own) > 1:
        blocks.append((_within(own)[:, None], np.ones((targets, 1))))
    if len(other) > 1:
        blocks.append((np.ones((entities, 1)), _within(other)[:, None]))
    if own and other:
        whole = np.sum(other, axis=0)
        # every side meets the target's part of every other side
        alone = [a for a, c in zip(entity, target, strict=True) if a is not None and c is None]
        if alone:
            blocks.append((np.sum(alone, axis=0), whole))
        both = [(a, c) for a, c in zip(entity, target, strict=True) if a is not None and c is not None]
        blocks += [(a, whole - c) for a, c in both]
    return blocks


def _within(parts: Sequence[FloatArray]) -> FloatArray:
    """The sum of the inner products of all pairs, shape (rows,)."""
    whole = np.sum(parts, axis=0)
    squares = np.sum([np.einsum("nk,nk->n", one, one) for one in parts], axis=0)
    out: FloatArray = 0.5 * (np.einsum("nk,nk->n", whole, whole) - squares)
    return out


def field_vectors(
    model: Model, entity: str, target: str
) -> tuple[tuple[Levels, FloatArray], tuple[Levels, FloatArray]] | None:
    """Levels and vectors of two plain factors on different sides of the first latent term that has both."""
    for spec, term in zip(model.spec.latent, model.latent, strict=True):
        found: dict[str, tuple[int, FieldModel]] = {}
        for s, (fields, models) in enumerate(zip(spec.sides, term.sides, strict=True)):
            for field, own in zip(fields, models, strict=True):
                if field.kind == "factor" and field.columns in ((entity,), (target,)):
                    found[field.columns[0]] = (s, own)
        if len(found) == 2 and found[entity][0] != found[target][0]:
            both = [(one.levels, one.vectors.astype(np.float64)) for one in (found[entity][1], found[target][1])]
            return both[0], both[1]
    return None
