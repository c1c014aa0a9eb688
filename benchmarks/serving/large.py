"""A model of the size that a shop serves: users and items with biases and vectors, drawn from their priors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import ranef
from ranef.artifact import save
from ranef.table import Levels

FORMULA = "y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank = {rank})"


def save_large(path: Path, users: int, items: int, rank: int, seed: int = 0) -> None:
    """Save a model with this many levels.

    A small fit gives the form; the numbers are drawn: biases with standard deviations 0.4, vectors of which axis ``a``
    has a variance in proportion to ``1 / a``, as those of fits to ratings have by and large.
    """
    rng = np.random.default_rng(seed)
    n = 400
    small = {"y": rng.normal(size=n), "user": rng.integers(0, 20, n), "item": rng.integers(0, 20, n)}
    model = ranef.fit(FORMULA.format(rank=rank), small, max_iterations=3).model
    levels = {"user": Levels(pa.array(np.arange(users))), "item": Levels(pa.array(np.arange(items)))}
    axis = np.sqrt(0.5 / np.arange(1, rank + 1))
    groups = []
    for spec, group in zip(model.spec.groups, model.groups, strict=True):
        count = len(levels[spec.columns[0]])
        groups.append(
            replace(
                group,
                levels=levels[spec.columns[0]],
                covariance=np.full((1, 1), 0.16),
                modes=0.4 * rng.normal(size=(count, 1)),
                conditional=np.full((count, 1, 1), 0.01),
                sensitivity=np.zeros((count, 1, 1)),
            )
        )
    sides = []
    for fields, side in zip(model.spec.latent[0].sides, model.latent[0].sides, strict=True):
        count = len(levels[fields[0].columns[0]])
        width = side[0].spread.shape[1]
        one: Any = replace(
            side[0],
            levels=levels[fields[0].columns[0]],
            vectors=(axis * rng.normal(size=(count, rank))).astype(np.float32),
            spread=np.full((count, width), 0.0, np.float32),
            covariance=np.diag(axis**2),
        )
        diagonal = np.arange(rank) if width == rank else np.cumsum(np.arange(1, rank + 1)) - 1
        one.spread[:, diagonal] = 0.1 * axis**2
        sides.append((one,))
    latent = (replace(model.latent[0], sides=tuple(sides)),)
    large = replace(
        model, groups=tuple(groups), latent=latent, column_levels=levels, posterior=None, counts=None, seen=None
    )
    save(large, path)
