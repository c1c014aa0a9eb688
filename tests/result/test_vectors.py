"""The vectors of latent terms: tables, principal axes, neighbours, analogies."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.errors import LevelError, OptionError
from ranef.result.embedding import Embedding, nearest_levels, principal_axes
from ranef.table import Levels, from_numpy

USERS, ITEMS, ROWS = 60, 30, 2500
FORMULA = "y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank=2)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    user, item = rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS)
    p = rng.standard_normal((USERS, 2))
    p = (p - p.mean(0)) * [1.0, 0.7]
    # one long tail an axis, so that its sign is no accident
    q = rng.exponential(1.0, (ITEMS, 2)) * [1.0, -0.7]
    eta = 3 + 0.4 * rng.standard_normal(USERS)[user] + 0.6 * rng.standard_normal(ITEMS)[item]
    eta += np.sum(p[user] * q[item], axis=1)
    return {
        "y": eta + 0.4 * rng.standard_normal(ROWS),
        "user": np.char.add("u", user.astype(str)),
        "item": item,
        "kind": np.array(list("abc"))[item % 3],
    }


@pytest.fixture(scope="module")
def fit(data):
    return ranef.fit(FORMULA, data, tolerance=1e-3)


@pytest.fixture(scope="module")
def implicit(data):
    return ranef.fit("1 ~ latent(user, item, rank=3)", data, family="implicit", unobserved=0.2, penalty=0.02)


def vectors(table, name="1"):
    return np.column_stack([table[str(c + 1)] for c in range(sum(key.isdigit() for key in table))])


def test_products_of_embeddings_are_the_latent_part(fit, data):
    users, items = fit.embedding("user", sd=True), fit.embedding("item")
    assert list(users) == ["level", "1", "2", "sd_1", "sd_2"]
    p = vectors(users)[np.searchsorted(users["level"].astype(str), data["user"])]
    q = vectors(items)[data["item"]]
    np.testing.assert_allclose(fit.predict(data, include="latent"), np.sum(p * q, axis=1), rtol=1e-5, atol=1e-6)
    # a user's intercept and vector have about as many rows as numbers
    assert np.all((users["sd_1"] > 0) & (users["sd_1"] < np.std(users["1"])))


def test_standard_deviations_are_those_of_the_packed_covariances(fit):
    field = fit.model.latent[0].sides[0][0]
    assert field.spread.shape[1] == 3
    np.testing.assert_allclose(fit.embedding("user", sd=True)["sd_2"] ** 2, field.spread[:, 2], rtol=1e-6)


@pytest.mark.parametrize("which", ["fit", "implicit"])
def test_axes_are_the_principal_components_of_the_products(which, request):
    fit = request.getfixturevalue(which)
    p, q = vectors(fit.embedding("user")), vectors(fit.embedding("item"))
    products = (q - q.mean(0)) @ (p - p.mean(0)).T
    left, sizes, _ = np.linalg.svd(products, full_matrices=False)
    rank = p.shape[1]
    table = fit.axes("item", n=ITEMS)
    share = np.array([table["share"][table["axis"] == a + 1][0] for a in range(rank)])
    np.testing.assert_allclose(share, sizes[:rank] ** 2 / np.sum(sizes**2), rtol=1e-6)
    for a in range(rank):
        own = (table["axis"] == a + 1) & (table["end"] == "high")
        scores = np.zeros(ITEMS)
        scores[table["level"][own]] = table["score"][own]
        wanted = left[:, a] * sizes[a] / np.sqrt(len(p))
        np.testing.assert_allclose(np.abs(scores), np.abs(wanted), rtol=1e-6, atol=1e-8)
        assert np.sum(scores**3) > 0
        assert np.all(np.diff(table["score"][own]) <= 0)


def test_axes_have_the_same_signs_and_ends_whatever_the_seed(fit, data):
    again = ranef.fit(FORMULA, data, tolerance=1e-3, seed=7)
    one, two = fit.axes("item", n=2), again.axes("item", n=2)
    np.testing.assert_array_equal(one["level"], two["level"])
    np.testing.assert_allclose(one["score"], two["score"], atol=0.02 * np.ptp(one["score"]))


def test_axes_do_not_depend_on_the_coordinates(fit):
    rng = np.random.default_rng(0)
    vectors, partner = rng.standard_normal((20, 3)), np.diag([3.0, 2.0, 1.0])
    turn = rng.standard_normal((3, 3))
    levels = Levels(from_numpy(np.arange(20)))
    back = np.linalg.inv(turn)
    one = principal_axes(Embedding("g", levels, vectors, None, partner))
    two = principal_axes(Embedding("g", levels, vectors @ turn, None, back @ partner @ back.T))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("which", ["fit", "implicit"])
def test_similar_levels_have_the_largest_cosines(which, request):
    fit = request.getfixturevalue(which)
    q = vectors(fit.embedding("item")).astype(float)
    q /= np.linalg.norm(q, axis=1)[:, None]
    found = fit.similar("item", 4, k=5)
    cosine = q @ q[4]
    cosine[4] = -np.inf
    np.testing.assert_array_equal(found["level"], np.argsort(-cosine)[:5])
    np.testing.assert_allclose(found["cosine"], np.sort(cosine)[::-1][:5], rtol=1e-6)
    # as many as there are
    assert len(fit.similar("item", 4, k=1000)["level"]) == ITEMS - 1


def test_analogies_of_a_parallelogram(fit):
    # what 1 has more than 0 is what 3 has more than 2
    own = np.array([[1.0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0.7, 1], [-1, 0, 0]])
    levels = Levels(from_numpy(np.arange(5)))
    unit = own / np.linalg.norm(own, axis=1)[:, None]
    embedding = Embedding("g", levels, own, None, np.eye(3))
    found = nearest_levels(embedding, unit[1] - unit[0] + unit[2], 1, [0, 1, 2], None)
    assert found["level"].to_pylist() == [3]
    items = fit.analogy("item", 1, 2, 3, k=4)
    assert not set(items["level"]) & {1, 2, 3}
    q = vectors(fit.embedding("item"))
    q = q / np.linalg.norm(q, axis=1)[:, None]
    way = q[2] - q[1] + q[3]
    np.testing.assert_allclose(items["cosine"], q[items["level"]] @ way / np.linalg.norm(way), rtol=1e-6)


def test_names_stand_beside_the_levels(fit, implicit):
    names = {"item": np.arange(ITEMS - 1), "title": np.array([f"film {i}" for i in range(ITEMS - 1)])}
    for one in (fit, implicit):
        for table in (one.axes("item", names=names), one.similar("item", 0, names=names, k=ITEMS)):
            wanted = [f"film {i}" if i < ITEMS - 1 else None for i in table["level"]]
            assert list(table["title"]) == wanted
    with pytest.raises(OptionError, match="two columns, 'item' and what"):
        fit.axes("item", names={"title": np.array(["a"])})


def test_a_loaded_fit_says_the_same(fit, implicit, tmp_path):
    for number, one in enumerate((fit, implicit)):
        one.save(tmp_path / str(number))
        again = ranef.load(tmp_path / str(number))
        for ask in (
            lambda f: f.axes("user", n=1),
            lambda f: f.similar("item", 3),
            lambda f: f.analogy("item", 1, 2, 3),
        ):
            first, second = ask(one), ask(again)
            for name in first:
                np.testing.assert_array_equal(np.asarray(second[name]), np.asarray(first[name]))


def test_factors_of_several_terms_and_bags(data):
    formula = "y ~ 1 + latent(user, item + kind, rank=1) + latent(user, kind, rank=1)"
    fit = ranef.fit(formula, data, tolerance=1e-2)
    assert list(fit.embedding("item")) == ["level", "1"]
    with pytest.raises(OptionError, match="'kind' has vectors in several terms"):
        fit.embedding("kind")
    table = fit.embedding("kind", term="latent(user, kind, rank=1)")
    np.testing.assert_array_equal(table["level"], ["a", "b", "c"])


def test_what_is_not_there_is_an_error(fit, implicit, data):
    with pytest.raises(OptionError, match="did you mean 'item'"):
        fit.embedding("itme")
    with pytest.raises(OptionError, match="is no latent term"):
        fit.embedding("item", term="(1 | item)")
    with pytest.raises(LevelError, match="did you mean 'u7'"):
        fit.similar("user", "U7")
    with pytest.raises(LevelError, match="99 is not a level"):
        fit.similar("item", 99)
    with pytest.raises(OptionError, match="one value"):
        fit.similar("item", object())
    with pytest.raises(OptionError, match="whole number"):
        fit.axes("item", n=0)
    with pytest.raises(OptionError, match="no standard deviations"):
        implicit.embedding("item", sd=True)
    with pytest.raises(OptionError, match="there are 'user', 'item'"):
        implicit.axes("film")
    additive = ranef.fit("y ~ 1 + (1 | item)", data)
    with pytest.raises(OptionError, match="no latent"):
        additive.axes("item")


def test_effects_merged_with_vectors_keep_their_standard_deviations(fit):
    table = fit.ranef("user", sd=True)
    assert np.all(table["sd_(Intercept)"] > 0)
    assert len(fit.coef("item")["level"]) == ITEMS
