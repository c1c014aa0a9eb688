"""Fits of implicit feedback as recommenders, and on the command line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import ranef
from ranef.cli import main
from ranef.evaluate import evaluate_fit, evaluate_ranking, ranking_data, split_strong

METRICS = ["ndcg@10", "recall@5"]


@pytest.fixture(scope="module")
def split():
    random = np.random.default_rng(5)
    user_group, item_group = random.integers(0, 3, 120), random.integers(0, 3, 40)
    user, item = np.nonzero(random.random((120, 40)) < np.where(user_group[:, None] == item_group, 0.5, 0.05))
    return split_strong(pd.DataFrame({"user": user, "item": item + 100}), "user", "item", test=30, seed=1)


def fitted(pairs):
    return ranef.fit("1 ~ latent(user, item, rank=3)", pairs, family="implicit", unobserved=0.2, penalty=0.02)


def test_test_users_are_folded_in(split):
    fit = fitted(split.train)
    data = ranking_data(split.train, split.test, "user", "item", split.fold_in)
    found = evaluate_ranking(fit, data, metrics=METRICS)
    # the same by the fit's own words
    known = fit.fold_in(split.fold_in)
    grid = pd.DataFrame({"user": np.repeat(data.users, len(data.items)), "item": np.tile(data.items, len(data.users))})
    by_hand = evaluate_ranking(known.predict(grid).reshape(data.test.shape), data, metrics=METRICS)
    assert [row["estimate"] for row in found.records()] == pytest.approx([row["estimate"] for row in by_hand.records()])
    assert found.difference("ndcg@10", "popularity", "model").upper < 0


def test_items_are_matched_by_value(split):
    fit = fitted(split.train)
    data = ranking_data(split.train, split.test, "user", "item", split.fold_in)
    order = np.random.default_rng(2).permutation(len(data.items))
    parts = (sparse.csr_array(part[:, order]) for part in (data.train, data.seen, data.test))
    mixed = ranef.evaluate.RankingData(*parts, data.users, data.items[order], 0)
    one, other = (evaluate_ranking(fit, each, metrics=METRICS).records() for each in (data, mixed))
    assert [row["estimate"] for row in one] == pytest.approx([row["estimate"] for row in other])


def test_an_item_that_the_fit_lacks_is_never_listed(split):
    few = split.train[split.train["item"] < 130]
    data = ranking_data(split.train, split.test, "user", "item", split.fold_in)
    found = evaluate_ranking(fitted(few), data, metrics="coverage@40", baselines=())
    assert found.estimate("coverage@40").value == pytest.approx(np.mean(data.items < 130))


def test_fits_that_are_of_the_other_kind(split):
    fit = fitted(split.train)
    with pytest.raises(ranef.OptionError, match="evaluate_ranking"):
        evaluate_fit(fit, split.test)
    data = ranking_data(split.train, split.test, "user", "item", split.fold_in)
    responses = ranef.fit("y ~ 1 + (1 | item)", split.train.assign(y=split.train["item"] % 7 + split.train["user"] % 2))
    with pytest.raises(ranef.OptionError, match="fit_scores"):
        evaluate_ranking(responses, data)


def test_command_line(split, tmp_path, capsys):
    fitted(split.train).save(tmp_path / "model")
    words = {}
    for name in ("train", "fold_in", "test"):
        words[name] = str(tmp_path / f"{name}.parquet")
        getattr(split, name).to_parquet(words[name])
    command = ["evaluate", str(tmp_path / "model"), words["test"]]
    assert main(command) == 2
    assert "--train" in capsys.readouterr().err
    more = ["--train", words["train"], "--fold-in", words["fold_in"], "--metric", "ndcg@10", "--metric", "recall@5"]
    assert main([*command, *more]) == 0
    assert "Full rankings" in capsys.readouterr().out
    assert main([*command, *more, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    data = ranking_data(split.train, split.test, "user", "item", split.fold_in)
    assert said["metrics"] == evaluate_ranking(fitted(split.train), data, metrics=METRICS).records()
    assert (said["family"], said["by"], said["calibration"]) == ("implicit", "users", {})
    responses = ranef.fit("y ~ 1 + (1 | item)", split.train.assign(y=split.train["item"] % 7 + split.train["user"] % 2))
    responses.save(tmp_path / "responses")
    assert main([*command, *more, "--other", str(tmp_path / "responses")]) == 2
    assert "no model of implicit feedback" in capsys.readouterr().err
    assert main([*command, *more, "--clip", "1,5"]) == 2
    assert "for responses" in capsys.readouterr().err
