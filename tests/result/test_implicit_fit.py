"""`ranef.fit(..., family="implicit")` and what its fit answers."""

import json

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import ranef
from ranef.cli import main
from ranef.errors import (
    ConvergenceWarning,
    DataError,
    DroppedRowsWarning,
    FormulaError,
    LevelError,
    ModelFileError,
    OptionError,
    UnknownLevelWarning,
)
from ranef.learn.implicit import fit as learning

FORMULA = "1 ~ latent(user, item, rank = 3)"
GIVEN = {"family": "implicit", "unobserved": 0.2, "penalty": 0.02}


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(5)
    user_group, item_group = rng.integers(0, 3, 120), rng.integers(0, 3, 40)
    user, item = np.nonzero(rng.random((120, 40)) < np.where(user_group[:, None] == item_group, 0.5, 0.05))
    names = np.array([f"u{u:03d}" for u in range(120)])
    return pl.DataFrame({"user": names[user], "item": item.astype(np.int32), "plays": rng.integers(1, 9, len(user))})


@pytest.fixture(scope="module")
def fit(pairs):
    return ranef.fit(FORMULA, pairs, **GIVEN)


def test_its_numbers(fit, pairs):
    assert (fit.family, fit.method, fit.link) == ("implicit", "map", "identity")
    assert (fit.rank, fit.unobserved, fit.penalty, fit.exponent) == (3, 0.2, 0.02, 1.0)
    assert fit.nobs == len(pairs)
    assert fit.converged
    assert fit.iterations == len(fit.history)
    assert fit.history[-1].objective >= fit.objective * (1 - 1e-6)
    assert len(fit.trials()) == 0
    assert fit.kept.all()


def test_predicts_the_products_of_its_vectors(fit, pairs):
    users, items = (fit.embedding(name) for name in ("user", "item"))
    assert users.columns == ["level", "1", "2", "3"]
    p = users.drop("level").to_numpy()[users["level"].search_sorted(pairs["user"])]
    q = items.drop("level").to_numpy()[items["level"].search_sorted(pairs["item"])]
    assert_allclose(fit.predict(pairs), (p * q).sum(1), rtol=1e-5, atol=1e-6)
    assert fit.predict(pairs).mean() > 0.3


def test_folding_in_a_user_of_the_fit_changes_nothing(fit, pairs):
    own = pairs.filter(pl.col("user") < "u040")
    assert_allclose(fit.fold_in(own).predict(pairs), fit.predict(pairs), atol=1e-5)


def test_folds_in_new_users_few_and_many_pairs(fit, pairs):
    new = pl.DataFrame(
        {"user": ["a"] * 2 + ["b"] * 12, "item": [3, 4, *range(12)]}, schema_overrides={"item": pl.Int32}
    )
    folded = fit.fold_in(new)
    q = fit.embedding("item").drop("level").to_numpy().astype(float)
    both = folded.embedding("user")
    for name, items in (("a", [3, 4]), ("b", list(range(12)))):
        seen = np.isin(np.arange(40), items)
        matrix = q.T @ ((0.2 + seen)[:, None] * q) + 0.02 * (len(items) + 0.2 * 40) * np.eye(3)
        vector = both.filter(pl.col("level") == name).drop("level").to_numpy()[0]
        assert_allclose(vector, np.linalg.solve(matrix, q.T @ (1.2 * seen)), rtol=1e-4, atol=1e-6)
    assert len(both) == 122
    assert_allclose(folded.predict(pairs), fit.predict(pairs), rtol=1e-6)


def test_fold_in_reads_confidences(pairs):
    fit = ranef.fit("plays ~ latent(user, item, rank = 2)", pairs, **GIVEN)
    assert_allclose(fit.fold_in(pairs).predict(pairs), fit.predict(pairs), atol=1e-5)
    again = ranef.fit("plays ~ latent(user, item, rank = 2)", pl.concat([pairs, pairs]), **{**GIVEN, "unobserved": 0.4})
    # twice the confidences and twice the unobserved weight is twice the objective
    assert_allclose(again.objective, 2 * fit.objective, rtol=1e-4)


def test_fold_in_counts_what_it_leaves_out(fit):
    rows = pl.DataFrame({"user": ["a", "a", None], "item": [3, 99, 4]})
    with pytest.warns(DroppedRowsWarning, match="2 rows left out"):
        folded = fit.fold_in(rows)
    assert folded.predict({"user": ["a"], "item": [3]})[0] > 0.1


def test_scores_for_evaluation_are_those_of_fold_in(fit, pairs):
    users = pairs["user"].unique().sort()
    seen = sparse.csr_array(
        (np.ones(len(pairs)), (users.search_sorted(pairs["user"]), pairs["item"].to_numpy())), shape=(len(users), 40)
    )
    scores = fit.scores(seen)
    rows = users.search_sorted(pairs["user"])
    assert_allclose(scores[rows, pairs["item"].to_numpy()], fit.predict(pairs), atol=1e-5)
    with pytest.raises(OptionError, match="seen has 39 columns but the model 40 items"):
        fit.scores(seen[:, :39])


