"""Predictions of every family: golden values, definitions, intervals by simulation, and what is refused."""

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import special, stats

import ranef
from ranef.errors import OptionError
from ranef.table import open_source
from tests.golden_fits import GENERALIZED, table_of
from tests.golden_fits import fit_of as golden_fit
from tests.result.generalized import EXAMPLES, data_of, fit_of

NOT_GAUSSIAN = list(EXAMPLES)
NUMBERS = ["binomial", "poisson", "negative_binomial", "gamma"]
LAPLACE = [one for one in GENERALIZED if "Gauss-Hermite" not in one["method"]]


def columns(table):
    return table if isinstance(table, dict) else {name: table[name].to_numpy() for name in table.column_names}


@pytest.mark.parametrize("golden", LAPLACE, ids=lambda golden: golden["name"])
def test_golden_predictions(golden):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.SingularFitWarning)
        fit = golden_fit(golden, method="joint" if "nAGQ=0" in golden["method"] else "laplace")
    table = table_of(golden["data"]).take([one["row0"] for one in golden["predictions"]])
    for kind, options in (("conditional", {}), ("population", {"include": "fixed"})):
        expected = np.array([one[kind] for one in golden["predictions"]])
        found = fit.predict(table, **options)
        if expected.ndim == 2:
            found = np.column_stack(list(columns(found).values()))
        # the optimisers' own distance: a thousandth of a standard error of the modes
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("family", NOT_GAUSSIAN)
def test_types_by_their_definitions(family):
    fit, data = fit_of(family), data_of(family)
    eta = fit.predict(data, type="link")
    model = fit.model
    if family == "ordinal":
        tau = np.array([one.value for one in model.info.family_parameters])
        below = special.expit(np.concatenate([[-np.inf], tau, [np.inf]]) - eta[:, None])
        found = columns(fit.predict(data))
        assert list(found) == ["1", "2", "3", "4", "5"]
        np.testing.assert_allclose(np.column_stack(list(found.values())), np.diff(below), atol=1e-12)
        for name, values in columns(fit.predict(data, type="probabilities")).items():
            np.testing.assert_array_equal(values, found[name])
        likeliest = np.argmax(np.diff(below), axis=1)
        assert fit.predict(data, type="class").tolist() == [str(k + 1) for k in likeliest]
        return
    inverse = special.expit if family in ("bernoulli", "binomial") else np.exp
    np.testing.assert_allclose(fit.predict(data), inverse(eta), rtol=1e-13)
    if family == "bernoulli":
        found = columns(fit.predict(data, type="probabilities"))
        assert list(found) == ["n", "y"]
        np.testing.assert_allclose(found["y"], inverse(eta), rtol=1e-13)
        np.testing.assert_allclose(found["n"] + found["y"], 1.0, rtol=1e-13)
        assert (fit.predict(data, type="class") == np.where(eta > 0, "y", "n")).all()


@pytest.mark.parametrize("family", NOT_GAUSSIAN)
def test_a_loaded_model_says_the_same(family, tmp_path):
    fit, data = fit_of(family), data_of(family)
    fit.save(tmp_path / "model")
    again = ranef.load(tmp_path / "model")
    kinds = [{"type": "link", "interval": "confidence"}, {}]
    kinds += [{"interval": "prediction"}] if family in NUMBERS else [{"type": "class"}, {"type": "probabilities"}]
    for options in kinds:
        mine, its = fit.predict(data, **options), again.predict(data, **options)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, its)
        else:
            names = columns(mine)
            for name in names:
                np.testing.assert_array_equal(names[name], np.asarray(its[name]))
    np.testing.assert_allclose(again.fitted(data), fit.fitted(), rtol=1e-12)
    kind = "quantile" if family == "ordinal" else "scaled"
    np.testing.assert_allclose(again.residuals(kind, data=data), fit.residuals(kind), rtol=1e-12, atol=1e-12)
    mine, its = fit.simulate(seed=4), again.simulate(seed=4, data=data)
    assert list(columns(mine)["sim_1"]) == list(np.asarray(its["sim_1"]))


@pytest.mark.parametrize("family", ["bernoulli", *NUMBERS])
def test_confidence_limits_are_those_of_the_link(family):
    fit, data = fit_of(family), data_of(family)
    link = columns(fit.predict(data, type="link", interval="confidence", level=0.8))
    found = columns(fit.predict(data, interval="confidence", level=0.8))
    inverse = special.expit if family in ("bernoulli", "binomial") else np.exp
    for name, values in found.items():
        np.testing.assert_allclose(values, inverse(link[name]), rtol=1e-12)
    assert (found["lwr"] < found["fit"]).all()
    if family == "bernoulli":
        both = columns(fit.predict(data, type="probabilities", interval="confidence", level=0.8))
        for limit, other in (("lwr", "upr"), ("upr", "lwr")):
            np.testing.assert_allclose(both[f"{limit}_y"], found[limit], rtol=1e-12)
            np.testing.assert_allclose(both[f"{limit}_n"], 1 - found[other], rtol=1e-9)


