"""Random effects of pairs: of factors that are products of an entity's columns and a target's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import FloatArray, Model
from ranef.errors import OptionError, counted
from ranef.score.rows import match
from ranef.score.sides import Columns, SideRows
from ranef.table import MISSING, UNKNOWN, CodeArray

IntArray = npt.NDArray[np.int64]
# covariates on the entities' rows and on the targets', shapes (n, e) and (m, t), and coefficients of the factor's
# levels, shape (levels, e, t)
Part = tuple[FloatArray, FloatArray, FloatArray]

# levels of one side that are written out as columns of the towers
MOST_COLUMNS = 64
MOST_PAIRS = 100_000_000


@dataclass(frozen=True, eq=False)
class PairTerms:
    """What some pairs have beside the product of their vectors: a sparse matrix by rows.

    Attributes
    ----------
    start : int64 array, shape (entities + 1,)
    target : int32 array, shape (pairs,)
        Ascending within an entity.
    value : float64 array, shape (pairs,)
    targets : int
    """

    start: IntArray
    target: CodeArray
    value: FloatArray
    targets: int

    def of(self, entity: int) -> tuple[CodeArray, FloatArray]:
        """Targets and values of one entity; of none that is not known (negative, or beyond the last)."""
        if not 0 <= entity < len(self.start) - 1:
            return self.target[:0], self.value[:0]
        own = slice(self.start[entity], self.start[entity + 1])
        return self.target[own], self.value[own]

    def values_of(self, entities: npt.NDArray[np.integer], targets: npt.NDArray[np.integer]) -> FloatArray:
        """The values of pairs, shape (pairs,); zero where there is none."""
        keys = self._keys
        known = (entities >= 0) & (entities < len(self.start) - 1)
        asked = np.where(known, entities, 0).astype(np.int64) * self.targets + targets
        place = np.minimum(np.searchsorted(keys, asked), max(len(keys) - 1, 0))
        if not len(keys):
            return np.zeros(len(asked))
        return np.where(known & (keys[place] == asked), self.value[place], 0.0)

    @cached_property
    def _keys(self) -> IntArray:
        rows = np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))
        return (rows * self.targets + self.target).astype(np.int64)

    @classmethod
    def total(cls, parts: Sequence[PairTerms], entities: int, targets: int) -> PairTerms:
        """The sum of several."""
        rows = [np.repeat(np.arange(entities), np.diff(one.start)[:entities]) for one in parts]
        inside = [slice(0, len(own)) for own in rows]
        target = np.concatenate([one.target[own] for one, own in zip(parts, inside, strict=True)])
        values = np.concatenate([one.value[own] for one, own in zip(parts, inside, strict=True)])
        keys = np.concatenate(rows) * targets + target
        found, place = np.unique(keys, return_inverse=True)
        start = np.searchsorted(found, np.arange(entities + 1) * targets).astype(np.int64)
        total = np.bincount(place.reshape(-1), values, len(found)).astype(np.float64)
        return cls(start, (found % targets).astype(np.int32), total, targets)


def pair_group(
    model: Model,
    group: int,
    columns: Columns,
    entity: SideRows,
    target: SideRows,
    parts: Sequence[Part],
    extend: Callable[[list[tuple[FloatArray, FloatArray]]], None],
) -> PairTerms | None:
    """The effects of a factor such as ``user:item`` or ``user:genre``.

    Where one side of it has few levels they become columns of the towers, given to ``extend``; else the pairs that the
    fit met are written out.

    Raises
    ------
    OptionError
        There are too many of these.
    """
    spec, learned = model.spec.groups[group], model.groups[group]
    if learned.combination is None:
        raise OptionError(f"{spec.name!r} is no product of columns")
    side = [columns.side[name] for name in spec.columns]
    levels = learned.combination.parts
    own = [np.flatnonzero([one != "target" for one in side]), np.flatnonzero([one == "target" for one in side])]
    codes = []
    for rows, places in ((entity, own[0]), (target, own[1])):
        names = [spec.columns[place] for place in places]
        codes.append(_codes(model, names, rows, levels[:, places]))
    (row_of_entity, level_entity), (row_of_target, level_target) = codes
    few_targets = level_target.max(initial=-1) < MOST_COLUMNS
    few_entities = level_entity.max(initial=-1) < MOST_COLUMNS
    if few_targets or few_entities:
        for x, z, coefficients in parts:
            if few_targets:
                extend(_written_out(x, z, coefficients, row_of_entity, level_entity, row_of_target, level_target))
            else:
                turned = coefficients.transpose(0, 2, 1)
                found = _written_out(z, x, turned, row_of_target, level_target, row_of_entity, level_entity)
                extend([(a, c) for c, a in found])
        return None
    return _pairs(spec.name, parts, row_of_entity, level_entity, row_of_target, level_target)


def _codes(
    model: Model, names: Sequence[str], rows: SideRows, parts: npt.NDArray[np.int32]
) -> tuple[CodeArray, CodeArray]:
    """The combination of columns of each row, UNKNOWN if no level of the factor has it and MISSING where a column is,
    and of each level."""
    own = np.stack([match(name, rows.factors[name], model.column_levels[name]) for name in names], axis=1)
    met, of_level = np.unique(parts, axis=0, return_inverse=True)
    both, place = np.unique(np.concatenate([met, own]), axis=0, return_inverse=True)
    code_of = np.full(len(both), UNKNOWN, np.int32)
    place = place.reshape(-1)
    code_of[place[: len(met)]] = np.arange(len(met))
    found = np.where((own == MISSING).any(axis=1), MISSING, code_of[place[len(met) :]])
    return found.astype(np.int32), of_level.reshape(-1).astype(np.int32)


def _written_out(
    x: FloatArray,
    z: FloatArray,
    coefficients: FloatArray,
    row: CodeArray,
    level_row: CodeArray,
    column: CodeArray,
    level_column: CodeArray,
) -> list[tuple[FloatArray, FloatArray]]:
    """Blocks with a column for each level of the side that has few."""
    count = int(level_column.max()) + 1
    e, t = coefficients.shape[1:]
    table = np.zeros((int(level_row.max()) + 1, count, e, t))
    table[level_row, level_column] = coefficients
    # the codes UNKNOWN (-2) and MISSING (-1) index from the end
    own = np.vstack([table, np.zeros((1, count, e, t)), np.full((1, count, e, t), np.nan)])[row]
    a = np.einsum("ne,ncet->nct", x, own).reshape(len(x), -1)
    indicator = np.vstack([np.eye(count), np.zeros((1, count)), np.full((1, count), np.nan)])[column]
    c = np.einsum("mc,mt->mct", indicator, z).reshape(len(z), -1)
    return [(a, c)]


def _pairs(
    name: str,
    parts: Sequence[Part],
    row_of_entity: CodeArray,
    level_entity: CodeArray,
    row_of_target: CodeArray,
    level_target: CodeArray,
) -> PairTerms:
    """Every pair of an entity and a target that a level of the factor stands for."""
    entities, by_entity = _by_code(row_of_entity, int(level_entity.max()) + 1)
    targets, by_target = _by_code(row_of_target, int(level_target.max()) + 1)
    n, m = np.diff(by_entity)[level_entity], np.diff(by_target)[level_target]
    total = int(np.sum(n * m))
    if total > MOST_PAIRS:
        raise OptionError(f"{name!r} has effects of {counted(total, 'pair')}, more than recommendations can hold")
    level = np.repeat(np.arange(len(level_entity)), n * m)
    inside = np.arange(total) - np.repeat(np.cumsum(n * m) - n * m, n * m)
    entity = entities[by_entity[level_entity[level]] + inside // np.maximum(m[level], 1)]
    target = targets[by_target[level_target[level]] + inside % np.maximum(m[level], 1)]
    value = np.zeros(total)
    for x, z, coefficients in parts:
        value += np.einsum("ne,net,nt->n", x[entity], coefficients[level], z[target])
    count = len(row_of_entity)
    order = np.lexsort((target, entity))
    start = np.searchsorted(entity[order], np.arange(count + 1)).astype(np.int64)
    return PairTerms(start, target[order].astype(np.int32), value[order], len(row_of_target))


def _by_code(codes: CodeArray, count: int) -> tuple[IntArray, IntArray]:
    """Rows by their code, and where each code begins."""
    order = np.argsort(codes, kind="stable")
    return order, np.searchsorted(codes[order], np.arange(count + 1)).astype(np.int64)
