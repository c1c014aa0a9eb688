"""Intervals against the covariance matrix of all rows, formed whole."""

from dataclasses import dataclass
from importlib import import_module
from statistics import NormalDist

import numpy as np
import pytest

from ranef.data import load as data
from ranef.design.build import build_design
from ranef.engine.threads import engine
from ranef.formula import parse
from ranef.learn.gaussian import fit_gaussian
from ranef.score import predict
from ranef.table import open_source


@dataclass(frozen=True)
class Case:
    """A model with its columns spelled out, and rows to predict: seen, new combinations of seen levels, new levels."""

    formula: str
    table: str
    fixed: tuple[str, ...]
    groups: dict[tuple[str, ...], tuple[str, ...]]


NEW = {
    "sleepstudy": {"Days": [0.0, 3.0, 9.0, 20.0, 4.0], "Subject": ["308", "372", "330", "308", "new"]},
    "penicillin": {"plate": ["a", "x", "a", "zz", "b", "zz"], "sample": ["A", "F", "none", "B", "none", "none"]},
    "pastes": {
        "batch": ["A", "J", "B", "K", "A", "K", "B", "K"],
        "cask": ["a", "c", "z", "a", "b", "z", "c", "b"],
        # of its own batch, of another batch, new
        "sample": ["A:a", "J:c", "A:a", "A:b", "none", "none", "J:b", "I:a"],
        "third": ["t0", "t2", "t0", "t1", "t9", "t9", "t1", "t9"],
        "hand": ["h0", "h1", "h2", "h3", "h0", "h9", "h1", "h2"],
        "x": [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0],
    },
}
CASES = {
    "slopes": Case("Reaction ~ Days + (Days | Subject)", "sleepstudy", ("1", "Days"), {("Subject",): ("1", "Days")}),
    "two terms on a factor": Case(
        "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)",
        "sleepstudy",
        ("1", "Days"),
        {("Subject",): ("1", "Days")},
    ),
    "no fixed part": Case("diameter ~ 0 + (1 | plate)", "penicillin", (), {("plate",): ("1",)}),
    "crossed": Case(
        "diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", ("1",), {("plate",): ("1",), ("sample",): ("1",)}
    ),
    "nested": Case(
        "strength ~ 1 + (1 | batch/cask)", "pastes", ("1",), {("batch",): ("1",), ("batch", "cask"): ("1",)}
    ),
    "nested by the codes": Case(
        "strength ~ 1 + (1 | batch) + (1 | sample)", "pastes", ("1",), {("batch",): ("1",), ("sample",): ("1",)}
    ),
    "three deep, and crossed": Case(
        "strength ~ x + (1 | batch) + (1 | sample) + (1 | third) + (1 | hand)",
        "pastes",
        ("1", "x"),
        {("batch",): ("1",), ("sample",): ("1",), ("third",): ("1",), ("hand",): ("1",)},
    ),
    "slopes, nested and crossed": Case(
        "strength ~ x + (x | batch) + (1 | sample) + (0 + x | hand)",
        "pastes",
        ("1", "x"),
        {("batch",): ("1", "x"), ("sample",): ("1",), ("hand",): ("x",)},
    ),
}