def new_rows(family):
    """One row of the data and one of a level that the fit did not have."""
    data = data_of(family)
    table = data.slice(0, 2) if isinstance(data, pa.Table) else pa.table({k: v[:2] for k, v in data.items()})
    group = fit_of(family).model.spec.groups[0].columns[0]
    values = table[group].to_pylist()
    values[1] = "unseen" if isinstance(values[0], str) else 10_000
    return table.set_column(table.column_names.index(group), group, pa.array(values))


@pytest.mark.parametrize("family", NUMBERS)
def test_prediction_limits_hold_new_responses(family):
    """200,000 responses from the normal posterior of the predictor: their shares outside are the tails'.

    The quantile is the smallest value that reaches its probability; four standard errors of a share.
    """
    fit, rows = fit_of(family), new_rows(family)
    draws, rng = 200_000, np.random.default_rng(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.UnknownLevelWarning)
        limits = columns(fit.predict(rows, interval="prediction", level=0.9))
        link = columns(fit.predict(rows, type="link", interval="confidence", level=0.9))
    sd = (link["upr"] - link["lwr"]) / 2 / stats.norm.ppf(0.95)
    group = fit.model.groups[0]
    z = np.ones(1) if len(group.covariance) == 1 else np.array([1.0, rows["x"][1].as_py()])
    sd[1] = np.sqrt(sd[1] ** 2 + z @ group.covariance @ z)
    trials = np.array(rows["size"].to_numpy(), np.float64) if family == "binomial" else None
    for n in range(2):
        eta = link["fit"][n] + sd[n] * rng.standard_normal(draws)
        weights = None if trials is None else np.full(draws, trials[n])
        y = fit.model.family.simulate(rng, eta, weights, fit.model.phi)
        error = 4 * np.sqrt(0.05 * 0.95 / draws)
        for limit, tail in (("lwr", 0.05), ("upr", 0.95)):
            assert np.mean(y <= limits[limit][n] + 1e-12) >= tail - error
            assert np.mean(y < limits[limit][n] - 1e-12) <= tail + error


def test_trials_of_new_rows():
    """A column of proportions has its trials in the column of weights, and cbind() in its own columns."""
    data = data_of("binomial").to_pydict()
    size, incidence = np.array(data["size"], float), np.array(data["incidence"], float)
    table = {**{k: data[k] for k in ("herd", "period")}, "size": size, "p": incidence / size}
    fit = ranef.fit("p ~ period + (1 | herd)", table, family="binomial", weights="size")
    given = fit.predict(table, interval="prediction")
    both = columns(fit_of("binomial").predict(data_of("binomial"), interval="prediction"))
    for name, values in both.items():
        np.testing.assert_allclose(given[name], values, atol=1e-6)
    assert (np.abs(given["upr"] * size - np.rint(given["upr"] * size)) < 1e-9).all()
    with pytest.raises(OptionError, match="'incidence'"):
        fit_of("binomial").predict(data_of("binomial").drop_columns(["incidence"]), interval="prediction")


def test_missing_values_and_parts():
    data = data_of("bernoulli").slice(0, 4).to_pandas()
    data.loc[1, "week"] = np.nan
    fit = fit_of("bernoulli")
    with pytest.warns(ranef.DroppedRowsWarning):
        assert fit.predict(data, type="class")[1] is None
    with pytest.warns(ranef.DroppedRowsWarning):
        assert np.isnan(fit.predict(data)[1])
    with pytest.warns(ranef.DroppedRowsWarning):
        probabilities = fit.predict(data, type="probabilities", interval="confidence")
    assert isinstance(probabilities, pd.DataFrame)
    assert probabilities.isna().all(axis=1).tolist() == [False, True, False, False]
    whole = data_of("bernoulli")
    parts = [fit.predict(whole, type="link", include="fixed"), fit.predict(whole, type="link", exclude="fixed")]
    np.testing.assert_allclose(sum(parts), fit.predict(whole, type="link"), rtol=1e-12)


def test_offsets_of_new_rows():
    rng = np.random.default_rng(5)
    g, exposure = np.repeat(np.arange(20), 8), rng.uniform(1, 9, 160)
    y = rng.poisson(exposure * np.exp(0.4 * rng.standard_normal(20)[g]))
    data = {"y": y, "g": g, "e": exposure}
    fit = ranef.fit("y ~ 1 + offset(log(e)) + (1 | g)", data, family="poisson")
    twice = {**data, "e": 2 * exposure}
    np.testing.assert_allclose(fit.predict(twice), 2 * fit.predict(data), rtol=1e-12)