def test_recommends_what_the_user_has_not(fit, pairs):
    found = fit.recommend(["u003", "u001"], k=4, exclude=pairs)
    assert found.columns == ["user", "rank", "item", "score", "known_user", "known_item"]
    assert found["user"].to_list() == ["u003"] * 4 + ["u001"] * 4
    for name in ("u003", "u001"):
        own = found.filter(pl.col("user") == name)
        has = set(pairs.filter(pl.col("user") == name)["item"])
        others = pl.DataFrame({"user": name, "item": [i for i in range(40) if i not in has]})
        best = np.sort(fit.predict(others))[::-1][:4]
        assert_allclose(own["score"], best, rtol=1e-5)
        assert not has & set(own["item"])
    assert len(fit.recommend(k=100)) == 120 * 40
    with pytest.raises(LevelError, match="'nobody' is not a 'user' of the fit; fold_in"):
        fit.recommend(["nobody"])


def test_unknown_and_missing_rows(fit):
    rows = pl.DataFrame({"user": ["u001", "x", None, "u002"], "item": [1, 2, 3, 77]})
    with pytest.warns(UnknownLevelWarning) as warned, pytest.warns(DroppedRowsWarning):
        scores = fit.predict(rows)
    assert_array_equal(np.isnan(scores), [False, False, True, False])
    assert_array_equal(scores[[1, 3]], 0)
    assert "1 row with a 'user' that was not seen in fitting, the first 'x', row 1" in str(warned[0].message)
    with pytest.raises(LevelError, match="'x'"):
        fit.predict(rows, new_levels="raise")


def test_saved_and_loaded(fit, pairs, tmp_path):
    fit.save(tmp_path / "model")
    loaded = ranef.load(tmp_path / "model")
    assert_array_equal(loaded.predict(pairs), fit.predict(pairs))
    assert str(loaded) == str(fit)
    assert loaded.history == fit.history
    assert_allclose(loaded.refit(pairs).predict(pairs), fit.predict(pairs))
    (tmp_path / "model" / "arrays.safetensors").write_bytes(b"x")
    with pytest.raises(ModelFileError, match="damaged"):
        ranef.load(tmp_path / "model")


def test_chooses_weights_and_rank(pairs, capsys):
    fit = ranef.fit('1 ~ latent(user, item, rank = "auto")', pairs, family="implicit", progress=True)
    trials = fit.trials()
    best = trials.sort("ndcg")[-1]
    assert fit.rank in trials["rank"]
    assert trials["ndcg"].max() >= best["ndcg"][0]
    assert f"among {len(trials)} settings on 24 validation users" in str(fit)
    error = capsys.readouterr().err
    assert error.count("validation: rank") == len(trials)
    assert error.count("sweep ") == fit.iterations
    again = fit.refit()
    assert (again.rank, again.unobserved, again.iterations) == (fit.rank, fit.unobserved, fit.iterations)
    assert again.objective == fit.objective
    assert len(again.trials()) == 0


def test_summary(fit):
    lines = str(fit).splitlines()
    assert lines[1] == f"Formula: {FORMULA}"
    assert lines[3].endswith("120 'user' x 40 'item', 20.042% observed")
    assert lines[5] == "rank 3, confidence 1, unobserved weight 0.2, penalty 0.02 x weight^1"
    assert repr(fit) == f"<ranef.Fit '{FORMULA}', implicit, rank 3, 962 pairs>"


def test_ctrl_c_keeps_the_last_sweep(pairs, monkeypatch):
    real = learning.minimise

    def interrupted(*arguments, **options):
        real(*arguments, **{**options, "sweeps": 2})
        raise KeyboardInterrupt

    monkeypatch.setattr(learning, "minimise", interrupted)
    with pytest.warns(ConvergenceWarning, match="still fell after 2 sweeps"):
        fit = ranef.fit(FORMULA, pairs, **GIVEN)
    assert fit.iterations == 2
    assert not fit.converged


def test_says_what_it_has_not(fit):
    for name in ("loglik", "deviance", "varcorr", "confint", "residuals", "sigma"):
        with pytest.raises(OptionError, match=f"no {name}: it is no likelihood"):
            getattr(fit, name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"link": "logit"}, "link= has no meaning for family='implicit'"),
        ({"weights": "plays"}, "weights= has no meaning"),
        ({"method": "vb"}, "method='vb' is not known for family='implicit'"),
        ({"unobserved": 0}, "unobserved=0: give a number above 0"),
        ({"penalty": -1.0}, "penalty=-1.0"),
        ({"exponent": "a"}, "exponent='a': give a number 0 or more"),
        ({"tolerance": 2}, "tolerance=2"),
        ({"max_iterations": 0}, "max_iterations=0"),
    ],
)
def test_wrong_options(pairs, options, message):
    with pytest.raises(OptionError, match=message):
        ranef.fit(FORMULA, pairs, **{**GIVEN, **options})


