"""What a fit keeps of its rows in a saved model: pairs, and rows by level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranef.artifact.seen import Counts, Seen
from ranef.design.build import Design, Group
from ranef.design.fields import FieldDesign
from ranef.score.lists import lists_of
from ranef.score.rows import match
from ranef.table import Factor, Levels


def counts_of_rows(design: Design) -> Counts:
    """How many of the fit's rows each level has."""
    latent = tuple(tuple(tuple(_count(one) for one in side) for side in term.sides) for term in design.latent)
    return Counts(tuple(_count(group) for group in design.groups), latent)


def column_factor(design: Design, column: str) -> Factor | None:
    """A column's level in each row of a fit, if some factor of the model has the column; else None."""
    for spec, group in zip(design.spec.groups, design.groups, strict=True):
        if spec.columns == (column,) and spec.kind in ("factor", "walk"):
            return Factor(group.codes, group.levels)
        if spec.kind == "history" and spec.columns[-1] == column and group.owners is not None:
            return Factor(group.codes, group.owners)
        if group.combination is not None and column in spec.columns:
            parts = np.ascontiguousarray(group.combination.parts[:, spec.columns.index(column)])
            return Factor(parts[group.codes], design.column_levels[column])
    for field in (field for term in design.latent for side in term.sides for field in side):
        if field.spec.columns == (column,) and field.spec.kind in ("factor", "walk"):
            return Factor(field.codes, field.levels)
        if field.spec.kind == "history" and field.spec.columns[-1] == column and field.owners is not None:
            return Factor(field.codes, field.owners)
    return None


def seen_of(entity: tuple[str, Factor], target: tuple[str, Factor], entities: Levels, targets: Levels) -> Seen:
    """Distinct pairs, as places among a model's own levels.

    Parameters
    ----------
    entity, target : pair of str and Factor
        The columns with their names.
    entities, targets : Levels
    """
    row, place = match(entity[0], entity[1], entities), match(target[0], target[1], targets)
    kept = (row >= 0) & (place >= 0)
    start, found = lists_of(row[kept], place[kept], len(entities), len(targets))
    return Seen(entity[0], target[0], start, found)


def factors_of_seen(seen: Seen, entities: Levels, targets: Levels) -> tuple[Factor, Factor]:
    """The kept pairs as two factors over these levels."""
    row = np.repeat(np.arange(len(seen.start) - 1, dtype=np.int32), np.diff(seen.start))
    return Factor(row, entities), Factor(seen.place, targets)


def _count(of: Group | FieldDesign) -> npt.NDArray[np.int64]:
    if of.membership is None:
        return np.bincount(of.codes, minlength=len(of.levels)).astype(np.int64)
    units = np.bincount(of.codes, minlength=of.membership.units)
    found = np.bincount(of.membership.level, units[of.membership.unit], len(of.levels))
    return found.astype(np.int64)
