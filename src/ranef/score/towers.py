"""Two towers: a fitted model as one vector for each level of a factor and one for each level of another.

Everything that a formula adds is a product of what belongs to the entity (a user), what belongs to the target (an item)
and coefficients. So the linear predictor of a pair is the inner product of two vectors, and the best targets of an
entity are the largest entries of a product of matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.model import FloatArray, Model
from ranef.design.columns import Operation, columns_of, evaluate
from ranef.design.matrix import ModelMatrixSpec, TermColumns, model_matrix, product_spec, variable_widths
from ranef.errors import OptionError
from ranef.score.pair import choose_pair
from ranef.score.pair_terms import PairTerms, pair_group
from ranef.score.rows import group_codes
from ranef.score.sampled import kept_sample
from ranef.score.sides import Columns, SideRows, columns_of_pairs, side_levels, side_rows
from ranef.score.tower_vectors import latent_blocks
from ranef.table import Levels

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Towers:
    """Vectors whose inner products are a model's linear predictors.

    Attributes
    ----------
    entity, target : str
        The two columns.
    entities, targets : Levels
    known_entities, known_targets : bool arrays, shapes (n,) and (m,)
        Whether the model has effects or a vector of a level, or only its attributes.
    entity_side : float64 array, shape (n + 1, d)
        The last is that of an entity of which nothing is known: the mean over the entities of what their attributes
        alone say. Where an attribute is missing, its columns are those of the last row.
    target_side : float64 array, shape (m, d)
        NaN where an attribute is missing: such a target has no score.
    pairs : PairTerms or None
        What pairs that were met in fitting have besides.
    error : float
        How far scores are off those of the model, root mean square over all pairs: 0 unless the towers were compressed.
    """

    entity: str
    target: str
    entities: Levels
    targets: Levels
    known_entities: BoolArray
    known_targets: BoolArray
    entity_side: FloatArray
    target_side: FloatArray
    pairs: PairTerms | None = None
    error: float = 0.0

    @property
    def width(self) -> int:
        return int(self.target_side.shape[1])

    def scores(self, entities: npt.NDArray[np.integer], targets: npt.NDArray[np.integer]) -> FloatArray:
        """Linear predictors of pairs, shape (pairs,).

        Parameters
        ----------
        entities, targets : integer arrays, shape (pairs,)
            Places; -1 or n of an entity that is not known.
        """
        found: FloatArray = np.einsum("nd,nd->n", self.entity_side[entities], self.target_side[targets])
        return found if self.pairs is None else found + self.pairs.values_of(entities, targets)


# what stands on one side of a pair, and what multiplies it on the other: shapes (n, w) and (m, w)
Block = tuple[FloatArray, FloatArray]


def compile_towers(
    model: Model | ImplicitModel,
    entity: str | None = None,
    target: str | None = None,
    tables: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
) -> Towers:
    """Compile a model to two towers.

    Parameters
    ----------
    model : Model or ImplicitModel
    entity, target : str, optional
        Columns, as `ranef.score.pair.choose_pair` takes them.
    tables : mapping of str to table, optional
        Attributes by key, as in predictions; also such as the fit had in its rows. Their further levels become
        entities and targets too.
    context : mapping of str to object, optional
        Values of columns that belong to neither side.

    Raises
    ------
    OptionError
        The model cannot recommend, or a column comes from nowhere; it says why.
    LevelError, DataError
        As in predictions.
    """
    entity, target = choose_pair(model, entity, target, tables or ())
    if isinstance(model, ImplicitModel):
        return _implicit(model, entity, tables, context)
    columns = columns_of_pairs(model, entity, target, tables, context)
    entities, known_entities = side_levels(model, columns, "entity")
    targets, known_targets = side_levels(model, columns, "target")
    n = len(entities)
    unknown = _unknown_rows(model, columns, n)
    on_entity = side_rows(model, columns, "entity", entities, unknown)
    on_target = side_rows(model, columns, "target", targets, 0)
    blocks = _Blocks(on_entity, on_target)
    effects, beta = _effects(model)
    _add_offsets(blocks, columns, model.spec.offsets)
    for term, sub in _terms(model.spec.fixed, columns):
        own = np.zeros(len(model.spec.fixed.names))
        own[list(model.fixed_columns)] = beta
        blocks.add_fixed(sub, sub.coefficients(own[None, term.columns])[0])
    pairs = []
    for g, spec in enumerate(model.spec.groups):
        names = spec.columns[-1:] if spec.kind == "history" else spec.columns
        side = columns.of(names)
        if side is None:
            pairs.append(_pair_terms(model, g, effects[g], columns, blocks))
            continue
        rows = on_entity if side == "entity" else on_target
        codes, units = group_codes(model, g, rows.factors)
        values = effects[g] if units is None else units.membership.sums(effects[g])
        edge = np.vstack([np.zeros((1, values.shape[1])), np.full((1, values.shape[1]), np.nan)])
        own = np.vstack([values, edge])[codes]
        for one in spec.terms:
            for term, sub in _terms(one.effects, columns):
                part = own[:, one.start + term.start : one.start + term.stop]
                blocks.add_levels(sub, side, sub.coefficients(part))
    for place in range(len(model.latent)):
        blocks.extend(latent_blocks(model, place, columns, on_entity, on_target))
    entity_side, target_side = blocks.sides()
    last = entity_side[n:] if unknown else entity_side
    own_rows = entity_side[:n].copy()
    average = np.nan_to_num(np.nanmean(last, axis=0)) if len(last) else np.zeros(entity_side.shape[1])
    holes = np.isnan(own_rows)
    if holes.any():
        own_rows[holes] = np.broadcast_to(average, own_rows.shape)[holes]
    made = [one for one in pairs if one is not None]
    return Towers(
        entity=entity,
        target=target,
        entities=entities,
        targets=targets,
        known_entities=known_entities,
        known_targets=known_targets,
        entity_side=np.vstack([own_rows, average]),
        target_side=target_side,
        pairs=PairTerms.total(made, n, len(targets)) if made else None,
    )


@dataclass(frozen=True, eq=False)
class SplitTerm:
    """A term of a linear part by sides.

    Attributes
    ----------
    entity, target : ModelMatrixSpec
        The product of the term's variables on each side; the intercept where it has none there.
    widths : tuple of int
        Columns of each variable.
    order : tuple of int
        The term's variables: those of the entity, last first, then those of the target, last first.
    """

    entity: ModelMatrixSpec
    target: ModelMatrixSpec
    widths: tuple[int, ...]
    order: tuple[int, ...]

    def coefficients(self, values: FloatArray) -> FloatArray:
        """Coefficients of the term's columns, shape (rows, columns), as shape (rows, entity's, target's columns)."""
        rows, count = len(values), len(self.widths)
        # the first variable varies fastest: the last axis
        tensor = values.reshape(rows, *self.widths[::-1])
        axes = [0, *(count - place for place in self.order)]
        out = tensor.transpose(axes).reshape(rows, len(self.entity.names), len(self.target.names))
        return np.ascontiguousarray(out)