def table_of(name):
    """An example as a dict of columns; pastes with a factor above, one across, a covariate and effects of all."""
    table = data(name).to_pydict()
    if name == "pastes":
        rng = np.random.default_rng(5)
        batch = np.array([ord(one) - ord("A") for one in table["batch"]])
        hand = rng.integers(0, 4, 60)
        x = rng.normal(size=60)
        slopes = rng.normal(size=(10, 2)) @ np.array([[2.0, 1.0], [0.0, 1.0]])
        effects = slopes[batch, 0] + (slopes[batch, 1] + rng.normal(size=4)[hand]) * x + 2 * rng.normal(size=4)[hand]
        table |= {"third": [f"t{b // 4}" for b in batch], "hand": [f"h{h}" for h in hand], "x": x}
        table["strength"] = np.array(table["strength"]) + effects + 3 * rng.normal(size=3)[batch // 4]
    return table


def fit(formula, table, method="reml", weights=None, **options):
    with engine(1) as pool:
        design = build_design(parse(formula), open_source(table), weights=weights)
        return fit_gaussian(design, method, pool, **options)


def columns(table, names, rows):
    return np.column_stack([np.zeros((rows, 0)), *(np.ones(rows) if n == "1" else np.asarray(table[n]) for n in names)])


def dense_variance(model, case, table, new, kind, parts=None, weights=None):
    """Variance of the prediction of ``new`` rows: best linear unbiased prediction from all rows' covariance matrix."""
    n, m = (len(next(iter(rows.values()))) for rows in (table, new))
    s2 = model.info.sigma**2
    v = np.diag(s2 / (np.ones(n) if weights is None else weights))
    cross, own = np.zeros((m, n)), np.zeros((m, m))
    for group, names in case.groups.items():
        place = next(i for i, spec in enumerate(model.spec.groups) if set(spec.columns) == set(group))
        keys, new_keys = (list(zip(*(rows[name] for name in group), strict=True)) for rows in (table, new))
        levels = {key: number for number, key in enumerate(dict.fromkeys([*keys, *new_keys]))}
        sigma = np.kron(np.eye(len(levels)), model.groups[place].covariance)
        k = len(names)
        z, z_new = np.zeros((n, len(sigma))), np.zeros((m, len(sigma)))
        for rows, all_keys, target in ((table, keys, z), (new, new_keys, z_new)):
            values = columns(rows, names, len(target))
            for row, key in enumerate(all_keys):
                if rows is table or kind == "prediction" or key in keys:
                    target[row, levels[key] * k : (levels[key] + 1) * k] = values[row]
        v += z @ sigma @ z.T
        if parts is None or ":".join(model.spec.groups[place].columns) in parts:
            cross += z_new @ sigma @ z.T
            own += z_new @ sigma @ z_new.T
    x, x_new = columns(table, case.fixed, n), columns(new, case.fixed, m)
    if parts is not None and "fixed" not in parts:
        x_new = np.zeros_like(x_new)
    inverse = np.linalg.inv(v)
    left = x_new - cross @ inverse @ x
    variance = own - cross @ inverse @ cross.T + left @ np.linalg.inv(x.T @ inverse @ x) @ left.T
    return np.diag(variance) + (s2 if kind == "prediction" else 0)


def variance_of(found, level):
    half = (found.upper - found.lower) / 2
    np.testing.assert_allclose(found.upper - half, found.fit, rtol=1e-12)
    return (half / NormalDist().inv_cdf((1 + level) / 2)) ** 2


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("name", CASES)
def test_seen_and_new_rows(name, method):
    case = CASES[name]
    table, new = table_of(case.table), NEW[case.table]
    model = fit(case.formula, table, method)
    for kind in ("confidence", "prediction"):
        for rows in (table, new):
            found = predict(model, open_source(rows), interval=kind, level=0.9)
            expected = dense_variance(model, case, table, rows, kind)
            np.testing.assert_allclose(variance_of(found, 0.9), expected, rtol=1e-7)


def test_cases_reach_every_path():
    """Chains of two and three stages, a dense part beside them, slopes in a chain."""
    shapes = {}
    for name, case in CASES.items():
        posterior = fit(case.formula, table_of(case.table)).posterior
        shapes[name] = (len(posterior.stages), len(posterior.kept))
    assert shapes["crossed"] == (1, 1)
    assert shapes["nested"] == (2, 0)
    assert shapes["three deep, and crossed"] == (3, 1)
    assert shapes["slopes, nested and crossed"] == (2, 1)


@pytest.mark.parametrize("parts", [["fixed"], ["batch"], ["fixed", "sample"], ["batch", "hand"]])
def test_parts_left_out_add_no_variance(parts):
    case = CASES["slopes, nested and crossed"]
    table, new = table_of(case.table), NEW[case.table]
    model = fit(case.formula, table)
    for kind in ("confidence", "prediction"):
        found = predict(model, open_source(new), interval=kind, include=parts)
        np.testing.assert_allclose(
            variance_of(found, 0.95), dense_variance(model, case, table, new, kind, parts), rtol=1e-7
        )


def test_weights_of_the_fit():
    case = CASES["slopes"]
    table, new = table_of(case.table), NEW[case.table]
    weights = np.random.default_rng(2).uniform(0.5, 4, 180)
    model = fit(case.formula, table, weights=weights)
    found = predict(model, open_source(new), interval="prediction")
    expected = dense_variance(model, case, table, new, "prediction", weights=weights)
    np.testing.assert_allclose(variance_of(found, 0.95), expected, rtol=1e-7)


def test_a_variance_of_zero():
    model = fit("Yield ~ 1 + (1 | Batch)", data("dyestuff2"))
    assert model.info.singular
    found = predict(model, open_source({"Batch": ["A", "new"]}), interval="confidence")
    np.testing.assert_allclose(variance_of(found, 0.95), model.vcov[0, 0], rtol=1e-6)


def test_batches_do_not_matter(monkeypatch):
    case = CASES["three deep, and crossed"]
    table = table_of(case.table)
    model = fit(case.formula, table)
    whole = predict(model, open_source(table), interval="prediction")
    monkeypatch.setattr(import_module("ranef.score.predict"), "MOST_ROWS", 7)
    monkeypatch.setattr(import_module("ranef.score.variance"), "NUMBERS_AT_ONCE", 30)
    small = predict(model, open_source(table), interval="prediction")
    np.testing.assert_allclose(small.lower, whole.lower, rtol=1e-12)
    np.testing.assert_allclose(small.upper, whole.upper, rtol=1e-12)


def test_sigma_alone_is_left_without_coefficients():
    model = fit("Reaction ~ Days + (1 | Subject)", data("sleepstudy"))
    found = predict(model, open_source(data("sleepstudy")), interval="prediction", include=[])
    np.testing.assert_allclose(variance_of(found, 0.95), model.info.sigma**2)


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("name", ["crossed", "three deep, and crossed", "slopes, nested and crossed"])
def test_by_draws(name, method):
    """Without bias whatever levels meet, and far closer than 32 draws alone: these are off by a quarter."""
    case = CASES[name]
    table, new = table_of(case.table), NEW[case.table]
    ratios = {"seen": [], "new": []}
    for seed in range(15):
        model = fit(case.formula, table, method, solver="stochastic", probes=32, seed=seed)
        for what, rows in (("seen", table), ("new", new)):
            found = predict(model, open_source(rows), interval="confidence")
            ratios[what].append(variance_of(found, 0.95) / dense_variance(model, case, table, rows, "confidence"))
    for what, median in (("seen", 0.07), ("new", 0.2)):
        spread = np.std(ratios[what], axis=0, ddof=1)
        assert np.median(spread) < median
        # Student's t with 14 degrees of freedom, some hundred rows
        assert np.all(np.abs(np.mean(ratios[what], axis=0) - 1) < 5 * spread / np.sqrt(15) + 1e-6)


def test_fixed_effects_alone_are_exact_by_draws():
    case = CASES["slopes, nested and crossed"]
    table, new = table_of(case.table), NEW[case.table]
    model = fit(case.formula, table, solver="stochastic")
    for rows, parts in ((table, ["fixed"]), ({name: values[5:6] for name, values in new.items()}, None)):
        found = predict(model, open_source(rows), interval="confidence", include=parts)
        expected = dense_variance(model, case, table, rows, "confidence", parts)
        np.testing.assert_allclose(variance_of(found, 0.95), expected, rtol=1e-5)
