"""New levels against dense solutions, refits with the rest held, and what a fit with them does."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import ranef
from ranef.errors import ConvergenceWarning, DataError, DroppedRowsWarning, LevelError, OptionError, UnknownLevelWarning

USERS, ITEMS, ROWS = 60, 30, 2400


def simulated(seed=0):
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS)
    p, q = rng.standard_normal((USERS, 2)), rng.standard_normal((ITEMS, 2))
    x = rng.standard_normal(ROWS)
    slope = 0.5 * rng.standard_normal(USERS)
    eta = 0.5 + 0.3 * x + slope[user] * x + 0.6 * rng.standard_normal(USERS)[user]
    eta += 0.5 * rng.standard_normal(ITEMS)[item] + 0.7 * np.sum(p[user] * q[item], axis=1)
    return {
        "y": eta + 0.6 * rng.standard_normal(ROWS),
        "click": (eta + rng.logistic(size=ROWS) > 0).astype(int),
        "count": rng.poisson(np.exp(0.4 * eta)),
        "grade": 1 + np.searchsorted([-0.5, 1.0], eta + rng.logistic(size=ROWS)),
        "x": x,
        "w": rng.uniform(0.5, 2.0, ROWS),
        "user": np.char.add("u", np.char.zfill(user.astype(str), 2)),
        "item": item,
    }


def take(table, rows):
    return {name: column[rows] for name, column in table.items()}


TABLE = simulated()
# the last users and items are those that a fit lacks
NEW_USER, NEW_ITEM = TABLE["user"] >= "u55", TABLE["item"] >= 27
TRAIN = take(TABLE, ~NEW_USER & ~NEW_ITEM)
USERS_ROWS = take(TABLE, NEW_USER & ~NEW_ITEM)


def fitted(formula, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ranef.fit(formula, TRAIN, **options)


def rest(fit, rows):
    """The linear predictor without new levels."""
    with pytest.warns(UnknownLevelWarning):
        return fit.predict(rows, type="link")


def dense_mode(z, prior, loss):
    """Mode of ``loss(z b) + b' prior^-1 b / 2`` and the inverse of its curvature: Newton's method, dense."""
    b = np.zeros(z.shape[1])
    inverse = np.linalg.inv(prior)
    for _ in range(60):
        score, weight = loss(z @ b)
        curvature = (z.T * weight) @ z + inverse
        b = b + np.linalg.solve(curvature, z.T @ score - inverse @ b)
    return b, np.linalg.inv(curvature)


def group_of(model, name):
    return model.groups[[spec.name for spec in model.spec.groups].index(name)]


FITS = {
    "gaussian": ("y ~ x + (1 + x | user) + (1 | item)", {"weights": "w"}, "y"),
    "bernoulli": ("click ~ x + (1 + x | user) + (1 | item)", {"family": "bernoulli"}, "click"),
    "poisson": ("count ~ x + offset(x) + (1 + x | user) + (1 | item)", {"family": "poisson"}, "count"),
    "ordinal": ("grade ~ x + (1 + x | user) + (1 | item)", {"family": "ordinal"}, "grade"),
}


@pytest.fixture(scope="module", params=FITS)
def case(request):
    formula, options, response = FITS[request.param]
    fit = fitted(formula, **options)
    return request.param, fit, fit.fold_in(USERS_ROWS), response


def test_a_new_level_is_the_dense_mode(case):
    name, fit, folded, response = case
    eta, model = rest(fit, USERS_ROWS), folded.model
    group = model.groups[0]
    assert group.levels.labels[-5:] == ("u55", "u56", "u57", "u58", "u59")
    # categories are coded from 0
    y = USERS_ROWS[response].astype(float) - (name == "ordinal")
    phi = np.array([2 * np.log(fit.sigma)]) if name == "gaussian" else model.phi
    weights = USERS_ROWS["w"] if name == "gaussian" else None
    for level, label in enumerate(group.levels.labels):
        rows = np.flatnonzero(USERS_ROWS["user"] == label)
        if not len(rows):
            continue

        def loss(moved, rows=rows):
            w = None if weights is None else weights[rows]
            return model.family.derivatives(y[rows], eta[rows] + moved, w, phi)[1:3]

        z = np.column_stack([np.ones(len(rows)), USERS_ROWS["x"][rows]])
        mode, covariance = dense_mode(z, group.covariance, loss)
        np.testing.assert_allclose(group.modes[level], mode, rtol=0, atol=1e-8)
        np.testing.assert_allclose(group.conditional[level], covariance, rtol=1e-7, atol=1e-10)
    # nothing else has moved
    np.testing.assert_array_equal(group.modes[:-5], fit.model.groups[0].modes)
    np.testing.assert_array_equal(model.groups[1].modes, fit.model.groups[1].modes)


def test_modes_follow_the_fixed_effects_and_thresholds_as_they_say(case):
    """Finite differences: the model with one parameter moved, and the other random effects following it."""
    _, fit, folded, _ = case
    from dataclasses import replace

    own, step = folded.model.groups[0], 1e-5

    def moved(model):
        return ranef.result.fit.Fit(model, fit._formula, "dict", options=fit._options).fold_in(USERS_ROWS).model

    groups = fit.model.groups
    for j in range(len(fit.model.beta)):
        by = []
        for side in (-1, 1):
            shifted = tuple(replace(one, modes=one.modes - side * step * one.sensitivity[:, :, j]) for one in groups)
            beta = fit.model.beta + side * step * np.eye(len(fit.model.beta))[j]
            by.append(moved(replace(fit.model, beta=beta, groups=shifted)).groups[0].modes[-5:])
        np.testing.assert_allclose((by[0] - by[1]) / (2 * step), own.sensitivity[-5:, :, j], rtol=0, atol=2e-6)
    if fit.model.thresholds is None:
        return
    found = folded.model.thresholds.moves[0][-5:]
    for j in range(len(fit.model.phi)):
        by = []
        for side in (-1, 1):
            moves = fit.model.thresholds.moves
            shifted = tuple(
                replace(g, modes=g.modes + side * step * m[:, :, j]) for g, m in zip(groups, moves, strict=True)
            )
            phi = fit.model.phi + side * step * np.eye(len(fit.model.phi))[j]
            by.append(moved(replace(fit.model, phi=phi, groups=shifted)).groups[0].modes[-5:])
        np.testing.assert_allclose((by[1] - by[0]) / (2 * step), found[:, :, j], rtol=0, atol=2e-6)


def test_predicts_with_intervals_and_saves(case, tmp_path):
    _, fit, folded, _ = case
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        link = folded.predict(USERS_ROWS, type="link")
        found = folded.predict(USERS_ROWS, interval="confidence")
    assert np.std(link - rest(fit, USERS_ROWS)) > 0.1
    folded.save(tmp_path / "model")
    again = ranef.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(USERS_ROWS, type="link"), link)
    both = again.predict(USERS_ROWS, interval="confidence")
    for name in found:
        np.testing.assert_array_equal(np.asarray(both[name]), found[name])
    # known levels as before
    np.testing.assert_array_equal(folded.predict(TRAIN, type="link"), fit.predict(TRAIN, type="link"))


def test_a_refit_with_the_rest_locked_is_the_same():
    fit = fitted("y ~ 0 + (1 + x | user) + (1 | item)")
    refit = ranef.fit(
        "y ~ 0 + (1 + x | user) + (1 | item)", USERS_ROWS, start=fit, lock="item", covariance=fit, max_iterations=50
    )
    own = group_of(fit.fold_in(USERS_ROWS).model, "user")
    np.testing.assert_allclose(own.modes[-5:], group_of(refit.model, "user").modes, rtol=0, atol=1e-8)
    np.testing.assert_allclose(own.conditional[-5:], group_of(refit.model, "user").conditional, rtol=1e-7, atol=1e-10)


def test_users_items_and_their_pairs_at_once():
    formula = "y ~ x + (1 | user) + (1 | item) + (1 | user:item)"
    fit = fitted(formula)
    rows = take(TABLE, NEW_USER | NEW_ITEM)
    folded = fit.fold_in(rows)
    model = folded.model
    names = [spec.name for spec in model.spec.groups]
    eta, z, prior = rest(fit, rows), [], []
    places = {}
    for name in ("user", "item", "user:item"):
        group = model.groups[names.index(name)]
        old = len(fit.model.groups[names.index(name)].levels)
        labels = rows["user"] if name == "user" else rows["item"].astype(str)
        if name == "user:item":
            labels = np.array([f"{u}:{i}" for u, i in zip(rows["user"], rows["item"], strict=True)])
        places[name] = range(sum(map(len, prior)), sum(map(len, prior)) + len(group.levels) - old)
        for label in group.levels.labels[old:]:
            z.append((labels == label).astype(float))
        prior.append(np.full(len(group.levels) - old, group.covariance[0, 0]))
    sigma2 = fit.sigma**2
    mode, _ = dense_mode(
        np.array(z).T,
        np.diag(np.concatenate(prior)),
        lambda m: ((rows["y"] - eta - m) / sigma2, np.full(len(m), 1 / sigma2)),
    )
    for name, place in places.items():
        g = names.index(name)
        old = len(fit.model.groups[g].levels)
        np.testing.assert_allclose(model.groups[g].modes[old:, 0], mode[list(place)], rtol=0, atol=1e-8)
    # pairs are found by their parts
    np.testing.assert_allclose(folded.predict(rows), eta + np.array(z).T @ mode, rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", ["vb", "map"])
def test_vectors_and_effects_of_a_new_user_are_one_block(method):
    fit = fitted("y ~ x + (1 | user) + (1 | item) + latent(user, item, rank=2)", method=method, max_iterations=30)
    folded = fit.fold_in(USERS_ROWS)
    model, sigma2 = folded.model, fit.sigma**2
    users, items = group_of(model, "user"), group_of(model, "item")
    of_user, of_item = model.latent[0].sides[0][0], model.latent[0].sides[1][0]
    eta = rest(fit, USERS_ROWS)
    prior = np.zeros((3, 3))
    prior[0, 0], prior[1:, 1:] = users.covariance[0, 0], of_user.covariance
    i, j = np.tril_indices(2)
    for label in ("u55", "u59"):
        rows = np.flatnonzero(USERS_ROWS["user"] == label)
        code = np.searchsorted(np.array(items.levels.labels).astype(int), USERS_ROWS["item"][rows])
        assert [items.levels.labels[c] for c in code] == [str(one) for one in USERS_ROWS["item"][rows]]
        h = np.column_stack([np.ones(len(rows)), of_item.vectors[code].astype(float)])
        inverse = np.linalg.inv(prior) + h.T @ h / sigma2
        if method == "vb":
            # the items' vectors are uncertain, too
            spread = np.zeros((2, 2))
            spread[i, j] = of_item.spread[code].astype(float).sum(axis=0)
            spread[j, i] = spread[i, j]
            inverse[1:, 1:] += spread / sigma2
        block = np.linalg.solve(inverse, h.T @ (USERS_ROWS["y"][rows] - eta[rows]) / sigma2)
        level = users.levels.labels.index(label)
        np.testing.assert_allclose(users.modes[level], block[:1], rtol=0, atol=1e-8)
        np.testing.assert_allclose(of_user.vectors[level], block[1:], rtol=0, atol=1e-5)
        covariance = np.linalg.inv(inverse)[1:, 1:]
        packed = np.diag(covariance) if method == "map" else covariance[i, j]
        np.testing.assert_allclose(of_user.spread[level], packed, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            folded.predict(take(USERS_ROWS, rows), type="link"), eta[rows] + h @ block, atol=1e-5
        )


def test_a_level_of_the_fit_is_found_where_the_fit_has_it():
    """A user of the fit under another name has the vectors that its sweeps ended with."""
    fit = fitted("y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank=2)", tolerance=1e-9, max_iterations=500)
    rows = take(TRAIN, TRAIN["user"] == "u03")
    folded = fit.fold_in({**rows, "user": np.full(len(rows["y"]), "again")})
    field = folded.model.latent[0].sides[0][0]
    old = field.levels.labels.index("u03")
    assert field.levels.labels[-1] == "again"
    np.testing.assert_allclose(field.vectors[-1], field.vectors[old], rtol=0, atol=2e-3)
    # beside effects whose variance was learned once more at the end
    np.testing.assert_allclose(field.spread[-1], field.spread[old], rtol=0.15)


def test_warnings_and_errors():
    fit = fitted("y ~ x + (1 | user)")
    rows = take(USERS_ROWS, np.arange(8))
    with pytest.warns(DroppedRowsWarning, match="2 rows left out"):
        fit.fold_in({**rows, "y": np.where(np.arange(8) < 2, np.nan, rows["y"])})
    known = {name: np.concatenate([rows[name], TRAIN[name][:5]]) for name in rows}
    with pytest.warns(DroppedRowsWarning, match="5 rows have no level that the fit lacks"):
        folded = fit.fold_in(known)
    np.testing.assert_array_equal(folded.model.groups[0].modes[:55], fit.model.groups[0].modes)
    with pytest.raises(OptionError, match="no column 'y'"):
        fit.fold_in({name: column for name, column in rows.items() if name != "y"})
    by_item = fitted("y ~ 1 + (1 | item)")
    with pytest.raises(DataError, match="type of the fit's"):
        by_item.fold_in({**rows, "item": np.array([f"new {i}" for i in range(8)])})
    with_job = ranef.fit("y ~ job + (1 | user)", {**TRAIN, "job": np.array(["a", "b"])[TRAIN["item"] % 2]})
    with pytest.raises(LevelError, match="'c'"):
        with_job.fold_in({**rows, "job": np.full(8, "c")})


def test_singular_covariances_stay_singular():
    table = {**TRAIN, "z": np.random.default_rng(1).standard_normal(len(TRAIN["y"]))}
    covariance = {"grp": ["user"], "var1": ["(Intercept)"], "var2": [None], "vcov": [0.0]}
    fit = ranef.fit("y ~ x + (1 | user) + (1 | item)", table, covariance=covariance)
    folded = fit.fold_in(USERS_ROWS)
    assert not group_of(folded.model, "user").modes[-5:].any()
    assert not group_of(folded.model, "user").conditional[-5:].any()


def test_a_bayesian_fit_has_a_draw_for_each_of_its_draws():
    formula = "y ~ x + (1 | user) + (1 | item) + latent(user, item, rank=2)"
    fit = fitted(formula, method="gibbs", chains=1, draws=40, warmup=20)
    folded = fit.fold_in(USERS_ROWS)
    model, sample = folded.model, folded.model.sample
    g = [spec.name for spec in model.spec.groups].index("user")
    of_user, of_item = model.latent[0].sides[0][0], model.latent[0].sides[1][0]
    level = model.groups[g].levels.labels.index("u57")
    rows = np.flatnonzero(USERS_ROWS["user"] == "u57")
    item = [of_item.levels.labels.index(str(one)) for one in USERS_ROWS["item"][rows]]
    modes, sds = [], []
    for draw in range(len(sample.kept)):
        h = np.column_stack([np.ones(len(rows)), of_item.draws.vectors[draw][item].astype(float)])
        eta = np.column_stack([np.ones(len(rows)), USERS_ROWS["x"][rows]]) @ sample.beta(2)[:, draw]
        eta += sample.effects[1 - g][item, 0, draw]
        variance = np.array([sample.covariances[g][0, 0, draw], *of_user.draws.variances[draw]])
        mean = np.array([0.0, *of_user.draws.means[draw]])
        sigma2 = np.exp(sample.phi[draw, 0])
        inverse = h.T @ h / sigma2 + np.diag(1 / variance)
        right = h.T @ (USERS_ROWS["y"][rows] - eta) / sigma2 + mean / variance
        modes.append(np.linalg.solve(inverse, right))
        sds.append(np.sqrt(np.diag(np.linalg.inv(inverse))))
    # means of effects are those of the modes; single draws are around these as far as they should be
    np.testing.assert_allclose(model.groups[g].modes[level, 0], np.mean(modes, axis=0)[0], rtol=0, atol=1e-8)
    drawn = np.column_stack([sample.effects[g][level, 0], of_user.draws.vectors[:, level].astype(float)])
    z = (drawn - modes) / sds
    assert np.all(np.abs(z.mean(axis=0)) < 3.5 / np.sqrt(len(z)))
    assert np.all((z.std(axis=0) > 0.65) & (z.std(axis=0) < 1.4))
    found = folded.predict(USERS_ROWS, interval="prediction")
    inside = (found["lwr"] <= USERS_ROWS["y"]) & (USERS_ROWS["y"] <= found["upr"])
    assert inside.mean() > 0.85
    assert np.sqrt(np.mean((found["fit"] - USERS_ROWS["y"]) ** 2)) < 0.8
    np.testing.assert_array_equal(fit.fold_in(USERS_ROWS).predict(USERS_ROWS), folded.predict(USERS_ROWS))


def test_recommends_to_new_users_without_what_they_have(tmp_path):
    fit = fitted("y ~ x + (1 | user) + (1 | item)")
    fit.save(tmp_path / "first", seen=True)
    some = USERS_ROWS["user"] == "u57"
    known = {f"{u}-{i}" for u, i in zip(USERS_ROWS["user"][some], USERS_ROWS["item"][some], strict=True)}
    for one in (fit, ranef.load(tmp_path / "first")):
        folded = one.fold_in(take(USERS_ROWS, some))
        folded.save(tmp_path / "second", seen=True)
        for later in (folded, ranef.load(tmp_path / "second")):
            found = later.recommend(["u57", "u03"], k=27, exclude="seen", context={"x": 0.0})
            rows = {name: np.asarray(found[name]) for name in ("user", "item", "score")}
            listed = {f"{u}-{i}" for u, i in zip(rows["user"], rows["item"], strict=True)}
            assert not listed & known
            assert len({one for one in listed if one.startswith("u57")} | known) == 27
            pairs = {"user": rows["user"], "item": rows["item"], "x": np.zeros(len(rows["user"]))}
            np.testing.assert_allclose(later.predict(pairs), rows["score"], rtol=0, atol=1e-10)
        counts = later.model.counts.groups[0]
        assert counts[-1] == some.sum()
        assert counts.sum() == len(TRAIN["y"]) + some.sum()


def test_histories_and_attributes_come_with_new_users():
    """SVD++: a user is also the sum of what they have rated; and of a column that says something of them."""
    formula = "y ~ 1 + (1 | user) + latent(user + job + bag(history(item, user)), item, rank=2)"
    names = np.unique(TRAIN["user"])
    jobs = {"user": names, "job": np.array(["a", "b"])[np.arange(len(names)) % 2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = ranef.fit(formula, TRAIN, tables={"user": jobs}, max_iterations=10, method="map")
    rows = take(USERS_ROWS, USERS_ROWS["user"] == "u57")
    new = {"user": np.array(["u57"]), "job": np.array(["b"])}
    with pytest.warns(UnknownLevelWarning):
        cold = fit.predict(rows, type="link", tables={"user": new})
    folded = fit.fold_in(rows, tables={"user": new})
    _, of_job, history = folded.model.latent[0].sides[0]
    items = folded.model.latent[0].sides[1][0]
    q = items.vectors[[items.levels.labels.index(str(one)) for one in rows["item"]]].astype(float)
    # without rows of the user there are intercept and attributes
    attribute = of_job.vectors[of_job.levels.labels.index("b")].astype(float)
    np.testing.assert_allclose(cold, fit.model.beta[0] + q @ attribute, rtol=0, atol=1e-6)
    met = [history.levels.labels.index(str(one)) for one in np.unique(rows["item"])]
    past = history.vectors[met].astype(float).sum(axis=0) / np.sqrt(len(met))
    prior = np.zeros((3, 3))
    prior[0, 0], prior[1:, 1:] = folded.model.groups[0].covariance[0, 0], folded.model.latent[0].sides[0][0].covariance
    h = np.column_stack([np.ones(len(q)), q])
    right = h.T @ (rows["y"] - cold - q @ past) / fit.sigma**2
    block = np.linalg.solve(np.linalg.inv(prior) + h.T @ h / fit.sigma**2, right)
    np.testing.assert_allclose(folded.predict(rows, type="link"), cold + q @ past + h @ block, rtol=0, atol=1e-5)
