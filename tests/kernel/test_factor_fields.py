"""Levels that share units are updated one after the other from the units' sums, as by dense matrices."""

from __future__ import annotations

import numpy as np
import pytest

from ranef.kernel import factor_fields
from ranef.kernel.blocks import BLOCK


def stored(grams):
    """Lower triangles by rows, each filled up to whole blocks."""
    units, d, _ = grams.shape
    out = np.zeros((units, factor_fields.blocks_of(d), BLOCK), np.float32)
    at = 0
    for i in range(d):
        blocks = i // BLOCK + 1
        row = np.zeros((units, blocks * BLOCK), np.float32)
        row[:, : i + 1] = grams[:, i, : i + 1]
        out[:, at : at + blocks] = row.reshape(units, blocks, BLOCK)
        at += blocks
    return out


@pytest.mark.parametrize("columns", [np.arange(11), np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 10])])
def test_update_is_a_dense_one(columns):
    rng = np.random.default_rng(3)
    units, levels, d, k, scale = 150, 6, 11, 9, 1.7
    z = rng.standard_normal((units, 20, d)).astype(np.float32)
    grams, scores = np.einsum("uni,unj->uij", z, z), 10 * rng.standard_normal((units, d))
    # levels of many units and of few, not whole numbers of blocks; one of none
    chosen = [np.flatnonzero(rng.random(units) < share) for share in (0.9, 0.5, 0.02, 0.0, 0.3, 1.0)]
    pointers = np.concatenate([[0], np.cumsum([len(of) for of in chosen])])
    weights = rng.uniform(0.2, 1.0, pointers[-1])
    own = len(columns)
    precision = np.eye(own) + 0.1
    mean, noise = 0.3 * rng.standard_normal(own), rng.standard_normal((levels, own))
    vectors = rng.standard_normal((levels, k)).astype(np.float32)
    effects = rng.standard_normal((levels, own - k))
    start = np.column_stack([vectors, effects])
    moved = np.zeros((units, 2, BLOCK), np.float32)
    none = np.zeros((0, own - k, own - k))
    arguments = pointers, np.concatenate(chosen).astype(np.int32), weights, columns, stored(grams), scores.copy(), moved
    empty = np.zeros((levels, 0), np.float32)
    assert (
        factor_fields.update_field(
            0, levels, *arguments, scale, precision, mean, noise, vectors, effects, empty, none, np.zeros((0, 3))
        )
        == 0
    )
    place = np.ix_(columns, columns)
    total = np.zeros((units, d))
    for g, (of, w) in enumerate(zip(chosen, np.split(weights, pointers[1:-1]), strict=True)):
        a = precision + scale * np.einsum("u,uij->ij", w**2, grams[of])[place]
        score = np.einsum("u,ui->i", w, scores[of])[columns]
        change = np.linalg.solve(a, scale * score - precision @ (start[g] - mean))
        change += np.linalg.solve(np.linalg.cholesky(a).T, noise[g])
        np.testing.assert_allclose(np.append(vectors[g], effects[g]), start[g] + change, rtol=1e-4, atol=1e-4)
        step = np.zeros((len(of), d))
        step[:, columns] = w[:, None] * change
        total[of] += step
        scores[of] -= np.einsum("uij,uj->ui", grams[of], step)
    np.testing.assert_allclose(moved.reshape(units, -1)[:, :d], total, rtol=1e-4, atol=1e-4)
