"""Recommendations that explore: by one draw from the posterior (Thompson 1933), or by upper limits of the scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.artifact.latent import FieldModel, LatentModel
from ranef.artifact.model import FloatArray, GroupModel, Model
from ranef.errors import OptionError
from ranef.score.predict import predict
from ranef.score.recommend import Ranked
from ranef.score.sampled import kept_sample
from ranef.score.scale import normal_quantile
from ranef.score.sides import columns_of_pairs
from ranef.score.topk import Lists, TargetIndex, first_of_each
from ranef.score.towers import Towers
from ranef.table import from_numpy, open_source

# numbers of covariances that are factorised together
NUMBERS = 1 << 22


def drawn_model(model: Model, seed: int) -> Model:
    """The model with fixed effects, effects and vectors drawn once from their posterior.

    Of a Bayesian fit one of its draws; else fixed effects, the effects of each level given these, and the vectors of
    each level, which count as independent of each other. Levels that the fit did not have count as the average one.
    """
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
    if model.sample is not None:
        return _kept_draw(model, int(random.integers(len(kept_sample(model).kept))))
    step = _root(model.vcov[None])[0] @ random.standard_normal(len(model.beta))
    groups = [replace(group, modes=_drawn_modes(group, step, random)) for group in model.groups]
    latent = [
        LatentModel(tuple(tuple(_drawn_field(one, random) for one in side) for side in term.sides))
        for term in model.latent
    ]
    return replace(model, beta=model.beta + step, groups=tuple(groups), latent=tuple(latent))


def upper_ranked(
    model: Model,
    towers: Towers,
    index: TargetIndex,
    values: pa.Array,
    k: int,
    *,
    level: float,
    seen: Lists | None,
    tables: Mapping[str, Any] | None,
    context: Mapping[str, Any] | None,
) -> Ranked:
    """The targets with the highest upper limits of each entity: of intervals for the linear predictor.

    Every target of every entity has its variance computed: for some entities, not for all.

    Parameters
    ----------
    model, towers, index, k, seen
        As of `ranef.score.recommend.ranked`.
    values : pyarrow.Array, shape (b,)
        The entities.
    level : float
        Of the intervals.
    tables, context
        As of `ranef.score.towers.compile_towers`.
    """
    columns = columns_of_pairs(model, towers.entity, towers.target, tables, context)
    model = replace(model, attributes=columns.attributes)
    listed = np.sort(index.place)
    items = towers.targets.values.take(from_numpy(listed))
    targets, scores = np.full((len(values), k), -1, np.int32), np.full((len(values), k), np.nan)
    for row, value in enumerate(values):
        pairs = {towers.entity: pa.repeat(value, len(items)), towers.target: items}
        fixed = {name: pa.repeat(pa.scalar(one), len(items)) for name, one in columns.context.items()}
        upper = _upper(model, {**pairs, **fixed}, level)
        kept = ~np.isnan(upper)
        if seen is not None:
            kept &= ~np.isin(listed, seen[1][seen[0][row] : seen[0][row + 1]])
        found = first_of_each(np.zeros(int(kept.sum()), np.int64), listed[kept], upper[kept], 1, k)
        targets[row], scores[row] = found[0][0], found[1][0]
    return Ranked(targets, scores)


def _upper(model: Model, columns: Mapping[str, Any], level: float) -> FloatArray:
    source = open_source(columns)
    gaussian = model.spec.kind == "number" and model.sample is None
    # of a new response the variance between levels is a part, for new ones; its own variation is taken away again
    found = predict(model, source, kind="link", interval="prediction" if gaussian else "confidence", level=level)
    if found.upper is None:
        raise OptionError("this model has no intervals")
    if not gaussian:
        return found.upper
    z = normal_quantile((1 + level) / 2)
    half = np.sqrt(((found.upper - found.fit) ** 2 - (z * model.info.sigma) ** 2).clip(0))
    return np.asarray(found.fit + half)


def _kept_draw(model: Model, draw: int) -> Model:
    sample = kept_sample(model)
    groups = [
        replace(group, modes=np.ascontiguousarray(effects[:, :, draw]))
        for group, effects in zip(model.groups, sample.effects, strict=True)
    ]
    latent = [
        LatentModel(
            tuple(
                tuple(one if one.draws is None else replace(one, vectors=one.draws.vectors[draw]) for one in side)
                for side in term.sides
            )
        )
        for term in model.latent
    ]
    beta = np.ascontiguousarray(sample.beta(len(model.fixed_columns))[:, draw])
    return replace(model, beta=beta, groups=tuple(groups), latent=tuple(latent), sample=None)


def _drawn_modes(group: GroupModel, step: FloatArray, random: np.random.Generator) -> FloatArray:
    noise = random.standard_normal(group.modes.shape)
    own = np.einsum("gab,gb->ga", _root(group.conditional), noise)
    drawn: FloatArray = group.modes - group.sensitivity @ step + own
    return drawn


def _drawn_field(field: FieldModel, random: np.random.Generator) -> FieldModel:
    levels, k = field.vectors.shape
    out = field.vectors.copy()
    size = max(1, NUMBERS // k**2)
    i, j = np.tril_indices(k)
    for start in range(0, levels, size):
        spread = field.spread[start : start + size].astype(np.float64)
        noise = random.standard_normal((len(spread), k))
        if spread.shape[1] == k:
            out[start : start + size] += (np.sqrt(spread.clip(0)) * noise).astype(np.float32)
            continue
        whole = np.zeros((len(spread), k, k))
        whole[:, i, j] = spread
        whole[:, j, i] = spread
        out[start : start + size] += np.einsum("gab,gb->ga", _root(whole), noise).astype(np.float32)
    return replace(field, vectors=out)


def _root(covariance: FloatArray) -> npt.NDArray[np.float64]:
    """A square root of each matrix, shape (n, k, k), some of which are singular."""
    values, vectors = np.linalg.eigh(covariance)
    root: FloatArray = vectors * np.sqrt(values.clip(0))[:, None, :]
    return root