def _terms(spec: ModelMatrixSpec, columns: Columns) -> Iterator[tuple[TermColumns, SplitTerm]]:
    for term in spec.terms:
        own: dict[str, list[int]] = {"entity": [], "target": []}
        for place, variable in enumerate(term.variables):
            names = list(columns_of(spec.variables[variable].value))
            side = columns.of(names)
            if side is None:
                raise OptionError(
                    f"{spec.variables[variable].label} in {term.label} mixes columns of {columns.entity!r} and of "
                    f"{columns.target!r} in one expression, which is no product of the two: recommendations need it "
                    "written as a product (a:b), or use predict() on the pairs"
                )
            own[side].append(place)
        order = (*reversed(own["entity"]), *reversed(own["target"]))
        entity, target = (product_spec(spec, term, own[side]) for side in ("entity", "target"))
        yield term, SplitTerm(entity, target, variable_widths(spec, term), order)


class _Blocks:
    """Blocks while they are collected; those with the same columns on one side become one."""

    def __init__(self, entity: SideRows, target: SideRows):
        self.rows = {"entity": entity, "target": target}
        self._columns: dict[tuple[str, bytes], FloatArray] = {}
        self._sums: dict[tuple[str, bytes], FloatArray] = {}
        self._others: list[Block] = []

    @property
    def entities(self) -> int:
        return self.rows["entity"].rows

    @property
    def targets(self) -> int:
        return self.rows["target"].rows

    def columns(self, side: str, spec: ModelMatrixSpec) -> FloatArray:
        """The columns of a product on one side, shape (rows, columns)."""
        key = (side, msgspec.json.encode(spec))
        if key not in self._columns:
            self._columns[key] = model_matrix(spec, self.rows[side].table)
        return self._columns[key]

    def add_fixed(self, term: SplitTerm, coefficients: FloatArray) -> None:
        """A fixed term; coefficients of shape (entity's columns, target's columns)."""
        if len(term.target.names) <= len(term.entity.names):
            self._add("target", term.target, self.columns("entity", term.entity) @ coefficients)
        else:
            self._add("entity", term.entity, self.columns("target", term.target) @ coefficients.T)

    def add_levels(self, term: SplitTerm, side: str, coefficients: FloatArray) -> None:
        """A random term; coefficients of shape (rows of the side, entity's columns, target's columns)."""
        if side == "entity":
            own = np.einsum("ne,net->nt", self.columns("entity", term.entity), coefficients)
            self._add("target", term.target, own)
        else:
            own = np.einsum("mt,met->me", self.columns("target", term.target), coefficients)
            self._add("entity", term.entity, own)

    def add_constant(self, side: str, values: FloatArray) -> None:
        """What one side has by itself, shape (rows,)."""
        intercept = product_spec(ModelMatrixSpec((), (), ()), TermColumns("", (), (), 0, 0), ())
        self._add("target" if side == "entity" else "entity", intercept, values[:, None])

    def extend(self, blocks: Sequence[Block]) -> None:
        self._others += blocks

    def sides(self) -> tuple[FloatArray, FloatArray]:
        """Both towers, shapes (entities, d) and (targets, d)."""
        entity, target = [np.zeros((self.entities, 0))], [np.zeros((self.targets, 0))]
        for (side, key), values in self._sums.items():
            columns = self._columns[side, key]
            entity.append(columns if side == "entity" else values)
            target.append(values if side == "entity" else columns)
        for a, c in self._others:
            entity.append(a)
            target.append(c)
        return np.concatenate(entity, axis=1), np.concatenate(target, axis=1)

    def _add(self, side: str, spec: ModelMatrixSpec, values: FloatArray) -> None:
        """Columns ``spec`` on ``side``, times ``values`` on the other one."""
        self.columns(side, spec)
        key = (side, msgspec.json.encode(spec))
        self._sums[key] = self._sums[key] + values if key in self._sums else values


