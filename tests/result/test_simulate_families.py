"""Simulated responses of every family: their distribution, their form, and that a fit takes them."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import ranef
from ranef.result.simulate import simulate
from tests.result.generalized import EXAMPLES, data_of, fit_of


@pytest.mark.parametrize("family", EXAMPLES)
def test_means_given_the_modes(family):
    """Over 2,000 draws, in standard errors of the mean; ordinal responses by the share of each category."""
    fit = fit_of(family)
    design, model = fit._design, fit.model
    draws = simulate(model, design, 2000, seed=6, conditional=True)
    if family == "ordinal":
        table = fit.predict(data_of(family))
        for code, name in enumerate(table.column_names):
            p = table[name].to_numpy()
            error = np.sqrt(p * (1 - p) / 2000)
            assert (np.abs((draws == code).mean(axis=1) - p) < 5 * error).all()
        return
    mu = fit.fitted()
    variance = model.family.variance(mu, model.phi)
    if family == "binomial":
        variance = variance / design.weights
    assert (np.abs(draws.mean(axis=1) - mu) < 5 * np.sqrt(variance / 2000) + 1e-12).all()
    ratio = draws.var(axis=1).sum() / variance.sum()
    assert ratio == pytest.approx(1.0, abs=0.1)


def test_new_random_effects_have_their_variance():
    fit = fit_of("poisson")
    draws = simulate(fit.model, fit._design, 4000, seed=1)
    sd2 = float(fit.model.groups[0].covariance[0, 0])
    fixed = np.exp(fit.predict(data_of("poisson"), type="link", include="fixed"))
    # mean of a log-normal Poisson; of its log-mean, in standard errors
    expected = fixed * np.exp(sd2 / 2)
    variance = expected + expected**2 * np.expm1(sd2)
    assert (np.abs(draws.mean(axis=1) - expected) < 5 * np.sqrt(variance / 4000)).all()


@pytest.mark.parametrize("family", EXAMPLES)
def test_a_fit_takes_them(family):
    data = data_of(family)
    frame = data.to_pandas() if hasattr(data, "to_pandas") else pd.DataFrame(data)
    _, formula, options = EXAMPLES[family]
    fit = ranef.fit(formula, frame, family=family, **options)
    drawn = fit.simulate(seed=3)["sim_1"]
    column = {"binomial": "incidence", "poisson": "y", "ordinal": "rating", "negative_binomial": "count"}.get(
        family, "y"
    )
    again = ranef.fit(
        formula, frame.assign(**{column: drawn.to_numpy() if family == "gamma" else drawn}), family=family
    )
    assert again.model.spec.response_levels == fit.model.spec.response_levels
    assert np.isfinite(again.deviance)
    assert again.deviance != pytest.approx(fit.deviance, abs=1e-3)


@pytest.mark.filterwarnings("ignore::ranef.SingularFitWarning")
@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_declared_categories_keep_their_order(library):
    rng = np.random.default_rng(1)
    labels = ["low", "mid", "high"]
    codes = rng.integers(0, 3, 120)
    if library is pd.DataFrame:
        y = pd.Categorical.from_codes(codes, labels, ordered=True)
    else:
        y = pl.Series([labels[code] for code in codes], dtype=pl.Enum(labels))
    data = library({"y": y, "g": np.repeat(np.arange(12), 10)})
    fit = ranef.fit("y ~ 1 + (1 | g)", data, family="ordinal")
    drawn = fit.simulate()
    table = drawn.assign(g=data["g"]) if library is pd.DataFrame else drawn.with_columns(data["g"])
    again = ranef.fit("sim_1 ~ 1 + (1 | g)", table, family="ordinal")
    assert again.model.spec.response_levels == ("low", "mid", "high")
