"""Folding in to a Bayesian fit: a draw of each new level for every kept draw of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt

from ranef.artifact.latent import FieldDraws, FieldModel
from ranef.artifact.model import Model, Sample
from ranef.prior import factor_of
from ranef.score.block_modes import Response
from ranef.score.fold_rows import FoldRows, Place, Values
from ranef.score.level_blocks import Target, solved
from ranef.score.merged import Merged, block_diagonal, field_of
from ranef.score.sampled import kept_sample

FloatArray = npt.NDArray[np.float64]


def folded_draws(model: Model, rows: FoldRows, before: Mapping[Merged, int]) -> Model:
    """The model with draws of its last levels given each draw of everything else.

    Exact for a Gaussian response; for others each is drawn from the normal distribution at the mode. The deviations of
    the effects from their modes sum to zero over the draws, so that means do not depend on chance.

    Parameters
    ----------
    model : Model
        With room for the new levels.
    rows : FoldRows
    before : mapping of Merged to int
        How many levels each factor had.

    Raises
    ------
    OptionError
        The model was saved without its draws.
    FitError
    """
    sample = kept_sample(model)
    count = len(sample.kept)
    beta = sample.beta(len(model.beta))
    effects = {one.group: sample.effects[one.group][n:] for one, n in before.items() if one.group is not None}
    vectors = {place: _draws(model, place).vectors[:, n:] for one, n in before.items() for place in one.fields}
    noise = {g: np.zeros(own.shape) for g, own in effects.items()}
    for draw in range(count):
        targets = [_target(model, sample, factor, n, draw) for factor, n in before.items()]
        values = Values(
            beta[:, draw],
            [np.ascontiguousarray(own[:, :, draw]) for own in sample.effects],
            {place: _draws(model, place).vectors[draw].astype(np.float64) for place in _places(model)},
        )
        response = Response(model.family, sample.phi[draw], rows.y, rows.weights)
        random = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(11, draw)))
        for target, found in solved(model, rows, targets, values, response, precisions=True):
            factor, new = target.factor, target.levels - before[target.factor]
            normal = random.standard_normal(found.block.shape)
            root = np.linalg.inv(np.linalg.cholesky(found.precisions)).transpose(0, 2, 1)
            moved = np.matmul(root, normal[:, :, None])[:, :, 0] @ target.root.T
            if factor.group is not None:
                effects[factor.group][new, :, draw] = found.block[:, : factor.effects]
                noise[factor.group][new, :, draw] = moved[:, : factor.effects]
            for place, own in zip(factor.fields, factor.field_slices, strict=True):
                vectors[place][draw, new] = found.block[:, own] + moved[:, own]
    for g, away in noise.items():
        centred = away - away.mean(axis=2, keepdims=True)
        effects[g] += centred * np.sqrt(count / max(count - 1, 1))
    return _with_moments(model, before)


def _draws(model: Model, place: Place) -> FieldDraws:
    # a Bayesian fit has draws of all vectors
    return cast(FieldDraws, field_of(model, place).draws)


def _places(model: Model) -> list[Place]:
    return [
        (t, s, f) for t, term in enumerate(model.latent) for s, side in enumerate(term.sides) for f in range(len(side))
    ]


def _target(model: Model, sample: Sample, factor: Merged, before: int, draw: int) -> Target:
    """New levels at their prior in one draw."""
    fields = [_draws(model, place) for place in factor.fields]
    blocks = [] if factor.group is None else [sample.covariances[factor.group][:, :, draw]]
    root = factor_of(block_diagonal([*blocks, *(np.diag(one.variances[draw]) for one in fields)]))
    mean = np.concatenate([np.zeros(factor.effects), *(one.means[draw] for one in fields)])
    total = len(fields[0].vectors[draw]) if factor.group is None else len(sample.effects[factor.group])
    levels = np.arange(before, total)
    return Target(factor, levels, np.tile(mean, (len(levels), 1)), root, np.eye(factor.size))


def _with_moments(model: Model, before: Mapping[Merged, int]) -> Model:
    """Posterior means and covariances of the new levels, from their draws."""
    sample = kept_sample(model)
    groups = list(model.groups)
    latent = [[list(side) for side in term.sides] for term in model.latent]
    for factor, n in before.items():
        if factor.group is not None:
            own, drawn = groups[factor.group], sample.effects[factor.group][n:]
            modes, conditional = own.modes.copy(), own.conditional.copy()
            modes[n:] = drawn.mean(axis=2)
            away = drawn - modes[n:, :, None]
            conditional[n:] = np.einsum("lad,lbd->lab", away, away) / max(drawn.shape[2] - 1, 1)
            groups[factor.group] = replace(own, modes=modes, conditional=conditional)
        for t, s, f in factor.fields:
            latent[t][s][f] = _field_with_moments(latent[t][s][f], _turns(model, t, before), n)
    terms = tuple(replace(one, sides=tuple(map(tuple, sides))) for one, sides in zip(model.latent, latent, strict=True))
    return replace(model, groups=tuple(groups), latent=terms)


def _turns(model: Model, term: int, before: Mapping[Merged, int]) -> FloatArray:
    """Rotations that make each draw of a term's vectors agree with the vectors that the fit reports (Procrustes)."""
    counts = {place: n for factor, n in before.items() for place in factor.fields}
    cross = 0.0
    for s, side in enumerate(model.latent[term].sides):
        for f, field in enumerate(side):
            n = counts.get((term, s, f), len(field.levels))
            cross = cross + np.einsum("dlk,lm->dkm", _draws(model, (term, s, f)).vectors[:, :n], field.vectors[:n])
    left, _, right = np.linalg.svd(np.asarray(cross, np.float64))
    return np.asarray(left @ right)


def _field_with_moments(field: FieldModel, turns: FloatArray, before: int) -> FieldModel:
    if field.draws is None:
        return field
    turned = np.matmul(field.draws.vectors[:, before:].astype(np.float64), turns)
    vectors, spread = field.vectors.copy(), field.spread.copy()
    vectors[before:] = turned.mean(axis=0)
    away = turned - vectors[before:]
    k = turned.shape[2]
    i, j = (np.arange(k), np.arange(k)) if spread.shape[1] == k else np.tril_indices(k)
    spread[before:] = np.mean(away[:, :, i] * away[:, :, j], axis=0)
    return replace(field, vectors=vectors, spread=spread)
