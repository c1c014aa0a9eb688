"""Vectors of users and items by their place in the towers, and the items that users have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.model import Model
from ranef.score.lists import pair_lists
from ranef.score.topk import Lists
from ranef.score.tower_vectors import field_vectors
from ranef.score.towers import Towers
from ranef.table import Factor, Levels
from ranef.table.encode import look_up

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FactorPart:
    """The vectors of the first latent term that has both factors.

    Attributes
    ----------
    users, items : arrays, shapes (levels, rank)
    user_code, item_code : int32 arrays, shapes (n,) and (m,)
        The vector of each place of the towers; negative where there is none.
    """

    users: npt.NDArray[Any]
    items: npt.NDArray[Any]
    user_code: npt.NDArray[np.int32]
    item_code: npt.NDArray[np.int32]

    def user(self, place: int) -> FloatArray | None:
        """The vector of an entity, shape (rank,); None of one that has none."""
        code = -1 if place < 0 else int(self.user_code[place])
        return None if code < 0 else self.users[code].astype(np.float64)

    def item(self, places: IntArray) -> FloatArray:
        """The vectors of targets, shape (targets, rank); zero where there is none."""
        codes = self.item_code[places]
        return np.where(codes[:, None] < 0, 0.0, self.items[codes].astype(np.float64))


def factor_part(model: Model | ImplicitModel, towers: Towers) -> FactorPart | None:
    """The vectors behind a model's towers; None where no latent term has both factors."""
    entity, target = towers.entity, towers.target
    users: tuple[Levels, npt.NDArray[Any]]
    items: tuple[Levels, npt.NDArray[Any]]
    if isinstance(model, ImplicitModel):
        own = {model.spec.user: (model.users, model.user_vectors), model.spec.item: (model.items, model.item_vectors)}
        users, items = own[entity], own[target]
    else:
        found = field_vectors(model, entity, target)
        if found is None:
            return None
        users, items = found
    return FactorPart(
        users[1],
        items[1],
        look_up(entity, towers.entities, users[0]),
        look_up(target, towers.targets, items[0]),
    )


def seen_lists(model: Model | ImplicitModel, towers: Towers) -> Lists | None:
    """The targets that each entity of the towers was fitted with; None where the model does not keep its pairs."""
    seen = model.seen
    if seen is None or {seen.entity, seen.target} != {towers.entity, towers.target}:
        return None

    def levels(column: str) -> Levels:
        if isinstance(model, ImplicitModel):
            return model.users if column == model.spec.user else model.items
        return model.column_levels[column]

    row = np.repeat(np.arange(len(seen.start) - 1, dtype=np.int32), np.diff(seen.start))
    factors = {seen.entity: Factor(row, levels(seen.entity)), seen.target: Factor(seen.place, levels(seen.target))}
    return pair_lists(
        (towers.entity, factors[towers.entity]),
        (towers.target, factors[towers.target]),
        towers.entities,
        towers.targets,
    )
