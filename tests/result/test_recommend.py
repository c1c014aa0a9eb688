"""`Fit.recommend` against predictions of every pair."""

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

import ranef
from ranef.errors import OptionError, UnknownLevelWarning

FORMULA = "y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank = 2)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(4)
    user, item = rng.integers(0, 25, 400), rng.integers(0, 15, 400)
    y = rng.normal(size=25)[user] + rng.normal(size=15)[item]
    y += np.sum(rng.normal(size=(25, 2))[user] * rng.normal(size=(15, 2))[item], axis=1)
    return pl.DataFrame({"y": y + 0.3 * rng.normal(size=400), "user": user * 10, "item": [f"i{i:02d}" for i in item]})


@pytest.fixture(scope="module")
def fit(data):
    return ranef.fit(FORMULA, data, tolerance=1e-4)


def grid(data, users=None):
    pairs = data.select("user").unique().join(data.select("item").unique(), how="cross")
    return pairs if users is None else pairs.filter(pl.col("user").is_in(users))


def best(fit, pairs, k):
    scored = pairs.with_columns(score=fit.predict(pairs, type="link"))
    return scored.sort(["user", "score"], descending=[False, True]).group_by("user", maintain_order=True).head(k)


def test_all_users_get_their_best(fit, data):
    found = fit.recommend(k=4)
    want = best(fit, grid(data), 4)
    assert found.columns == ["user", "rank", "item", "score", "known_user", "known_item"]
    assert found["user"].to_list() == want["user"].to_list()
    assert found["item"].to_list() == want["item"].to_list()
    assert_allclose(found["score"], want["score"], rtol=1e-10)
    assert found["rank"].to_list() == [1, 2, 3, 4] * 25
    assert found["known_user"].all()


def test_seen_pairs_are_left_out_before_the_list_is_cut(fit, data):
    new = grid(data).join(data, on=["user", "item"], how="anti")
    want = best(fit, new, 5)
    for exclude in ("seen", data.select("user", "item")):
        found = fit.recommend(k=5, exclude=exclude)
        assert found["item"].to_list() == want["item"].to_list()
    # fewer than k are left for some
    everything = fit.recommend(k=15, exclude="seen")
    assert len(everything) == len(new)


def test_candidates_and_denied_items(fit, data):
    pairs = grid(data, [30, 10])
    some = ["i03", "i01", "i07", "i09"]
    want = best(fit, pairs.filter(pl.col("item").is_in(some[:3])), 2)
    found = fit.recommend([10, 30], k=2, among=some, deny="i09")
    assert found["item"].to_list() == want["item"].to_list()
    with pytest.warns(UnknownLevelWarning, match="among has 1 value that no 'item' is"):
        assert len(fit.recommend(10, among=["i01", "xx"])) == 1
    assert len(fit.recommend(10, among=["i01"], deny=["i01"])) == 0


def test_a_user_that_is_not_known_and_one_that_has_seen_something(fit, data):
    found = fit.recommend([7, 10, 7], k=3, exclude={"user": [7], "item": ["i00"]})
    assert found["user"].to_list() == [7] * 3 + [10] * 3 + [7] * 3
    assert found["known_user"].to_list() == [False] * 3 + [True] * 3 + [False] * 3
    assert "i00" not in found.filter(pl.col("user") == 7)["item"].to_list()
    with pytest.warns(UnknownLevelWarning):
        unknown = fit.predict({"user": [7], "item": [found["item"][0]]}, type="link")
    assert_allclose(found["score"][0], unknown[0], rtol=1e-10)


def test_the_other_way_round(fit, data):
    found = fit.recommend("i03", k=3, entity="item")
    scores = grid(data).filter(pl.col("item") == "i03")
    scores = scores.with_columns(score=fit.predict(scores, type="link")).sort("score", descending=True)
    assert found["user"].to_list() == scores["user"].to_list()[:3]


def test_loaded_and_wrong(fit, data, tmp_path):
    fit.save(tmp_path / "model")
    loaded = ranef.load(tmp_path / "model")
    got, want = loaded.recommend(k=3), fit.recommend(k=3)
    assert np.asarray(got["item"]).tolist() == want["item"].to_list()
    with pytest.raises(OptionError, match="k=0"):
        fit.recommend(k=0)
    with pytest.raises(OptionError, match="users: number 1 is missing"):
        fit.recommend([10, None])
    with pytest.raises(OptionError, match="does not know the pairs"):
        loaded.recommend(exclude="seen")
