"""method="gibbs" of latent() and fm(), from a formula to predictions, with known truth."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.errors import ConvergenceWarning, OptionError, UnknownLevelWarning

USERS, ITEMS, ROWS, RANK = 100, 60, 5000, 2
FORMULA = "y ~ 1 + (1 | user) + (1 | item) + latent(user + job, item + bag(genres), rank=3)"
FEW = {"method": "gibbs", "chains": 1, "draws": 10, "warmup": 5, "seed": 2}


def simulated(seed=0):
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS)
    p, q = 0.9 * rng.standard_normal((USERS, RANK)), 0.9 * rng.standard_normal((ITEMS, RANK))
    job = rng.standard_normal((3, RANK))
    eta = 3 + 0.5 * rng.standard_normal(USERS)[user] + 0.4 * rng.standard_normal(ITEMS)[item]
    eta += np.sum((p + job[np.arange(USERS) % 3])[user] * q[item], axis=1)
    return {
        "y": eta + 0.5 * rng.standard_normal(ROWS),
        "user": np.char.add("u", user.astype(str)),
        "item": item,
        "genres": np.array(["a", "a|b", "b|c", "c", "d|a"])[item % 5],
        "job": np.array(list("xyz"))[user % 3],
        "week": rng.integers(0, 8, ROWS),
    }, eta


def part(table, rows):
    return {name: column[rows] for name, column in table.items()}


@pytest.fixture(scope="module")
def data():
    return simulated()


@pytest.fixture(scope="module")
def fit(data):
    return ranef.fit(FORMULA, part(data[0], slice(-1000)), method="gibbs", chains=1, draws=150, warmup=100)


@pytest.fixture(scope="module")
def short(data):
    with pytest.warns(ConvergenceWarning, match="the largest R-hat is"):
        return ranef.fit(FORMULA, part(data[0], slice(-1000)), **FEW)


def test_recovers_what_generated_the_data(fit, data):
    table, eta = data
    error = fit.predict(part(table, slice(-1000, None))) - eta[-1000:]
    assert np.sqrt(np.mean(error**2)) < 0.22
    assert abs(fit.sigma - 0.5) < 0.03
    vcov = {row.grp: row.vcov for row in fit.model.varcorr}
    assert 0.12 < vcov["user"] < 0.45
    assert 0.06 < vcov["item"] < 0.4
    # the third component is next to nothing
    both = np.sqrt(np.prod([np.diag(side[0].covariance) for side in fit.model.latent[0].sides], axis=0))
    assert both[2] < 0.2 * both[1]


def test_intervals_hold_as_often_as_they_say(fit, data):
    table, eta = data
    test = part(table, slice(-1000, None))
    limits = fit.predict(test, interval="prediction")
    assert 0.93 < np.mean((limits["lwr"] <= test["y"]) & (test["y"] <= limits["upr"])) < 0.97
    limits = fit.predict(test, interval="confidence")
    assert 0.90 < np.mean((limits["lwr"] <= eta[-1000:]) & (eta[-1000:] <= limits["upr"])) < 0.98


def test_variational_limits_of_sigma_are_as_wide_as_the_posterior(fit, data):
    other = ranef.fit(FORMULA, part(data[0], slice(-1000)))
    draws, limits = fit.confint(parameters="sigma"), other.confint(parameters="sigma")
    one, two = (table["upper"][0] - table["lower"][0] for table in (draws, limits))
    assert 0.75 < two / one < 1.33
    assert limits["lower"][0] < other.sigma < limits["upper"][0]


def test_fitted_values_are_predictions_and_residuals_the_rest(short, data):
    train = part(data[0], slice(-1000))
    np.testing.assert_allclose(short.fitted(), short.predict(train), atol=1e-5)
    np.testing.assert_allclose(short.residuals(), train["y"] - short.fitted(), atol=1e-10)


def test_saved_and_loaded_it_predicts_the_same(short, data, tmp_path):
    test = part(data[0], slice(-20, None))
    short.save(tmp_path / "m")
    loaded = ranef.load(tmp_path / "m")
    assert np.array_equal(short.predict(test), loaded.predict(test))
    one, two = (f.predict(test, interval="prediction") for f in (short, loaded))
    assert np.array_equal(one["upr"], two["upr"])
    assert str(loaded.summary()) == str(short.summary())
    short.save(tmp_path / "small", posterior=False)
    with pytest.raises(OptionError, match="saved without the draws"):
        ranef.load(tmp_path / "small").predict(test)


def test_any_number_of_threads_gives_the_same_bits(short, data, monkeypatch):
    monkeypatch.setattr("ranef.solve.order.ROWS_A_PARTITION", 100)
    train = part(data[0], slice(-1000))
    with pytest.warns(ConvergenceWarning):
        one, three = (ranef.fit(FORMULA, train, threads=threads, **FEW) for threads in (1, 3))
    assert np.array_equal(one.model.sample.parameters, three.model.sample.parameters)
    draws = [f.model.latent[0].sides[1][1].draws.vectors for f in (one, three)]
    assert np.array_equal(*draws)


def test_chains_side_by_side_leave_the_same_bits(data, monkeypatch):
    """One after the other, two and then one, each with a thread, or for want of room one after the other."""
    train = part(data[0], slice(-1000))
    told, fits = [], []
    for threads, room in ((1, 2 << 30), (2, 2 << 30), (3, 2 << 30), (3, 1)):
        monkeypatch.setattr("ranef.learn.factor.chains.MOST_BYTES", room)
        monkeypatch.setattr("ranef.result.front.counter", lambda *_: lambda done, of: told.append((done, of)))
        with pytest.warns(ConvergenceWarning):
            fits.append(ranef.fit(FORMULA, train, threads=threads, **FEW | {"chains": 3}))
    assert told == [(done, 45) for _ in fits for done in range(1, 46)]
    for other in fits[1:]:
        assert np.array_equal(fits[0].model.sample.parameters, other.model.sample.parameters)
        for one, two in zip(fits[0].model.groups, other.model.groups, strict=True):
            assert np.array_equal(one.modes, two.modes)
            assert np.array_equal(one.conditional, two.conditional)
        draws = [f.model.latent[0].sides[1][1].draws.vectors for f in (fits[0], other)]
        assert np.array_equal(*draws)


def test_new_levels_have_the_mean_vector_and_wider_intervals(short, data):
    test = part(data[0], slice(-40, None))
    new = {**test, "user": np.array(["nobody"] * 40)}
    field = short.model.latent[0].sides[0][0]
    means = field.draws.means
    # beside what the job says, of all draws
    items = np.array([field_of(short, 1, test, d) for d in range(len(means))])
    jobs = np.array([field_of(short, 0, {**test, "user": None}, d) for d in range(len(means))])
    sample = short.model.sample
    effects = short.model.groups[[g.name for g in short.model.spec.groups].index("item")].levels.values.to_pylist()
    place = np.array([effects.index(one) for one in test["item"]])
    eta = sample.beta(1)[0][:, None] + sample.effects[1][place, 0, :].T
    eta = eta + np.sum((means[:, None, :] + jobs) * items, axis=2)
    known = short.predict(test, interval="prediction")
    with pytest.warns(UnknownLevelWarning):
        plain = short.predict(new)
    np.testing.assert_allclose(plain, eta.mean(axis=0), atol=1e-4)
    with pytest.warns(UnknownLevelWarning):
        other = short.predict(new, interval="prediction")
    assert np.mean(other["upr"] - other["lwr"]) > 1.2 * np.mean(known["upr"] - known["lwr"])


def field_of(fit, side, rows, draw):
    """A side's vectors in one draw, but for those of the users; written out."""
    out = 0.0
    for spec, field in zip(fit.model.spec.latent[0].sides[side], fit.model.latent[0].sides[side], strict=True):
        if spec.name == "user":
            continue
        levels = field.levels.values.to_pylist()
        vectors = field.draws.vectors[draw]
        if spec.kind == "bag":
            split = [text.split("|") for text in rows["genres"]]
            out = out + np.array(
                [vectors[[levels.index(g) for g in one]].sum(axis=0) / np.sqrt(len(one)) for one in split]
            )
        else:
            out = out + vectors[[levels.index(one) for one in rows[spec.columns[0]]]]
    return out