@pytest.mark.parametrize(
    ("response", "values", "categories"),
    [
        ("y", np.array([0, 1]), [0, 1]),
        ("y", np.array([False, True]), [0, 1]),
        ("y > 0", np.array([-1.5, 2.5]), [False, True]),
        ("y", pd.Categorical(["no", "yes"], categories=["yes", "no"]), ["yes", "no"]),
    ],
)
def test_categories_have_the_caller_s_type(response, values, categories):
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(12), 10)
    data = pd.DataFrame({"y": values[(rng.random(120) < 0.3 + 0.4 * (g % 2)).astype(int)], "g": g})
    fit = ranef.fit(f"{response} ~ 1 + (1 | g)", data, family="bernoulli")
    found = fit.predict(data, type="class")
    assert set(found.tolist()) == set(categories)
    names = {False: "FALSE", True: "TRUE"}
    probabilities = fit.predict(data, type="probabilities")
    assert list(probabilities) == [names[c] if c is False or c is True else str(c) for c in categories]
    assert (found == np.array(categories, found.dtype)[(fit.predict(data) > 0.5).astype(int)]).all()


@pytest.mark.filterwarnings("ignore::ranef.SingularFitWarning", "ignore::ranef.CategoryOrderWarning")
@pytest.mark.parametrize("values", [np.array([1, 2, 3]), np.array([0.5, 1.0, 1.5]), np.array(["a", "b", "c"])])
def test_ordered_categories_have_the_caller_s_type(values):
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(12), 10)
    data = {"y": values[rng.integers(0, 3, 120)], "g": g}
    fit = ranef.fit("y ~ 1 + (1 | g)", data, family="ordinal")
    assert set(fit.predict(data, type="class").tolist()) <= set(values.tolist())
    assert set(fit.simulate()["sim_1"].tolist()) == set(values.tolist())


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("poisson", {"type": "class"}, "use 'response' or 'link'"),
        ("binomial", {"type": "class"}, "several trials"),
        ("bernoulli", {"type": "terms"}, "'response', 'link', 'class' or 'probabilities'"),
        ("bernoulli", {"type": "class", "interval": "confidence"}, "no interval"),
        ("bernoulli", {"interval": "prediction"}, "0 or 1"),
        ("ordinal", {"interval": "prediction"}, "a category"),
        ("poisson", {"type": "link", "interval": "prediction"}, "not on the scale"),
    ],
)
def test_what_is_refused(family, options, message):
    with pytest.raises(OptionError, match=message):
        fit_of(family).predict(data_of(family), **options)


def test_gaussian_models_have_two_types():
    fit = ranef.fit("Reaction ~ Days + (1 | Subject)", ranef.data.sleepstudy())
    with pytest.raises(OptionError, match="family='gaussian': use 'response' or 'link'"):
        fit.predict(ranef.data.sleepstudy(), type="class")


def test_the_source_is_read_for_its_columns_only():
    source = open_source(data_of("ordinal").select(["temp", "contact", "judge"]))
    assert len(fit_of("ordinal").predict(source, type="link")) == 72


@pytest.mark.parametrize("family", ["poisson", "gamma"])
def test_coverage_of_intervals(family):
    """40 data sets: means of known levels, and new responses of known and new levels, in 90 % intervals.

    Four standard errors of the mean over data sets; intervals of counts hold more, as their limits are whole.
    """
    rng, levels = np.random.default_rng(1), 40
    member = getattr(ranef, family)()
    phi = np.array([-1.0]) if family == "gamma" else np.zeros(0)
    shares = []
    for _ in range(40):
        effects = 0.6 * rng.standard_normal(levels + 20)
        g, x = np.repeat(np.arange(levels), 8), rng.standard_normal(8 * levels)
        y = member.simulate(rng, 0.8 + 0.4 * x + effects[g], None, phi)
        fit = ranef.fit("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family=family)
        rows = {"x": rng.standard_normal(levels + 20), "g": np.arange(levels + 20)}
        eta = 0.8 + 0.4 * rows["x"] + effects
        new = member.simulate(rng, eta, None, phi)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ranef.UnknownLevelWarning)
            confidence, prediction = (
                fit.predict(rows, interval=kind, level=0.9) for kind in ("confidence", "prediction")
            )
        inside = (new >= prediction["lwr"]) & (new <= prediction["upr"])
        mean = (np.exp(eta) >= confidence["lwr"]) & (np.exp(eta) <= confidence["upr"])
        shares.append([mean[:levels].mean(), inside[:levels].mean(), inside[levels:].mean()])
    found, error = np.mean(shares, axis=0), np.std(shares, axis=0) / np.sqrt(len(shares))
    assert (found > 0.9 - 4 * error).all()
    assert found[0] < 0.9 + 4 * error[0]
    if family == "gamma":
        assert (found < 0.9 + 4 * error).all()