def test_its_options_belong_to_it():
    with pytest.raises(OptionError, match="penalty= belongs to family='implicit'"):
        ranef.fit("Reaction ~ Days + (1 | Subject)", ranef.data.sleepstudy(), penalty=1.0)


@pytest.mark.parametrize(
    ("formula", "family", "message"),
    [
        ("1 ~ latent(user, item, rank = 2) + (1 | user)", "implicit", "one latent.. and nothing beside it"),
        ("1 ~ latent(user + plays, item, rank = 2)", "implicit", "one column on either side"),
        ("1 ~ latent(user:plays, item, rank = 2)", "implicit", "takes columns as they are"),
        ("1 ~ fm(user, item, rank = 2)", "implicit", "one column on either side"),
        ("2 ~ latent(user, item, rank = 2)", "implicit", "names no column"),
        ("cbind(plays, plays) ~ latent(user, item, rank = 2)", "implicit", "a confidence is one column, or 1"),
    ],
)
def test_wrong_formulas(pairs, formula, family, message):
    with pytest.raises(FormulaError, match=message):
        ranef.fit(formula, pairs, **{**GIVEN, "family": family})


def test_wrong_data(pairs):
    with pytest.raises(OptionError, match="rank=99 is more than the data can tell apart: there are 120 users"):
        ranef.fit("1 ~ latent(user, item, rank = 99)", pairs, **GIVEN)
    negative = pairs.with_columns(plays=pl.col("plays") - 2)
    with pytest.raises(DataError, match=r"plays has .* that cannot be a confidence, the first in row"):
        ranef.fit("plays ~ latent(user, item, rank = 2)", negative, **GIVEN)
    with pytest.raises(OptionError, match="unobserved, penalty cannot be chosen: that takes 20 validation users"):
        ranef.fit(FORMULA, pairs.filter(pl.col("user") < "u050"), family="implicit")


def test_drops_missing_rows_and_zero_confidences(pairs):
    rows = pairs.with_columns(plays=pl.when(pl.int_range(pl.len()) < 7).then(0).otherwise(pl.col("plays")))
    rows = rows.with_columns(user=pl.when(pl.int_range(pl.len()) == 9).then(None).otherwise(pl.col("user")))
    with pytest.warns(DroppedRowsWarning, match="8 rows left out"):
        fit = ranef.fit("plays ~ latent(user, item, rank = 2)", rows, **GIVEN)
    assert (fit.dropped, fit.dropped_missing, fit.nobs) == (8, {"user": 1}, len(pairs) - 8)
    assert np.count_nonzero(fit.kept) == fit.nobs


def test_the_command_line(pairs, tmp_path, capsys):
    rows, model = str(tmp_path / "pairs.csv"), str(tmp_path / "model")
    pairs.write_csv(rows)
    options = ["--family", "implicit", "--unobserved", "0.2", "--penalty", "0.02", "--out", model, "--json"]
    assert main(["fit", FORMULA, rows, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["family"], found["groups"], found["rank"]) == ("implicit", {"user": 120, "item": 40}, 3)
    assert main(["show", model]) == 0
    assert FORMULA in capsys.readouterr().out
    assert main(["predict", model, rows]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(pairs) + 1


def test_is_no_mixed_model(fit):
    sleep = ranef.data.sleepstudy()
    for option in ("start", "covariance"):
        with pytest.raises(OptionError, match=f"{option}= was given a fit of implicit feedback"):
            ranef.fit("Reaction ~ Days + (1 | Subject)", sleep, **{option: fit})
    with pytest.raises(OptionError, match=r"no likelihood: ranef.evaluate"):
        ranef.anova(fit, fit)


def test_new_users_are_of_the_type_of_the_others(pairs):
    numbered = pairs.with_columns(user=pl.col("user").str.slice(1).cast(pl.Int32))
    fit = ranef.fit(FORMULA, numbered, **GIVEN)
    with pytest.raises(DataError, match="'user' has new values that are no int32, the type of the fit's"):
        fit.fold_in({"user": ["x"], "item": [3]})
    assert len(fit.fold_in({"user": [500], "item": [3]}).embedding("user")) == 121


def test_confidences_beyond_float32(pairs):
    huge = pairs.with_columns(plays=pl.col("plays") * 1e30)
    with pytest.raises(ranef.FitError, match="too large for float32"):
        ranef.fit("plays ~ latent(user, item, rank = 2)", huge, **GIVEN)