def test_few_draws_are_kept_where_they_are_large(data, monkeypatch):
    monkeypatch.setattr("ranef.learn.factor.chains.MOST_NUMBERS", 1)
    monkeypatch.setattr("ranef.learn.factor.chains.LEAST_KEPT", 4)
    with pytest.warns(ConvergenceWarning):
        fit = ranef.fit(FORMULA, data[0], **FEW | {"chains": 2})
    assert fit.model.sample.parameters.shape[:2] == (2, 10)
    assert list(fit.model.sample.kept) == [0, 6, 13, 19]
    assert fit.model.latent[0].sides[0][0].draws.vectors.shape == (4, USERS, 3)
    assert np.isfinite(fit.predict(part(data[0], slice(5)))).all()


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ 1 + (1 | user) + fm(user, item, job, rank=2)",
        "y ~ week + latent(user + bag(history(item)), item, rank=2)",
        "y ~ 1 + (1 | user) + (1 | bag(history(item, user))) + latent(user + bag(history(item, user)), item, rank=2)",
        "y ~ 1 + (1 | rw(week)) + latent(user, rw(week), rank=2) + latent(user, item, rank=1)",
    ],
)
def test_other_terms(data, formula):
    table = part(data[0], slice(1500))
    with pytest.warns(ConvergenceWarning):
        fit = ranef.fit(formula, table, **FEW)
    np.testing.assert_allclose(fit.fitted(), fit.predict(table), atol=1e-4)
    assert np.std(fit.residuals()) < np.std(table["y"])
    with pytest.warns(UnknownLevelWarning):
        assert np.isfinite(fit.predict({**part(table, slice(3)), "user": ["nobody"] * 3})).all()
    assert "sd_latent" in str(fit.summary()) or "sd_fm" in str(fit.summary())


def test_summary_and_intervals(short):
    text = str(short.summary())
    assert "Gibbs sampling, 1 chain of 10 draws after 5 of warm-up" in text
    assert "bag(genres)" in text
    assert list(short.confint()["parameter"]) == ["sd_(Intercept)|user", "sd_(Intercept)|item", "sigma", "(Intercept)"]
    assert "GIBBS" in repr(short)
    assert "sd_latent(user + job, item + bag(genres), rank = 3)" in short.draws()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": {"fixed": 2.0}}, "fixed effects have flat priors beside latent"),
        ({"tolerance": 1e-3}, "tolerance= has no use with method='gibbs'"),
        ({"family": "poisson"}, "is for gaussian, bernoulli .* not for family='poisson' with link='log'"),
        ({"validation": 0.1}, "validation= has no use with method='gibbs'"),
        ({"draws": 2}, "draws=2"),
    ],
)
def test_options_that_do_not_go_together(data, options, message):
    with pytest.raises(OptionError, match=message):
        ranef.fit(FORMULA, data[0], **{"method": "gibbs", **options})
