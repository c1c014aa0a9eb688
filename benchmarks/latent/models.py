"""Formulas of stars: biases, vectors from ratings alone, and vectors of histories and attributes too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import ranef
from benchmarks.latent.score import FloatArray
from benchmarks.latent.splits import Split

BIASES = "rating ~ 1 + (1 | user_id) + (1 | item_id)"
TIMES = "(1 | rw(week(timestamp, unit = 's'))) + (1 | user_id:month(timestamp, unit = 's'))"


def alone(rank: int) -> str:
    """Vectors of users and items."""
    return f"{BIASES} + latent(user_id, item_id, rank={rank})"


def everything(split: Split, rank: int) -> str:
    """Histories, both ways, and attributes are in the vectors; attributes have biases of their own too."""
    users = list(split.user_attributes)
    items = [_bagged(name) for name in split.item_attributes]
    biases = " + ".join(f"(1 | {one})" for one in (*users, *items))
    left = " + ".join(["user_id", "bag(history(item_id, user_id))", *users])
    right = " + ".join(["item_id", "bag(history(user_id, item_id))", *items])
    return f"{BIASES} + {biases} + latent({left}, {right}, rank={rank})"


def fitted(formula: str, split: Split, options: Mapping[str, Any]) -> ranef.Fit:
    """The fit of the training rows; attributes are read from the split's tables."""
    tables = {key: held for key, held in (("user_id", split.users), ("item_id", split.items)) if held is not None}
    return ranef.fit(formula, split.train, tables=tables, **options)


def predicted(fit: ranef.Fit, split: Split) -> FloatArray:
    """Of the test rows."""
    return np.asarray(fit.predict(split.test), dtype=np.float64)


def _bagged(attribute: str) -> str:
    return f"bag({attribute})" if attribute == "genres" else attribute
