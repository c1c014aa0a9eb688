"""Sweeps over latent terms, against the variational bound written out row by row from its definition."""

from __future__ import annotations

import numpy as np
import pytest

from ranef.design.build import build_design
from ranef.engine.threads import engine
from ranef.formula import parse
from ranef.kernel.factor_variance import row_variances
from ranef.learn.factor.priors import log_prior_gap, unpack
from ranef.solve.sides import make_sides
from ranef.solve.sweeps import (
    Parameters,
    empty_state,
    refresh_units,
    sweep,
    unit_coefficients,
    update_side,
)
from ranef.table import open_source

ROWS = 150
MODELS = {
    "two factors": "y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank=3)",
    "slopes": "y ~ x + (1 + x | user) + latent(user, item, rank=2)",
    "attributes": "y ~ 1 + (1 | user) + (1 | job) + latent(user + job, item + bag(genres), rank=2)",
    "history": "y ~ 1 + (1 | item) + latent(user + bag(history(item)), item, rank=2)",
    "three sides": "y ~ 1 + (1 | user) + fm(user, item, job, rank=2)",
    "walk": "y ~ 1 + (1 | job) + latent(user, rw(week), rank=2)",
    "two terms": "y ~ x + (1 | user) + latent(user, item, rank=2) + latent(user, job, rank=1)",
    "slopes of a bag": "y ~ 1 + (0 + x | bag(genres)) + latent(item, user, rank=2)",
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    user, item = rng.integers(0, 12, ROWS), rng.integers(0, 9, ROWS)
    genres = np.array(["a|b", "a", "b|c", "c", "a|c|d", "d", "b", "a|d", "c|d"])
    return {
        "y": rng.standard_normal(ROWS) + 0.5 * rng.standard_normal(12)[user],
        "x": rng.standard_normal(ROWS),
        "user": user,
        "item": item,
        "job": np.array(list("pqr"))[user % 3],
        "genres": genres[item],
        "week": rng.integers(0, 7, ROWS),
        "w": rng.uniform(0.5, 2.0, ROWS),
    }


def start(data, name, spread, weighted=False, threads=1):
    """State with random coefficients, parameters that are not diagonal, and the design."""
    with engine(threads) as pool:
        design = build_design(parse(MODELS[name]), open_source(data), kind="number", weights="w" if weighted else None)
        ranks = [term.rank for term in design.latent]
        sides = make_sides(design, [group.covariates for group in design.groups], ranks)
        weights = np.ones(1) if design.weights is None else np.array(design.weights)
        width = {"none": [0] * len(ranks), "diagonal": ranks, "full": [k * (k + 1) // 2 for k in ranks]}[spread]
        moments = None if spread == "none" else tuple(width)
        state = empty_state(sides, np.array(design.x), weights, np.array(design.y), widths=moments)
        rng, spreads = np.random.default_rng(4), np.random.default_rng(6)
        covariances = []
        for number, members in enumerate(state.coefficients):
            of = []
            for own in members:
                own.vectors[:] = rng.standard_normal(own.vectors.shape)
                own.effects[:] = rng.standard_normal(own.effects.shape)
                k, kx = own.vectors.shape[1], own.effects.shape[1]
                covariance = np.zeros((k + kx, k + kx))
                for block in (slice(0, k), slice(k, k + kx)):
                    half = rng.standard_normal((block.stop - block.start,) * 2)
                    covariance[block, block] = half @ half.T + np.eye(len(half))
                of.append(covariance)
                if own.spread.shape[1]:
                    own.spread[:] = 0.0
                    diagonal = np.eye(k) if own.spread.shape[1] != k else np.ones((k, k))
                    own.spread[:] = diagonal[np.tril_indices(k)] if own.spread.shape[1] != k else 1.0
                    own.spread[:] *= spreads.uniform(0.1, 0.5, (len(own.spread), 1))
            covariances.append(tuple(of))
            refresh_units(state, number, pool)
        state.beta[:] = rng.standard_normal(len(state.beta))
        state.residual[:] = design.y - dense(design, state)[0]
        return design, state, Parameters(0.7, tuple(covariances))


def codes_of(side):
    codes = np.empty(len(side.order), np.int64)
    codes[side.order] = np.repeat(np.arange(side.units), np.diff(side.pointers))
    return codes


def dense(design, state):
    """Mean and variance of every row's linear predictor, from the members' levels."""
    rows = len(design.y)
    mean, variance = np.array(design.x) @ state.beta, np.zeros(rows)
    of_terms = [[] for _ in state.sides.terms]
    for side, members in zip(state.sides.sides, state.coefficients, strict=True):
        code = codes_of(side)
        k = 0 if side.term is None else state.sides.terms[side.term].rank
        z, v = np.zeros((rows, k)), np.zeros((rows, k, k))
        at = 0
        for member, own in zip(side.members, members, strict=True):
            weight = np.zeros((side.units, member.levels))
            for u in range(side.units):
                for m in range(member.start[u], member.start[u + 1]):
                    weight[u, member.level[m]] = member.weight[m]
            z += (weight @ own.vectors)[code]
            v += np.einsum("ul,lab->uab", weight**2, unpack(own.spread.astype(float), k))[code]
            kx = own.effects.shape[1]
            x = np.broadcast_to(side.covariates[:, at : at + kx], (rows, kx))
            at += kx
            mean += np.sum(x * (weight @ own.effects)[code], axis=1)
            if len(own.extra):
                variance += np.einsum("na,nab,nb->n", x, np.einsum("ul,lab->uab", weight**2, own.extra)[code], x)
        if side.term is not None:
            of_terms[side.term].append((z, v))
    for sides in of_terms:
        for s, (z, v) in enumerate(sides):
            others = np.sum([other for t, (other, _) in enumerate(sides) if t != s], axis=0)
            variance += np.einsum("na,nab,nb->n", others, v, others)
            for other, spread in sides[:s]:
                mean += np.sum(z * other, axis=1)
                variance += np.einsum("nab,nab->n", v, spread)
    return mean, variance


def bound(design, state, parameters):
    """The variational bound, but for constants and the fixed effects' own variance."""
    mean, variance = dense(design, state)
    weights = np.ones(len(mean)) if design.weights is None else np.array(design.weights)
    total = -0.5 * np.sum(weights * ((design.y - mean) ** 2 + variance)) / parameters.sigma2
    for members, covariances in zip(state.coefficients, parameters.covariances, strict=True):
        for own, covariance in zip(members, covariances, strict=True):
            k = own.vectors.shape[1]
            precision = np.linalg.inv(covariance)
            both = np.column_stack([own.vectors, own.effects])
            total -= 0.5 * np.einsum("la,ab,lb->", both, precision, both)
            if not len(own.extra):
                continue
            spread = unpack(own.spread.astype(float), k)
            for cov, p in ((spread, precision[:k, :k]), (own.extra, precision[k:, k:])):
                if cov.shape[-1]:
                    total -= 0.5 * np.sum(cov * p)
                    total += 0.5 * np.linalg.slogdet(cov)[1].sum()
    return total


@pytest.mark.parametrize("spread", ["none", "diagonal", "full"])
@pytest.mark.parametrize("name", MODELS)
def test_no_update_lowers_the_bound_and_residuals_follow(data, name, spread):
    design, state, parameters = start(data, name, spread, weighted=name in ("slopes", "three sides"))
    with engine(1) as pool:
        if spread != "none":
            # moments of effects, before the first comparison
            sweep(state, parameters, pool)
        before = bound(design, state, parameters)
        for _ in range(2):
            for number in range(len(state.sides.sides)):
                update_side(state, number, parameters, pool)
                now = bound(design, state, parameters)
                assert now > before - 1e-4
                before = now
    np.testing.assert_allclose(state.residual, design.y - dense(design, state)[0], atol=2e-5)


@pytest.mark.parametrize("spread", ["none", "diagonal", "full"])
@pytest.mark.parametrize("name", MODELS)
def test_updated_levels_are_at_the_maximum(data, name, spread):
    design, state, parameters = start(data, name, spread, weighted=name in ("slopes", "two terms"))
    rng = np.random.default_rng(8)
    with engine(1) as pool:
        sweep(state, parameters, pool)
        for number, side in enumerate(state.sides.sides):
            update_side(state, number, parameters, pool)
            # of members that take turns, the last level of the last one moved last
            own = state.coefficients[number][-1]
            levels = np.arange(side.members[-1].levels)[slice(None) if side.alone else slice(-1, None)]
            arrays = [own.vectors, own.effects, *([own.spread, own.extra] if len(own.extra) else [])]
            for array in arrays:
                if not array.size:
                    continue
                direction = np.zeros(array.shape)
                size = 0.01 if array is own.vectors or array is own.effects else 3e-4
                direction[levels] = size * rng.standard_normal((len(levels), *array.shape[1:]))
                if array.ndim == 3:
                    direction += direction.transpose(0, 2, 1)
                kept, values = array.copy(), []
                for sign in (-1, 0, 1):
                    array[:] = kept + sign * direction
                    if not side.alone:
                        refresh_units(state, number, pool)
                    values.append(bound(design, state, parameters))
                array[:] = kept
                refresh_units(state, number, pool)
                slope, curvature = (values[2] - values[0]) / 2, values[0] + values[2] - 2 * values[1]
                assert curvature < 0
                # a step along the slope would gain next to nothing
                assert slope**2 < 1e-3 * -curvature


@pytest.mark.parametrize("spread", ["diagonal", "full"])
@pytest.mark.parametrize("name", ["two factors", "slopes", "attributes", "history", "three sides", "walk", "two terms"])
def test_what_uncertainty_adds_to_the_squares(data, name, spread):
    design, state, parameters = start(data, name, spread, weighted=name == "slopes")
    with engine(1) as pool:
        for _ in range(2):
            added = sweep(state, parameters, pool)
    weights = np.ones(ROWS) if design.weights is None else np.array(design.weights)
    expected = np.sum(weights * dense(design, state)[1]) + len(state.beta) * parameters.sigma2
    np.testing.assert_allclose(added, expected, rtol=2e-5)


@pytest.mark.parametrize("spread", ["diagonal", "full"])
@pytest.mark.parametrize("name", ["two factors", "three sides"])
def test_variances_of_rows(data, name, spread):
    design, state, _ = start(data, name, spread)
    out = np.zeros(ROWS)
    row_variances(0, ROWS, state.sides.terms[0].partners, state.vectors[0], state.spreads[0], out)
    for members in state.coefficients:
        for own in members:
            own.extra[:] = 0.0
    np.testing.assert_allclose(out, dense(design, state)[1], rtol=1e-5)
    # and the formula itself, by simulation
    n, rng = 5, np.random.default_rng(1)
    units = state.sides.terms[0].partners[n]
    k = state.vectors[0].shape[1]
    drawn = [
        rng.multivariate_normal(state.vectors[0][u], unpack(state.spreads[0][u].astype(float), k), 200_000)
        for u in units
    ]
    value = sum(np.sum(drawn[s] * drawn[t], axis=1) for s in range(len(units)) for t in range(s))
    np.testing.assert_allclose(out[n], value.var(), rtol=0.02)


@pytest.mark.parametrize("name", ["attributes", "three sides"])
def test_any_number_of_threads_gives_the_same_bits(data, name, monkeypatch):
    monkeypatch.setattr("ranef.solve.order.ROWS_A_PARTITION", 10)
    states = []
    for threads in (1, 3):
        _, state, parameters = start(data, name, "full", threads=threads)
        with engine(threads) as pool:
            for _ in range(3):
                sweep(state, parameters, pool)
        states.append(state)
    assert len(states[0].sides.sides[0].partitions) > 1
    for one, two in zip(states[0].vectors + states[0].spreads, states[1].vectors + states[1].spreads, strict=True):
        assert np.array_equal(one, two)
    assert np.array_equal(states[0].residual, states[1].residual)


@pytest.mark.parametrize("name", ["two factors", "slopes"])
def test_draws_have_the_conditional_distribution(data, name):
    _, state, parameters = start(data, name, "none")
    _, certain, _ = start(data, name, "full")
    certain.spreads[0][:] = 0.0
    number, draws = len(state.sides.sides) - 1, 4000
    own, moments = state.coefficients[number][0], certain.coefficients[number][0]
    rng = np.random.default_rng(5)
    with engine(1) as pool:
        update_side(certain, number, parameters, pool)
        drawn = np.empty((draws, *own.vectors.shape))
        for d in range(draws):
            update_side(state, number, parameters, pool, lambda _, shape: rng.standard_normal(shape))
            drawn[d] = own.vectors
    k = own.vectors.shape[1]
    spread = unpack(moments.spread.astype(float), k)
    # a vector without effects beside it: its conditional distribution is the posterior's factor
    if not own.effects.shape[1]:
        root = np.sqrt(np.einsum("lkk->lk", spread))
        np.testing.assert_allclose(drawn.mean(axis=0), moments.vectors, atol=5 * root.max() / np.sqrt(draws))
        for g in range(len(spread)):
            np.testing.assert_allclose(np.cov(drawn[:, g].T), spread[g], atol=0.15 * spread[g].max())
    else:
        np.testing.assert_allclose(drawn.mean(axis=0), moments.vectors, atol=0.15)


def test_the_prior_part_of_the_bound(data):
    design, state, parameters = start(data, "attributes", "full")
    with engine(1) as pool:
        sweep(state, parameters, pool)
    mean, variance = dense(design, state)
    rows = -0.5 * np.sum((design.y - mean) ** 2 + variance) / parameters.sigma2
    constant = sum(
        0.5 * member.levels * (len(member.columns) - np.linalg.slogdet(covariance)[1])
        for side, covariances in zip(state.sides.sides, parameters.covariances, strict=True)
        for member, covariance in zip(side.members, covariances, strict=True)
    )
    np.testing.assert_allclose(log_prior_gap(state, parameters), bound(design, state, parameters) - rows + constant)


def test_units_are_combinations_of_levels(data):
    _, state, _ = start(data, "attributes", "none")
    users, items = (side for side in state.sides.sides if side.term is not None)
    assert (users.units, items.units) == (12, 9)
    assert [member.name for member in users.members] == ["user", "job"]
    # intercepts of user and of job stand behind the two numbers of the vector
    assert [list(member.columns) for member in users.members] == [[0, 1, 2], [0, 1, 3]]
    with engine(1) as pool:
        assert unit_coefficients(state, state.sides.sides.index(users), pool).shape == (12, 4)
