"""``ranef recommend`` beside `Fit.recommend`."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

import ranef
from ranef.cli import main
from ranef.result import recommend


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(7)
    user, item = rng.integers(0, 40, 500), rng.integers(0, 12, 500)
    y = rng.normal(size=40)[user] + rng.normal(size=12)[item] + 0.1 * rng.normal(size=500)
    return pl.DataFrame({"y": y, "user": user + 100, "item": [f"i{i:02d}" for i in item]})


@pytest.fixture(scope="module")
def saved(data, tmp_path_factory):
    fit = ranef.fit("y ~ 1 + (1 | user) + (1 | item)", data)
    path = tmp_path_factory.mktemp("recommend")
    fit.save(path / "model", seen=True)
    data.write_parquet(path / "pairs.parquet")
    return fit, path


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_all_users_to_a_file_batch_by_batch(saved, suffix, monkeypatch, capsys):
    fit, path = saved
    want = fit.recommend(k=3, exclude="seen")
    monkeypatch.setattr(recommend, "ENTITIES", 16)
    out = path / f"recs.{suffix}"
    assert main(["recommend", str(path / "model"), "--all", "-k", "3", "--exclude", "seen", "--out", str(out)]) == 0
    got = pl.read_parquet(out) if suffix == "parquet" else pl.read_csv(out)
    assert got["user"].to_list() == want["user"].to_list()
    assert got["item"].to_list() == want["item"].to_list()
    assert "users a second" in capsys.readouterr().err
    assert [one.name for one in path.glob(".*partial")] == []


def test_users_by_name_as_json_and_csv(saved, capsys):
    fit, path = saved
    words = ["recommend", str(path / "model"), "--user", "105", "-k", "2", "--exclude", str(path / "pairs.parquet")]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["recommendations"]
    want = fit.recommend([105], k=2, exclude="seen")
    assert [row["item"] for row in found] == want["item"].to_list()
    assert found[0]["user"] == 105
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].replace('"', "") == "user,rank,item,score,known_user,known_item"
    assert len(lines) == 3


def test_says_what_is_missing(saved, capsys):
    _, path = saved
    assert main(["recommend", str(path / "model")]) == 2
    assert "say for whom" in capsys.readouterr().err
    assert main(["recommend", str(path / "model"), "--all", "--context", "hour"]) == 2
    assert "COLUMN=VALUE" in capsys.readouterr().err
    assert main(["recommend", str(path / "model"), "--all", "--context", "hour=8"]) == 2
    assert "the model reads item, user" in capsys.readouterr().err


def test_rank_orders_the_items_that_are_given(saved):
    fit, _ = saved
    items = ["i05", "i01", "i09"]
    found = fit.rank(103, items)
    scores = fit.predict({"user": [103] * 3, "item": items})
    assert found["item"].to_list() == [items[place] for place in np.argsort(-scores)]