def _add_offsets(blocks: _Blocks, columns: Columns, offsets: Sequence[Any]) -> None:
    for value in offsets:
        operation: Operation = value
        side = columns.of(list(columns_of(operation)))
        if side is None:
            raise OptionError(
                f"the formula's offset mixes columns of {columns.entity!r} and of {columns.target!r}: recommendations "
                "need each offset() to read columns of one of them; or use predict() on the pairs"
            )
        table = blocks.rows[side].table
        blocks.add_constant(side, np.broadcast_to(evaluate(operation, table), (table.rows,)).astype(np.float64))


def _pair_terms(model: Model, group: int, effects: FloatArray, columns: Columns, blocks: _Blocks) -> PairTerms | None:
    spec = model.spec.groups[group]
    if spec.kind != "factor":
        raise OptionError(
            f"{spec.name!r} has columns of {columns.entity!r} and of {columns.target!r}, and is no plain product of "
            "them: recommendations cannot use it; use predict() on the pairs"
        )
    parts = []
    for one in spec.terms:
        for term, sub in _terms(one.effects, columns):
            coefficients = sub.coefficients(effects[:, one.start + term.start : one.start + term.stop])
            parts.append((blocks.columns("entity", sub.entity), blocks.columns("target", sub.target), coefficients))
    return pair_group(model, group, columns, blocks.rows["entity"], blocks.rows["target"], parts, blocks.extend)


def _effects(model: Model) -> tuple[list[FloatArray], FloatArray]:
    """Coefficients of each group's levels, shape (levels, k), and the fixed effects; means of draws where there are."""
    if model.sample is None:
        return [group.modes for group in model.groups], model.beta
    sample = kept_sample(model)
    return [one.mean(axis=2) for one in sample.effects], sample.beta(len(model.fixed_columns)).mean(axis=1)


def _unknown_rows(model: Model, columns: Columns, entities: int) -> int:
    """How many rows an unknown entity is the mean of: of all where attributes say something, of none where a fixed
    effect is the entity itself."""
    fixed = {name for one in model.spec.fixed.variables for name in columns_of(one.value)}
    if columns.entity in fixed:
        return 0
    attributes = any(side == "entity" and name != columns.entity for name, side in columns.side.items())
    return entities if attributes else min(1, entities)


def _implicit(
    model: ImplicitModel, entity: str, tables: Mapping[str, Any] | None, context: Mapping[str, Any] | None
) -> Towers:
    if tables or context:
        raise OptionError("a model of implicit feedback reads nothing but its two columns: leave out tables, context")
    sides = [(model.spec.user, model.users, model.user_vectors), (model.spec.item, model.items, model.item_vectors)]
    own, other = sides if entity == model.spec.user else sides[::-1]
    return Towers(
        entity=own[0],
        target=other[0],
        entities=own[1],
        targets=other[1],
        known_entities=np.ones(len(own[1]), np.bool_),
        known_targets=np.ones(len(other[1]), np.bool_),
        entity_side=np.vstack([own[2].astype(np.float64), np.zeros((1, model.rank))]),
        target_side=other[2].astype(np.float64),
    )
